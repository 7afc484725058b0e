"""Wire forms of the argument. Bounds are those of the columns and verbs behind them."""

from rest_framework import serializers

from disputes.core.deadlines import PRESETS
from disputes.core.status import AWAITING, STATES
from disputes.core.verdict import VERDICTS
from disputes.models import Approval, BankAnswer, Case, EvidenceItem, Proposal
from disputes.open_case import MAX_ACTS

_TEXT = 4_000


class AdjudicationRequest(serializers.Serializer):
    event_ids = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=MAX_ACTS, required=False)
    proposed = serializers.DictField(
        required=False, help_text="An act that was not done yet: {type, principal, .. payload fields of a native event}"
    )

    def validate(self, attrs: dict) -> dict:
        if ("event_ids" in attrs) == ("proposed" in attrs):
            raise serializers.ValidationError("expected event_ids, or one proposed act")
        return attrs


class CriterionSerializer(serializers.Serializer):
    id = serializers.CharField()
    name = serializers.CharField()
    result = serializers.ChoiceField(["pass", "fail", "unknown", "na"])
    reason = serializers.CharField()
    evidence = serializers.ListField(child=serializers.DictField())


class LiabilitySerializer(serializers.Serializer):
    bearer = serializers.CharField()
    basis = serializers.CharField()
    amount_minor = serializers.IntegerField(allow_null=True)
    currency = serializers.CharField(allow_null=True)


class BesideSerializer(serializers.Serializer):
    finding = serializers.IntegerField()
    rule = serializers.CharField()
    severity = serializers.CharField()
    state = serializers.CharField()
    criteria = serializers.ListField(child=serializers.CharField())
    reads = serializers.ChoiceField(("agrees", "counted", "unknown", "differs"))
    words = serializers.CharField()


class VerdictSerializer(serializers.Serializer):
    event_id = serializers.UUIDField(allow_null=True)
    verdict = serializers.ChoiceField(VERDICTS)
    decisive = serializers.ListField(child=serializers.CharField(), allow_null=True)
    codes = serializers.ListField(child=serializers.CharField())
    criteria = CriterionSerializer(many=True)
    liability = LiabilitySerializer()
    would_change = serializers.ListField(child=serializers.CharField())
    digest = serializers.CharField()
    line = serializers.UUIDField(
        allow_null=True, required=False, help_text="First statement of the money: one line is added once"
    )
    beside = BesideSerializer(
        many=True, required=False, help_text="Findings on the act, outside the digest; not for an abuse desk"
    )


class AdviceSerializer(serializers.Serializer):
    id = serializers.CharField()
    at = serializers.DateTimeField()
    leaf_index = serializers.IntegerField(help_text="The leaf that states it")
    proposed_sha256 = serializers.CharField(help_text="Of the proposed act in JCS, without what looks like a secret")
    verdict = serializers.CharField()
    codes = serializers.ListField(child=serializers.CharField())
    digest = serializers.CharField()
    record_position = serializers.IntegerField(help_text="The leaf up to which the record was looked at")
    jws = serializers.CharField(allow_null=True, help_text="The same, signed by a key of /.well-known/jwks.json")
    note = serializers.CharField()


class AdjudicationResults(serializers.Serializer):
    results = VerdictSerializer(many=True)
    advice = AdviceSerializer(required=False, help_text="Of a proposed act")


class ActRequest(serializers.Serializer):
    event_id = serializers.UUIDField()
    amount_minor = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=2**63 - 1, help_text="Of its amount, what is contested"
    )


class CaseRequest(serializers.Serializer):
    event_ids = serializers.ListField(child=serializers.UUIDField(), max_length=MAX_ACTS, default=list)
    acts = serializers.ListField(
        child=ActRequest(),
        max_length=MAX_ACTS,
        required=False,
        help_text="In the place of event_ids: each with its contested part",
    )
    finding = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=2**63 - 1)
    another = serializers.BooleanField(
        default=True, help_text="false: refused where there is a case about these acts already, which is named"
    )
    kind = serializers.ChoiceField(Case.Kind.choices, default=Case.Kind.SCOPE)
    title = serializers.CharField(max_length=200)
    complaint = serializers.CharField(max_length=20_000, allow_blank=True, default="")
    claimed_minor = serializers.IntegerField(required=False, allow_null=True, min_value=0, max_value=2**63 - 1)
    claimed_currency = serializers.RegexField(r"^[A-Za-z]{3}\Z", required=False, default="", allow_blank=True)


