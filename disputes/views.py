"""Edges of the argument. Each translates, calls one verb or query, answers."""

import tempfile
from base64 import b64decode
from binascii import Error
from typing import Any

from django.http import FileResponse, HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from auditlog.core.errors import NotPossible
from auditlog.models import Role
from disputes import decide, queries
from disputes import serializers as wire
from disputes.adjudicate import adjudicate
from disputes.advise import advise
from disputes.case.answer_bank import send
from disputes.case.deadline import set_deadline
from disputes.case.hand_in import let_in, stage, submit
from disputes.case.imported import read_packet
from disputes.jobs.assess import AT_ONCE, ask, is_for_a_worker
from disputes.open_case import contested_acts, open_case
from disputes.outside.complain import MOST_BYTES as MOST_REPORT
from disputes.outside.complain import find_door, knock, report
from disputes.packet import write_packet


class PacketParser(BaseParser):
    """The archive's bytes as they came."""

    media_type = "application/zip"

    def parse(self, stream, media_type=None, parser_context=None) -> bytes:
        return stream.read()


class ReportParser(BaseParser):
    """A report's bytes as they came."""

    media_type = "application/json"

    def parse(self, stream, media_type=None, parser_context=None) -> bytes:
        return stream.read(MOST_REPORT + 1)


def _read(serializer: type, data) -> dict:
    form = serializer(data=data)
    form.is_valid(raise_exception=True)
    return form.validated_data


def _page(request: Request, ref: str, *, status: int = 200, **told_besides: Any) -> Response:
    told = queries.case_page(request.viewer, ref, now=timezone.now())
    asked = _read(wire.ActsFilter, request.query_params)
    return Response(wire.CasePageSerializer(told, context=asked | told_besides).data, status=status)


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
        number, acts = asked.pop("finding", None), asked.pop("acts", None)
        if acts:
            if asked["event_ids"]:
                raise ValidationError({"acts": ["expected acts or event_ids, not both"]})
            asked["event_ids"] = [act["event_id"] for act in acts]
            asked["parts"] = {str(act["event_id"]): act["amount_minor"] for act in acts if act.get("amount_minor")}
        finding = queries.find_finding(request.viewer, number) if number else None
        acts_of_it = contested_acts(request.viewer, asked["event_ids"], finding)
        similar = queries.cases_about(request.viewer, [act.event_id for act in acts_of_it])
        if not asked.pop("another") and similar:
            raise NotPossible(f"{similar[0].ref} is about these acts already")
        case = open_case(request.viewer, **asked, finding=finding, now=timezone.now())
        return _page(request, case.ref, status=201, also_about=[one.ref for one in similar])


class ComplaintView(APIView):
    """An XARF v4 report from outside. It takes no account, only the link of a door; the same report is taken once."""

    authentication_classes = ()
    permission_classes = ()
    parser_classes = (ReportParser,)

    @extend_schema(
        auth=[],
        request={"application/json": OpenApiTypes.OBJECT},
        parameters=[
            OpenApiParameter("secret", str, OpenApiParameter.PATH, description="The door's own part of the link.")
        ],
        responses={202: wire.TakenSerializer},
    )
    def post(self, request: Request, secret: str) -> Response:
        door = find_door(secret, now=timezone.now())
        knock(door, request.META.get("REMOTE_ADDR", ""))
        taken = report(door, request.data, now=timezone.now())
        return Response(wire.TakenSerializer(taken).data, status=202)


class CaseView(APIView):
    @extend_schema(parameters=[wire.ActsFilter], responses=wire.CasePageSerializer)
    def get(self, request: Request, ref: str) -> Response:
        return _page(request, ref)


