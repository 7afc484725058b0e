"""Edges of the response: stops and what a stop would reach, under /api/v1/."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from auditlog.api import shapes
from auditlog.api.filters import before_number
from auditlog.core.errors import NotFound
from auditlog.core.party import split_party
from auditlog.core.wire.signal import KINDS
from auditlog.database import clock
from auditlog.models import Finding, Signal, Stop
from auditlog.reads.access import STOP, WHOLE, Viewer
from auditlog.reads.sight import visible_findings
from auditlog.response.reach import Line, became, reach_of, subject_of, was_effective
from auditlog.response.stop import lift, press, stop_of

PAGE = 50


class StopSerializer(serializers.Serializer):
    kind = serializers.ChoiceField(choices=KINDS)
    key = serializers.CharField(max_length=700, help_text="Of a party `iss|sub`; of a grant, token or session its id.")
    reason = serializers.CharField(max_length=2_000)
    drill = serializers.BooleanField(default=False, help_text="Receivers are sent a test each, and nobody is stopped.")
    finding = serializers.IntegerField(required=False, help_text="The finding that it is about.")


class LiftSerializer(serializers.Serializer):
    reason = serializers.CharField(max_length=2_000, required=False, default="")


_KIND = OpenApiParameter("kind", str, required=True, enum=KINDS)
_KEY = OpenApiParameter("key", str, required=True)


class Stops(APIView):
    @extend_schema(
        operation_id="stops_list",
        responses=shapes.STOPS,
        parameters=[OpenApiParameter("before", int, description="Stops before this number.")],
    )
    def get(self, request: Request) -> Response:
        request.viewer.must(WHOLE)
        rows, following = before_number(
            request, Stop.objects.filter(tenant=request.viewer.tenant).order_by("-number"), PAGE
        )
        return Response({"results": [_stop(one) for one in rows], "next": following})

    @extend_schema(request=StopSerializer, responses={201: shapes.STOP})
    def post(self, request: Request) -> Response:
        request.viewer.must(STOP)
        given = StopSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        said, finding = given.validated_data, None
        if said.get("finding") is not None:
            finding = visible_findings(request.viewer).filter(pk=said["finding"]).first()
            if finding is None:
                raise NotFound(f"no finding {said['finding']}")
        stop = press(
            request.viewer, said["kind"], said["key"], reason=said["reason"], is_drill=said["drill"], finding=finding, now=clock.now(),
            address=request.META.get("REMOTE_ADDR", ""),
        )  # fmt: skip
        return Response(whole(request.viewer, stop), status=201)


class StopDetail(APIView):
    @extend_schema(responses=shapes.STOP)
    def get(self, request: Request, ref: str) -> Response:
        return Response(whole(request.viewer, stop_of(request.viewer, ref)))


class StopLift(APIView):
    @extend_schema(request=LiftSerializer, responses=shapes.STOP)
    def post(self, request: Request, ref: str) -> Response:
        request.viewer.must(STOP)
        given = LiftSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        address = request.META.get("REMOTE_ADDR", "")
        stop = lift(
            request.viewer,
            stop_of(request.viewer, ref),
            reason=given.validated_data["reason"],
            now=clock.now(),
            address=address,
        )
        return Response(whole(request.viewer, stop))


class StopReach(APIView):
    """What a stop would be about and who would be told, before it is pressed."""

    @extend_schema(responses=shapes.STOP_REACH, parameters=[_KIND, _KEY])
    def get(self, request: Request) -> Response:
        request.viewer.must(WHOLE)
        kind, key = request.query_params.get("kind", ""), request.query_params.get("key", "")
        reach = reach_of(request.viewer, subject_of(request.viewer, kind, key), now=clock.now())
        return Response({
            "kind": kind, "key": key, "things": [_line(line) for line in reach.lines], "more": reach.more,
            "without_channel": len(reach.without_channel),
            "receivers": [{"name": r.name, "kind": r.kind, "tested_at": r.tested_at, "state": r.state} for r in reach.receivers],
        })  # fmt: skip


def whole(viewer: Viewer, stop: Stop) -> dict[str, Any]:
    """A stop with each signal and what became of it."""
    after = became(viewer, stop)
    signals = Signal.objects.filter(stop=stop).select_related("receiver").order_by("id")
    told = [(signal, None if stop.is_drill else was_effective(signal, after.effective)) for signal in signals]
    return _stop(stop) | {
        "finding": Finding.objects.filter(tenant=viewer.tenant, pk=stop.finding_id).values_list("pk", flat=True).first(),
        "signals": [
            {"id": s.pk, "receiver": s.receiver.name, "kind": s.receiver.kind, "what": s.what, "state": s.state, "attempts": s.attempts, "sent_at": s.sent_at,
             "accepted_at": s.accepted_at, "effective_at": at, "error": s.error or None}
            for s, at in told
        ],
        "since": None if stop.is_drill else {
            "acts": after.escaped, "last_at": after.last_at, "refused": after.refused,
            "spent": [{"currency": currency, "amount_minor": amount} for currency, amount in after.spent],
        },
    }  # fmt: skip


def _stop(stop: Stop) -> dict[str, Any]:
    return {
        "ref": stop.ref, "kind": stop.kind, "key": stop.key, "party": split_party(stop.key) if stop.kind == "party" else None, "reason": stop.reason,
        "drill": stop.is_drill, "state": stop.state, "by": stop.who, "at": stop.at, "policy": stop.policy_id,
        "lift": {"proposed_by": stop.lift_who, "proposed_at": stop.lift_at, "reason": stop.lift_reason, "agreed_by": stop.lifted_who or None,
                 "lifted_at": stop.lifted_at} if stop.lift_at else None,
    }  # fmt: skip


def _line(line: Line) -> dict[str, Any]:
    thing = line.thing
    return {"kind": thing.kind, "id": thing.id, "provider": thing.provider or None, "issuer": thing.issuer or None, "until": thing.until, "note": thing.note or None,
            "channels": [{"receiver": r.name, "kind": r.kind, "tested_at": r.tested_at} for r in line.channels]}  # fmt: skip
