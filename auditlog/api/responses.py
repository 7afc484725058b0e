"""Stops in the words of the public interface, `/api/v1/responses`: as `/api/v1/stops`, with a row a receiver."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from auditlog.api import shapes
from auditlog.api.filters import before_number
from auditlog.core.wire.signal import KINDS
from auditlog.database import clock
from auditlog.models import Signal, Stop
from auditlog.reads.access import STOP, WHOLE, Viewer
from auditlog.response.reach import became, reach_of, subject_of, was_effective
from auditlog.response.stop import press, stop_of

PAGE = 50
# A signal's states as the interface has them: what waits is sent from our side, and what was given up has failed.
_STATES = {
    Signal.State.WAITING: "sent",
    Signal.State.SENT: "sent",
    Signal.State.ACCEPTED: "accepted",
    Signal.State.FAILED: "failed",
    Signal.State.DEAD: "failed",
    Signal.State.CANCELLED: "failed",
}


class StopAskedSerializer(serializers.Serializer):
    stop = serializers.DictField(
        help_text="One of grant, token, party, session: its id; of a party `iss|sub` or {iss, sub}."
    )
    reason = serializers.CharField(max_length=2_000)
    dry_run = serializers.BooleanField(default=False, help_text="Says who would be told; nothing is sent or kept.")

    def validate_stop(self, given: dict[str, Any]) -> tuple[str, str]:
        if len(given) != 1 or (kind := next(iter(given))) not in KINDS:
            raise serializers.ValidationError(
                f"expected one of {', '.join(KINDS)}, found {', '.join(map(str, given)) or 'none'}"
            )
        key = given[kind]
        if kind == "party" and isinstance(key, dict):
            if not all(isinstance(key.get(name), str) and key[name] for name in ("iss", "sub")) or "|" in key["iss"]:
                raise serializers.ValidationError("expected a party as {iss, sub}")
            key = f"{key['iss']}|{key['sub']}"
        if not isinstance(key, str) or not 0 < len(key) <= 700:
            raise serializers.ValidationError(f"expected the id of a {kind}, at most 700 characters")
        return kind, key


class Responses(APIView):
    @extend_schema(
        operation_id="responses_list",
        responses=shapes.RESPONSES,
        parameters=[
            OpenApiParameter("state", str, enum=Stop.State.values, description="Stops in force, or lifted."),
            OpenApiParameter("before", int, description="Stops before this number."),
        ],
    )
    def get(self, request: Request) -> Response:
        request.viewer.must(WHOLE)
        found = Stop.objects.filter(tenant=request.viewer.tenant).order_by("-number")
        if state := request.query_params.get("state", ""):
            if state not in Stop.State.values:
                raise ParseError(f"state: expected one of {', '.join(Stop.State.values)}, found {state[:40]!r}")
            found = found.filter(state=state)
        rows, following = before_number(request, found, PAGE)
        return Response({"results": [_response(request.viewer, stop) for stop in rows], "next": following})

    @extend_schema(request=StopAskedSerializer, responses={201: shapes.RESPONSE, 200: shapes.RESPONSE})
    def post(self, request: Request) -> Response:
        viewer = request.viewer
        viewer.must(STOP)
        given = StopAskedSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        (kind, key), said = given.validated_data["stop"], given.validated_data
        now = clock.now()
        if said["dry_run"]:
            reach = reach_of(viewer, subject_of(viewer, kind, key), now=now)
            return Response(
                {
                    "id": None,
                    "kind": "stop",
                    "target": {kind: key},
                    "state": "dry_run",
                    "drill": False,
                    "reason": said["reason"],
                    "at": now,
                    "receivers": [
                        {"name": one.name, "state": None, "at": None, "answer": None} for one in reach.receivers
                    ],
                    "without_channel": len(reach.without_channel),
                    "escaped": None,
                }
            )
        stop = press(viewer, kind, key, reason=said["reason"], now=now, address=request.META.get("REMOTE_ADDR", ""))
        return Response(_response(viewer, stop), status=201)


class ResponseDetail(APIView):
    @extend_schema(responses=shapes.RESPONSE)
    def get(self, request: Request, ref: str) -> Response:
        return Response(_response(request.viewer, stop_of(request.viewer, ref)))


def _response(viewer: Viewer, stop: Stop) -> dict[str, Any]:
    after = None if stop.is_drill else became(viewer, stop)
    return {
        "id": stop.ref,
        "kind": "stop",
        "target": {stop.kind: stop.key},
        "state": stop.state,
        "drill": stop.is_drill,
        "reason": stop.reason,
        "at": stop.at,
        "receivers": [
            _told(signal, after and was_effective(signal, after.effective))
            for signal in Signal.objects.filter(stop=stop).select_related("receiver").order_by("id")
        ],
        "without_channel": None,
        "escaped": after
        and {
            "events": after.escaped,
            "money": [{"currency": currency, "amount_minor": amount} for currency, amount in after.spent],
        },
    }


def _told(signal: Signal, effective: Any) -> dict[str, Any]:
    """Effective where the record shows it: a refusal or a revocation was seen."""
    return {
        "name": signal.receiver.name,
        "state": "effective" if effective else _STATES[Signal.State(signal.state)],
        "at": effective or signal.accepted_at or signal.sent_at or signal.created_at,
        "answer": signal.error or None,
    }