class CaseFilter(serializers.Serializer):
    state = serializers.ChoiceField(STATES, required=False)
    order = serializers.ChoiceField(
        ["newest", "due"], default="newest", help_text="due: open cases, by their first deadline; one page"
    )
    awaiting = serializers.ChoiceField(sorted(set(AWAITING.values())), required=False)
    before = serializers.CharField(max_length=20, required=False)
    limit = serializers.IntegerField(min_value=1, max_value=500, default=50)


class TakenSerializer(serializers.Serializer):
    number = serializers.IntegerField()
    report_id = serializers.CharField()
    sha256 = serializers.CharField(help_text="of the report as it came")
    state = serializers.CharField()
    is_test = serializers.BooleanField()


class PacketFilter(serializers.Serializer):
    left_out = serializers.ListField(
        child=serializers.UUIDField(),
        required=False,
        default=list,
        max_length=1_000,
        help_text="Events whose payloads this copy does not show",
    )
    why = serializers.CharField(
        max_length=_TEXT,
        required=False,
        allow_blank=True,
        default="",
        help_text="Why they are left out: it stands in the packet and in the log",
    )

    def validate_left_out(self, found: list) -> list[str]:
        return [str(one) for one in found]


class TransitionRequest(serializers.Serializer):
    to = serializers.ChoiceField(STATES)
    reason = serializers.CharField(max_length=_TEXT, allow_blank=True, default="")
    outcome = serializers.ChoiceField(Proposal.Outcome.choices, required=False, default="")
    merged_into = serializers.CharField(max_length=20, required=False, default="")
    amount_minor = serializers.IntegerField(
        required=False, allow_null=True, default=None, min_value=0, max_value=2**63 - 1
    )
    currency = serializers.RegexField(r"^[A-Za-z]{3}\Z", required=False, default="", allow_blank=True)
    assessment = serializers.IntegerField(required=False, allow_null=True, default=None, min_value=1, max_value=10**6)


class ProposalRequest(serializers.Serializer):
    outcome = serializers.ChoiceField(Proposal.Outcome.choices)
    reason = serializers.CharField(max_length=_TEXT)
    amount_minor = serializers.IntegerField(
        required=False, allow_null=True, default=None, min_value=0, max_value=2**63 - 1
    )
    currency = serializers.RegexField(r"^[A-Za-z]{3}\Z", required=False, default="", allow_blank=True)
    assessment = serializers.IntegerField(
        required=False,
        allow_null=True,
        default=None,
        min_value=1,
        max_value=10**6,
        help_text="The run it rests on; else the seal's",
    )


class ApprovalRequest(serializers.Serializer):
    result = serializers.ChoiceField(Approval.Result.choices, default=Approval.Result.APPROVED)
    reason = serializers.CharField(max_length=_TEXT)


class ImportedSerializer(serializers.Serializer):
    problem = serializers.DictField(allow_null=True, help_text="The first thing that is wrong: {where, what}")
    proves = serializers.ListField(child=serializers.CharField())
    leaves_out = serializers.ListField(child=serializers.CharField())
    ref = serializers.CharField()
    origin = serializers.CharField()
    title = serializers.CharField()
    state = serializers.CharField()
    complaint = serializers.CharField()
    acts = serializers.ListField(child=serializers.DictField())
    proposals = serializers.ListField(child=serializers.DictField())


class ReasonRequest(serializers.Serializer):
    reason = serializers.CharField(max_length=_TEXT)


class DeadlineRequest(serializers.Serializer):
    preset = serializers.ChoiceField(sorted(PRESETS), required=False, default="")
    begins_at = serializers.DateTimeField(required=False, allow_null=True, default=None)
    due = serializers.DateTimeField(required=False, allow_null=True, default=None)
    basis = serializers.CharField(max_length=300, required=False, default="", allow_blank=True)


class DeadlineSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    source = serializers.CharField(help_text="internal | contract | network | law")
    basis = serializers.CharField()
    of_state = serializers.CharField()
    zone = serializers.CharField()
    begins_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField()
    state = serializers.CharField()
    warned = serializers.ListField(child=serializers.CharField())
    why = serializers.CharField()


class DeadlineList(serializers.Serializer):
    results = DeadlineSerializer(many=True)
    next = serializers.URLField(allow_null=True)


class EvidenceRequest(serializers.Serializer):
    side = serializers.ChoiceField(EvidenceItem.Side.choices)
    title = serializers.CharField(max_length=200)
    event_id = serializers.UUIDField(required=False, allow_null=True, default=None)
    file = serializers.CharField(
        required=False, default="", max_length=3_000_000, help_text="Its bytes, standard base64"
    )
    name = serializers.CharField(required=False, default="", max_length=200, allow_blank=True)
    media_type = serializers.CharField(required=False, default="", max_length=120, allow_blank=True)


