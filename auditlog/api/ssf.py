"""Edges of the transmitter: `/ssf/*` and `/.well-known/ssf-configuration` (OpenID SSF 1.0)."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.http import HttpRequest, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import get_authorization_header
from rest_framework.exceptions import ParseError, Throttled
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from auditlog.core.errors import ConfigurationError, NotFound, NotPermitted
from auditlog.database import clock
from auditlog.models import Receiver, Tenant
from auditlog.reads.access import BearerToken, Viewer, must_hold
from auditlog.response import receivers, transmitter
from auditlog.response.stop import verify


def ssf_configuration(request: HttpRequest) -> JsonResponse:
    return JsonResponse(transmitter.configuration())


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever holds the token of one receiver."""

    receiver: Receiver
    is_authenticated = True  # what Django asks of a user

    @property
    def tenant(self) -> Tenant:
        return self.receiver.tenant


class ReceiverToken(BearerToken):
    """The token of one receiver, or of an administrator of the tenant."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        scheme, _, token = get_authorization_header(request).partition(b" ")
        if scheme.lower() == b"bearer" and (receiver := receivers.receiver_by_token(token.strip().decode("latin-1"))):
            must_hold(receiver.tenant, ("receiver", receiver.pk))
            return Caller(receiver), receiver
        return super().authenticate(request)


class MaySignal(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        user = request.user
        if isinstance(user, Caller):
            # For whoever keeps the security log. The role is none: it may nothing that a role allows.
            request._request.viewer = Viewer(user.tenant, "", f"receiver {user.receiver.name}")
            return True
        if isinstance(user, Viewer):
            user.must("configure")
            return True
        return False


@extend_schema(exclude=True)
class _Edge(APIView):
    authentication_classes = [ReceiverToken]
    permission_classes = [MaySignal]

    def said(self) -> dict[str, Any]:
        if not isinstance(self.request.data, dict):
            raise ParseError("expected a JSON object")
        return self.request.data

    @property
    def tenant(self) -> Tenant:
        return self.request.user.tenant

    def own(self) -> Receiver | None:
        return self.request.user.receiver if isinstance(self.request.user, Caller) else None

    def stream(self, stream_id: Any) -> Receiver:
        return transmitter.stream_of(self.tenant, stream_id, own=self.own())


class Streams(_Edge):
    def get(self, request: Request) -> Response:
        if (stream_id := request.query_params.get("stream_id")) is not None:
            return Response(transmitter.stream_json(self.stream(stream_id)))
        streams = Receiver.objects.filter(tenant=self.tenant, kind__in=transmitter.METHODS.values()).order_by("id")
        mine = streams if (own := self.own()) is None else [own]
        return Response([transmitter.stream_json(one) for one in mine])

    def post(self, request: Request) -> Response:
        if self.own() is not None:
            raise NotPermitted(
                "the token of a receiver is for its own stream: another one is made by an administrator's"
            )
        receiver, token = transmitter.create_stream(
            self.tenant, self.said(), made_by=request.user.name, now=clock.now()
        )
        # Beyond the specification: the token under which this stream alone is polled and moved. It is told once.
        return Response(transmitter.stream_json(receiver) | {"answerable_token": token}, status=201)

    def patch(self, request: Request) -> Response:
        return self._changed(replaces=False)

    def put(self, request: Request) -> Response:
        return self._changed(replaces=True)

    def _changed(self, *, replaces: bool) -> Response:
        said = self.said()
        changed = transmitter.change_stream(
            self.stream(said.get("stream_id")), said, replaces=replaces, now=clock.now()
        )
        return Response(transmitter.stream_json(changed))

    def delete(self, request: Request) -> Response:
        receivers.remove(self.stream(request.query_params.get("stream_id")), now=clock.now())
        return Response(status=204)


class Status(_Edge):
    def get(self, request: Request) -> Response:
        return Response(_status(self.stream(request.query_params.get("stream_id"))))

    def post(self, request: Request) -> Response:
        said = self.said()
        return Response(
            _status(transmitter.set_status(self.stream(said.get("stream_id")), said.get("status"), now=clock.now()))
        )


def _status(receiver: Receiver) -> dict[str, str]:
    return {"stream_id": str(receiver.stream), "status": receiver.state}


class Verify(_Edge):
    def post(self, request: Request) -> Response:
        said, now = self.said(), clock.now()
        receiver, state = self.stream(said.get("stream_id")), said.get("state")
        if state is not None and not (isinstance(state, str) and len(state) <= transmitter.LONGEST):
            raise ConfigurationError(f"state: expected text of at most {transmitter.LONGEST} characters")
        if receiver.verified_at and timedelta() <= now - receiver.verified_at < timedelta(seconds=transmitter.INTERVAL):
            raise Throttled(wait=transmitter.INTERVAL)
        verify(receiver, state=state, now=now)
        return Response(status=204)


class Poll(_Edge):
    def post(self, request: Request) -> Response:
        stream_id = request.query_params.get("stream_id")
        receiver = self.stream(stream_id) if stream_id else self._only()
        if receiver.kind != Receiver.Kind.POLL:
            raise NotFound("this stream is pushed, and not polled")
        return Response(transmitter.poll(receiver, self.said() if request.data else {}, now=clock.now()))

    def _only(self) -> Receiver:
        """The caller's own stream; of an administrator the tenant's, where there is just one that is polled."""
        mine = (
            [self.own()]
            if self.own()
            else list(Receiver.objects.filter(tenant=self.tenant, kind=Receiver.Kind.POLL)[:2])
        )
        if len(mine) != 1 or mine[0] is None:
            raise NotFound("stream_id: say which stream is polled")
        return mine[0]
