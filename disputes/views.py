"""Edges of the argument. Each translates, calls one verb or query, answers."""

import tempfile

from django.http import FileResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from auditlog.models import Role
from disputes import decide, queries
from disputes import serializers as wire
from disputes.adjudicate import adjudicate
from disputes.advise import advise
from disputes.open_case import open_case
from disputes.packet import write_packet


def _read(serializer: type, data) -> dict:
    form = serializer(data=data)
    form.is_valid(raise_exception=True)
    return form.validated_data


def _page(request: Request, ref: str, *, status: int = 200) -> Response:
    return Response(
        wire.CasePageSerializer(queries.case_page(request.viewer, ref, now=timezone.now())).data, status=status
    )


class AdjudicationView(APIView):
    """Verdicts without a case: of events on record, of which nothing is stored, or of one act that was not done yet.

    The second is advice, signed and kept in the log, and never a promise: `proposed` is an act's type, principal and payload
    as in a native event.
    """

    @extend_schema(request=wire.AdjudicationRequest, responses=wire.AdjudicationResults)
    def post(self, request: Request) -> Response:
        asked = _read(wire.AdjudicationRequest, request.data)
        viewer = request.viewer
        if (proposed := asked.get("proposed")) is not None:
            told = advise(viewer, proposed, now=timezone.now())
            return Response(told | {"results": queries.read_verdicts(viewer, told["results"])})
        provider = viewer.provider if viewer.role == Role.ABUSE else ""
        verdicts = adjudicate(viewer.tenant, asked["event_ids"], provider=provider)
        return Response({"results": queries.read_verdicts(viewer, verdicts)})


class CaseListView(APIView):
    @extend_schema(operation_id="cases_list", parameters=[wire.CaseFilter], responses=wire.CaseList)
    def get(self, request: Request) -> Response:
        cases, before = queries.list_cases(request.viewer, **_read(wire.CaseFilter, request.query_params))
        following = replace_query_param(request.build_absolute_uri(), "before", before) if before else None
        return Response({"results": wire.CaseSerializer(cases, many=True).data, "next": following})

    @extend_schema(request=wire.CaseRequest, responses={201: wire.CasePageSerializer})
    def post(self, request: Request) -> Response:
        request.viewer.must("case")
        asked = _read(wire.CaseRequest, request.data)
        number = asked.pop("finding", None)
        finding = queries.find_finding(request.viewer, number) if number else None
        case = open_case(request.viewer, **asked, finding=finding, now=timezone.now())
        return _page(request, case.ref, status=201)


class CaseView(APIView):
    @extend_schema(responses=wire.CasePageSerializer)
    def get(self, request: Request, ref: str) -> Response:
        return _page(request, ref)


class TransitionView(APIView):
    """The history of a case, and its next step. `proposed` takes an `outcome`, `merged` takes `merged_into`."""

    @extend_schema(responses=wire.TransitionList)
    def get(self, request: Request, ref: str) -> Response:
        steps = queries.find_case(request.viewer, ref).transitions.all()
        return Response({"results": wire.TransitionSerializer(steps, many=True).data, "next": None})

    @extend_schema(request=wire.TransitionRequest, responses={201: wire.CasePageSerializer})
    def post(self, request: Request, ref: str) -> Response:
        request.viewer.must("case")
        asked = _read(wire.TransitionRequest, request.data)
        decide.move(queries.find_case(request.viewer, ref), viewer=request.viewer, now=timezone.now(), **asked)
        return _page(request, ref, status=201)


class ProposalView(APIView):
    @extend_schema(request=wire.ProposalRequest, responses={201: wire.ProposalSerializer})
    def post(self, request: Request, ref: str) -> Response:
        request.viewer.must("case")
        asked = _read(wire.ProposalRequest, request.data)
        case = queries.find_case(request.viewer, ref)
        proposal = decide.propose(case, viewer=request.viewer, now=timezone.now(), **asked)
        return Response(wire.ProposalSerializer(proposal).data, status=201)


class ApprovalView(APIView):
    """The second person's word on the open proposal."""

    @extend_schema(request=wire.ApprovalRequest, responses={201: wire.ApprovalSerializer})
    def post(self, request: Request, ref: str) -> Response:
        request.viewer.must("decide")
        asked = _read(wire.ApprovalRequest, request.data)
        case = queries.find_case(request.viewer, ref)
        approval = decide.approve(case, viewer=request.viewer, now=timezone.now(), **asked)
        return Response(wire.ApprovalSerializer(approval).data, status=201)


class PacketView(APIView):
    """The case as one archive, with the verifier inside. Its digest is in `Answerable-Packet-Digest`, and in the log."""

    @extend_schema(responses={(200, "application/zip"): OpenApiTypes.BINARY})
    def get(self, request: Request, ref: str) -> FileResponse:
        file = tempfile.SpooledTemporaryFile(max_size=8 << 20)  # noqa: SIM115  the answer closes it
        digest = write_packet(queries.find_case(request.viewer, ref), request.viewer, file, now=timezone.now())
        file.seek(0)
        response = FileResponse(file, as_attachment=True, filename=f"{ref}.zip", content_type="application/zip")
        response["Answerable-Packet-Digest"] = digest
        return response