class LetInRequest(serializers.Serializer):
    eligible = serializers.BooleanField()
    reason = serializers.CharField(max_length=_TEXT)


class EvidenceSerializer(serializers.Serializer):
    number = serializers.IntegerField()
    side = serializers.CharField()
    title = serializers.CharField()
    event_id = serializers.UUIDField(allow_null=True)
    name = serializers.CharField()
    media_type = serializers.CharField()
    size = serializers.IntegerField()
    sha256 = serializers.CharField()
    actor = serializers.CharField()
    role = serializers.CharField()
    staged_at = serializers.DateTimeField()
    staged_leaf = serializers.IntegerField()
    submitted_at = serializers.DateTimeField(allow_null=True)
    submitted_leaf = serializers.IntegerField(allow_null=True)
    is_late = serializers.BooleanField()
    upstream_valid = serializers.BooleanField(allow_null=True)
    eligible = serializers.BooleanField(allow_null=True)
    eligible_why = serializers.CharField()
    eligible_by = serializers.CharField()


class EvidenceList(serializers.Serializer):
    results = EvidenceSerializer(many=True)
    next = serializers.URLField(allow_null=True)


class ChangeSerializer(serializers.Serializer):
    """What a run says differently of one act than the run it is held against."""

    event_id = serializers.UUIDField()
    before = serializers.CharField(allow_null=True)
    after = serializers.CharField(allow_null=True)
    criteria = serializers.ListField(child=serializers.DictField())


class AssessmentSerializer(serializers.Serializer):
    number = serializers.IntegerField()
    at = serializers.DateTimeField()
    is_sealed = serializers.BooleanField(help_text="The run on the record as it was sealed")
    actor = serializers.CharField()
    reason = serializers.CharField()
    engine = serializers.CharField()
    policy_version = serializers.CharField()
    position = serializers.IntegerField(help_text="The first leaf that it did not know")
    digest = serializers.CharField()
    changes = ChangeSerializer(many=True, help_text="Against the sealed run")


class AssessmentList(serializers.Serializer):
    results = AssessmentSerializer(many=True)
    next = serializers.URLField(allow_null=True)


class CaseSerializer(serializers.Serializer):
    ref = serializers.CharField()
    kind = serializers.ChoiceField(Case.Kind.choices)
    title = serializers.CharField()
    complaint = serializers.CharField()
    claimed_minor = serializers.IntegerField(allow_null=True)
    claimed_currency = serializers.CharField()
    state = serializers.ChoiceField(STATES)
    awaiting = serializers.CharField()
    principal = serializers.CharField()
    respondent = serializers.CharField()
    provider = serializers.CharField()
    policy_version = serializers.CharField()
    finding = serializers.IntegerField(source="opened_from_id", allow_null=True)
    merged_into = serializers.CharField()
    opened_by = serializers.CharField()
    opened_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField(allow_null=True, help_text="The first deadline that runs")
    sealed_at = serializers.DateTimeField(allow_null=True)
    sealed_position = serializers.IntegerField(allow_null=True, help_text="The first leaf that is later than the seal")
    sealed_digest = serializers.CharField()


class CaseList(serializers.Serializer):
    results = CaseSerializer(many=True)
    next = serializers.URLField(allow_null=True)


class TransitionSerializer(serializers.Serializer):
    position = serializers.IntegerField()
    from_state = serializers.CharField()
    to_state = serializers.CharField()
    actor = serializers.CharField()
    role = serializers.CharField()
    reason = serializers.CharField()
    policy_version = serializers.CharField()
    at = serializers.DateTimeField()
    previous = serializers.CharField()
    digest = serializers.CharField()
    leaf_index = serializers.IntegerField()


class TransitionList(serializers.Serializer):
    results = TransitionSerializer(many=True)
    next = serializers.URLField(allow_null=True)


class ApprovalSerializer(serializers.Serializer):
    result = serializers.CharField()
    reason = serializers.CharField()
    approver = serializers.CharField()
    role = serializers.CharField()
    at = serializers.DateTimeField()


class ProposalSerializer(serializers.Serializer):
    number = serializers.IntegerField()
    outcome = serializers.CharField()
    reason = serializers.CharField()
    proposer = serializers.CharField()
    role = serializers.CharField()
    at = serializers.DateTimeField()
    assessment_digest = serializers.CharField()
    amount_minor = serializers.IntegerField(allow_null=True)
    currency = serializers.CharField()
    approval = serializers.SerializerMethodField()

    def get_approval(self, proposal: Proposal) -> dict | None:
        found = getattr(proposal, "approval", None)
        return ApprovalSerializer(found).data if found else None