class TransitionView(APIView):
    """The history of a case, and its next step. `proposed` takes an `outcome`, `merged` takes `merged_into`."""

    @extend_schema(responses=wire.TransitionList)
    def get(self, request: Request, ref: str) -> Response:
        steps = queries.find_case(request.viewer, ref).transitions.all()
        return Response({"results": wire.TransitionSerializer(steps, many=True).data, "next": None})

    @extend_schema(
        request=wire.TransitionRequest, responses={201: wire.CasePageSerializer, 202: wire.CasePageSerializer}
    )
    def post(self, request: Request, ref: str) -> Response:
        request.viewer.must("case")
        asked = _read(wire.TransitionRequest, request.data)
        case, now = queries.find_case(request.viewer, ref), timezone.now()
        if is_for_a_worker(case, asked["to"]):
            ask(case, request.viewer, to=asked["to"], reason=asked["reason"], now=now)
            return _page(request, ref, status=202)
        decide.move(case, viewer=request.viewer, now=now, **asked)
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


class PacketCheckView(APIView):
    """Check another organisation's packet, and say what it proves and what it leaves out. Nothing of it is kept."""

    parser_classes = (PacketParser,)

    @extend_schema(
        request={"application/zip": OpenApiTypes.BINARY},
        parameters=[OpenApiParameter("vkey", str, many=True, description="The log's verifier key, from elsewhere.")],
        responses=wire.ImportedSerializer,
    )
    def post(self, request: Request) -> Response:
        request.viewer.must("case")
        return Response(read_packet(request.viewer, request.data, vkeys=request.query_params.getlist("vkey")).as_json())


class SettlementView(APIView):
    """Refuse the settlement that is offered. To offer and to accept one is a transition to `settled`, by two people."""

    @extend_schema(request=wire.ReasonRequest, responses={200: wire.CasePageSerializer})
    def post(self, request: Request, ref: str) -> Response:
        asked = _read(wire.ReasonRequest, request.data)
        case = queries.find_case(request.viewer, ref)
        decide.refuse_settlement(case, viewer=request.viewer, now=timezone.now(), **asked)
        return _page(request, ref)


class AssessmentView(APIView):
    """Every run of the engine over the case, each held against the sealed one; and one more, on the record of now."""

    @extend_schema(responses=wire.AssessmentList)
    def get(self, request: Request, ref: str) -> Response:
        runs = queries.runs_of(request.viewer, queries.find_case(request.viewer, ref))
        return Response({"results": wire.AssessmentSerializer(runs, many=True).data, "next": None})

    @extend_schema(request=wire.ReasonRequest, responses={201: wire.AssessmentList, 202: wire.AssessmentList})
    def post(self, request: Request, ref: str) -> Response:
        request.viewer.must("case")
        asked = _read(wire.ReasonRequest, request.data)
        case = queries.find_case(request.viewer, ref)
        if case.acts.count() > AT_ONCE:
            ask(case, request.viewer, now=timezone.now(), **asked)
            status = 202
        else:
            decide.assess_again(case, viewer=request.viewer, now=timezone.now(), **asked)
            status = 201
        runs = queries.runs_of(request.viewer, case)
        return Response({"results": wire.AssessmentSerializer(runs, many=True).data, "next": None}, status=status)


class DeadlineView(APIView):
    @extend_schema(responses=wire.DeadlineList)
    def get(self, request: Request, ref: str) -> Response:
        found = queries.find_case(request.viewer, ref).deadlines.all()
        return Response({"results": wire.DeadlineSerializer(found, many=True).data, "next": None})

    @extend_schema(request=wire.DeadlineRequest, responses={201: wire.DeadlineSerializer})
    def post(self, request: Request, ref: str) -> Response:
        request.viewer.must("case")
        asked = _read(wire.DeadlineRequest, request.data)
        made = set_deadline(queries.find_case(request.viewer, ref), request.viewer, now=timezone.now(), **asked)
        return Response(wire.DeadlineSerializer(made).data, status=201)


