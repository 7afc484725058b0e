"""Edges: incidents over the API. Each translates, calls one verb or read, answers."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from auditlog.incidents import handle
from auditlog.incidents.read import find_incident, steps_of
from disputes.incident import shapes
from disputes.incident.read import list_incidents, one_incident


def _read(form: type[serializers.Serializer], data: Any) -> dict[str, Any]:
    given = form(data=data)
    given.is_valid(raise_exception=True)
    return dict(given.validated_data)


def _answer(request: Request, ref: str, *, status: int = 200) -> Response:
    now = timezone.now()
    row, told = one_incident(request.viewer, ref)
    if told is None:  # it was merged: the older reference is the one
        into = row.merged_into.ref if row.merged_into else ""
        at = reverse("incident", args=[into], request=request)
        return Response({"ref": row.ref, "merged_into": into}, status=301, headers={"Location": at})
    log = [shapes.step_json(step) for step in steps_of(request.viewer, row)]
    return Response(shapes.incident_json(told, now=now) | {"log": log}, status=status)


class IncidentList(APIView):
    """Findings of one cause, as people own and close them, newest first."""

    @extend_schema(operation_id="incidents_list", parameters=[shapes.IncidentFilter], responses=shapes.IncidentPage)
    def get(self, request: Request) -> Response:
        asked = _read(shapes.IncidentFilter, request.query_params)
        now = timezone.now()
        told, after = list_incidents(request.viewer, now=now, after=asked.pop("before", ""), **asked)
        following = replace_query_param(request.build_absolute_uri(), "before", after) if after else None
        return Response({"results": [shapes.incident_json(each, now=now) for each in told], "next": following})


class IncidentDetail(APIView):
    """One incident with its log. Of one that was merged: 301, and where it went."""

    @extend_schema(responses={200: shapes.IncidentDetailShape, 301: shapes.Merged})
    def get(self, request: Request, ref: str) -> Response:
        return _answer(request, ref)


class _Step(APIView):
    form: ClassVar[type[serializers.Serializer]]
    act: ClassVar[Callable[..., Any]]

    def post(self, request: Request, ref: str) -> Response:
        find_incident(request.viewer, ref)
        request.viewer.must("triage")  # before the body is looked at: who may not act is told so first
        asked = _read(self.form, request.data)
        row = type(self).act(request.viewer, ref, now=timezone.now(), **asked)
        return _answer(request, row.ref)


def _step(name: str, act: Callable[..., Any], form: type[serializers.Serializer], words: str) -> type[APIView]:
    view = type(name, (_Step,), {"form": form, "act": staticmethod(act), "__doc__": words})
    return extend_schema(request=form, responses=shapes.IncidentDetailShape)(view)


IncidentAssign = _step("IncidentAssign", handle.assign, shapes.AssignRequest, "Give it to somebody, or to nobody.")
IncidentNote = _step("IncidentNote", handle.note, shapes.NoteRequest, "Write to it. Nothing else changes.")
IncidentClose = _step(
    "IncidentClose",
    handle.close,
    shapes.CloseRequest,
    "Close it, until more of it comes. Its findings keep their states.",
)
IncidentReopen = _step("IncidentReopen", handle.reopen, shapes.ReopenRequest, "Open what was closed.")
IncidentSnooze = _step(
    "IncidentSnooze", handle.snooze, shapes.SnoozeRequest, "Take it out of the queue until it grows, or for some days."
)
IncidentSuppress = _step(
    "IncidentSuppress",
    handle.suppress,
    shapes.SuppressRequest,
    "Take it out of the queue for some days, also where it grows.",
)
IncidentBringBack = _step(
    "IncidentBringBack", handle.bring_back, shapes.BringBackRequest, "Put it into the queue again."
)
IncidentMerge = _step(
    "IncidentMerge",
    handle.merge,
    shapes.MergeRequest,
    "Make two incidents one. Answers with the older one, which stays.",
)
IncidentSplit = _step(
    "IncidentSplit", handle.split, shapes.SplitRequest, "Take findings out, for good. Answers with the new incident."
)