class MoveSerializer(serializers.Serializer):
    to = serializers.CharField()
    verb = serializers.CharField()
    who = serializers.CharField()
    needs_reason = serializers.BooleanField()
    allowed = serializers.BooleanField()
    why_not = serializers.CharField()


class ContestedActSerializer(serializers.Serializer):
    event_id = serializers.UUIDField()
    amount_minor = serializers.IntegerField(allow_null=True)
    currency = serializers.CharField()


ACTS_AT_ONCE = 1_000


class ActsFilter(serializers.Serializer):
    acts_from = serializers.IntegerField(
        required=False, default=0, min_value=0, max_value=MAX_ACTS, help_text="`acts_next` of the answer before"
    )


class CasePageSerializer(CaseSerializer):
    """A case with its acts, verdicts, history and what may come next."""

    def to_representation(self, page) -> dict:
        first = self.context.get("acts_from", 0)
        acts = page.acts[first : first + ACTS_AT_ONCE]
        told = page.verdict_of
        following = first + len(acts)
        return super().to_representation(page.case) | {
            "acts": ContestedActSerializer(acts, many=True).data,
            "acts_total": len(page.acts),
            "acts_next": following if following < len(page.acts) else None,
            "verdicts": [told[str(act.event_id)] for act in acts if str(act.event_id) in told],
            "job": {name: getattr(page.job, name) for name in ("kind", "state", "judged", "total", "error")}
            if page.job
            else None,
            "also_about": self.context.get("also_about", []),
            "is_assessed": page.is_assessed,
            "as_of": page.as_of,
            "newer_events": page.newer,
            "totals": [total._asdict() for total in page.totals],
            "rollup": page.rollup._asdict(),
            "parties": [party._asdict() for party in page.parties],
            "deadlines": DeadlineSerializer(page.deadlines, many=True).data,
            "evidence": EvidenceSerializer(page.evidence, many=True).data,
            "assessments": AssessmentSerializer(page.assessments, many=True).data,
            "transitions": TransitionSerializer(page.transitions, many=True).data,
            "history_broken_at": page.broken_at,
            "proposals": ProposalSerializer(page.proposals, many=True).data,
            "moves": MoveSerializer(page.moves, many=True).data,
        }


class BankAskedSerializer(serializers.Serializer):
    id = serializers.CharField()
    reason = serializers.CharField(allow_blank=True, help_text="Stripe's word: fraudulent, duplicate ..")
    network_reason = serializers.CharField(allow_blank=True)
    status = serializers.CharField(allow_blank=True)
    due = serializers.DateTimeField(allow_null=True)
    opened_at = serializers.DateTimeField()
    eligible = serializers.ListField(child=serializers.CharField())


class BankAnswerSerializer(serializers.ModelSerializer):
    class Meta:
        model = BankAnswer
        fields = (
            "number", "dispute", "receiver", "evidence", "digest", "is_submitted", "is_accepted", "error", "actor",
            "role", "at", "leaf_index",
        )  # fmt: skip


class BankDraftSerializer(serializers.Serializer):
    dispute = BankAskedSerializer(source="asked")
    evidence = serializers.DictField(source="answer.evidence", help_text="As Stripe's dispute takes it")
    asked = serializers.ListField(
        child=serializers.CharField(), source="answer.asked", help_text="What an answer to this reason should have"
    )
    missing = serializers.ListField(child=serializers.CharField(), source="answer.missing")
    readiness = serializers.IntegerField(source="answer.readiness", help_text="Percent of what is asked")
    shortened = serializers.ListField(child=serializers.CharField(), source="answer.shortened")
    speaks = serializers.ChoiceField(
        ["for_the_charge", "against_the_charge", "unknown"],
        source="answer.speaks",
        help_text="For whom the record speaks",
    )
    says = serializers.CharField(source="answer.says")
    ce3 = serializers.CharField(
        source="answer.ce3", help_text="Whether Visa's Compelling Evidence 3.0 is in it, and why"
    )
    receivers = serializers.ListField(child=serializers.CharField())
    why_not = serializers.CharField(allow_blank=True, help_text="Why it cannot be sent as things are")
    sent = BankAnswerSerializer(many=True)


class BankAnswerRequest(serializers.Serializer):
    submit = serializers.BooleanField(default=False, help_text="Else it is staged. A bank takes one answer")
    receiver = serializers.CharField(max_length=48, default="", allow_blank=True)
    evidence = serializers.DictField(required=False, help_text="In the place of the draft")