class EvidenceView(APIView):
    """What the sides handed in. A new item is staged: a file, or an event on record."""

    @extend_schema(responses=wire.EvidenceList)
    def get(self, request: Request, ref: str) -> Response:
        items = queries.evidence_of(request.viewer, queries.find_case(request.viewer, ref))
        return Response({"results": wire.EvidenceSerializer(items, many=True).data, "next": None})

    @extend_schema(request=wire.EvidenceRequest, responses={201: wire.EvidenceSerializer})
    def post(self, request: Request, ref: str) -> Response:
        request.viewer.must("case")
        asked = _read(wire.EvidenceRequest, request.data)
        file = asked.pop("file")
        try:
            body = b64decode(file, validate=True) if file else None
        except (Error, ValueError):
            raise ValidationError({"file": ["expected standard base64"]}) from None
        case = queries.find_case(request.viewer, ref)
        item = stage(case, request.viewer, body=body, now=timezone.now(), **asked)
        return Response(wire.EvidenceSerializer(item).data, status=201)


class EvidenceSubmitView(APIView):
    @extend_schema(request=None, responses={200: wire.EvidenceSerializer})
    def post(self, request: Request, ref: str, number: int) -> Response:
        case = queries.find_case(request.viewer, ref)
        return Response(wire.EvidenceSerializer(submit(case, number, request.viewer, now=timezone.now())).data)


class EvidenceLetInView(APIView):
    """Whether an item counts: what is late counts only where somebody who may decide lets it in, with a reason."""

    @extend_schema(request=wire.LetInRequest, responses={200: wire.EvidenceSerializer})
    def post(self, request: Request, ref: str, number: int) -> Response:
        asked = _read(wire.LetInRequest, request.data)
        case = queries.find_case(request.viewer, ref)
        return Response(wire.EvidenceSerializer(let_in(case, number, request.viewer, now=timezone.now(), **asked)).data)


class EvidenceFileView(APIView):
    """The file as it was handed in. It is somebody's word and perhaps hostile: it is never shown, only handed out."""

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, ref: str, number: int) -> HttpResponse:
        item = queries.evidence_item(request.viewer, queries.find_case(request.viewer, ref), number)
        response = HttpResponse(bytes(item.body or b""), content_type="application/octet-stream")
        response["Content-Disposition"] = f'attachment; filename="{ref}-{number}.bin"'
        response["X-Content-Type-Options"] = "nosniff"
        return response


class BankAnswerView(APIView):
    """What the case gives a bank that disputes its payment: a draft, staged at Stripe or submitted once."""

    @extend_schema(responses=wire.BankDraftSerializer)
    def get(self, request: Request, ref: str) -> Response:
        _, found = queries.bank_draft(request.viewer, ref, now=timezone.now())
        return Response(wire.BankDraftSerializer(found).data)

    @extend_schema(request=wire.BankAnswerRequest, responses={201: wire.BankAnswerSerializer})
    def post(self, request: Request, ref: str) -> Response:
        request.viewer.must("case")
        asked = _read(wire.BankAnswerRequest, request.data)
        now, case = timezone.now(), queries.find_case(request.viewer, ref)
        evidence = asked.get("evidence")
        if not evidence:
            _, found = queries.bank_draft(request.viewer, ref, now=now)
            evidence = found.answer.evidence
        done = send(
            case, request.viewer, evidence=evidence, submit=asked["submit"], receiver=asked["receiver"], now=now
        )
        return Response(wire.BankAnswerSerializer(done).data, status=201)


class PacketView(APIView):
    """The case as one archive, with the verifier inside. Its digest is in `Answerable-Packet-Digest`, and in the log.

    `left_out`: events whose payloads this copy does not show, each of them given once, with `why`.
    """

    @extend_schema(parameters=[wire.PacketFilter], responses={(200, "application/zip"): OpenApiTypes.BINARY})
    def get(self, request: Request, ref: str) -> FileResponse:
        file = tempfile.SpooledTemporaryFile(max_size=8 << 20)  # noqa: SIM115  the answer closes it
        asked = _read(wire.PacketFilter, request.query_params)
        case = queries.find_case(request.viewer, ref)
        digest = write_packet(case, request.viewer, file, now=timezone.now(), **asked)
        file.seek(0)
        response = FileResponse(file, as_attachment=True, filename=f"{ref}.zip", content_type="application/zip")
        response["Answerable-Packet-Digest"] = digest
        return response
