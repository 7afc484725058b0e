"""Tables of the argument. A case changes state; all else is written once (`sql/written_once.sql`), so that what was
decided, by whom and on what ground stays as it was. Every key leads with the tenant.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from disputes.core import status


class Case(models.Model):
    """A dispute over one or more acts."""

    class Kind(models.TextChoices):
        SCOPE = "scope", "Scope: did the agent do what it was allowed to?"
        AMOUNT = "amount", "Amount: is the sum right?"
        ABUSE = "abuse", "Abuse: does it harm somebody else?"

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    ref = models.CharField(max_length=20)  # D-2026-000001
    kind = models.CharField(max_length=6, choices=Kind)
    title = models.CharField(max_length=200)
    complaint = models.TextField(blank=True)
    claimed_minor = models.BigIntegerField(null=True)  # minor units of `claimed_currency`
    claimed_currency = models.CharField(max_length=3, blank=True)
    state = models.CharField(max_length=16, choices=[(state, state.replace("_", " ")) for state in status.STATES])
    suspended_from = models.CharField(max_length=16, blank=True)
    was_reopened = models.BooleanField(default=False)
    awaiting = models.CharField(max_length=10)
    merged_into = models.CharField(max_length=20, blank=True)
    # Party keys and the provider, where all contested acts agree on one.
    principal = models.TextField(blank=True)
    respondent = models.TextField(blank=True)  # who acted
    provider = models.CharField(max_length=120, blank=True)
    policy_version = models.CharField(max_length=20)
    opened_from = models.ForeignKey("auditlog.Finding", models.PROTECT, null=True, db_index=False)
    opened_by = models.CharField(max_length=150)
    opened_at = models.DateTimeField()
    # Of the newest packet that was taken out: SHA-256 of its manifest, and the leaf that states it.
    packet_digest = models.CharField(max_length=64, blank=True)
    packet_at = models.DateTimeField(null=True)
    packet_leaf = models.BigIntegerField(null=True)
    # The record as it was sealed: what the engine said then is decided on, unless people admit what came later.
    sealed_at = models.DateTimeField(null=True)
    sealed_position = models.BigIntegerField(null=True)  # the first leaf that is later than the seal
    sealed_digest = models.CharField(max_length=64, blank=True)  # of the verdicts on it
    due_at = models.DateTimeField(null=True)  # the first deadline that runs

    class Meta:
        db_table = "dispute_case"
        constraints = [models.UniqueConstraint(fields=["tenant", "ref"], name="case_ref_once")]
        indexes = [
            models.Index(fields=["tenant", "-id"], name="case_newest"),
            models.Index(fields=["tenant", "state", "-id"], name="case_by_state"),
            models.Index(fields=["tenant", "awaiting", "-id"], name="case_by_awaiting"),
            models.Index(fields=["tenant", "provider", "-id"], name="case_by_provider"),  # the abuse desk's list
            models.Index(fields=["tenant", "opened_from"], name="case_by_finding"),
            models.Index(fields=["tenant", "due_at"], name="case_by_due"),
        ]

    def __str__(self) -> str:
        return self.ref


class CaseNumber(models.Model):
    """The last number given to a case, per tenant and year. A rolled-back case leaves no gap, a crash may."""

    pk = models.CompositePrimaryKey("tenant_id", "year")
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    year = models.SmallIntegerField()
    last = models.IntegerField()

    class Meta:
        db_table = "dispute_number"

    def __str__(self) -> str:
        return f"{self.year}: {self.last}"


class ContestedAct(models.Model):
    """One act that a case is about. Verdicts are per act."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    case = models.ForeignKey(Case, models.PROTECT, related_name="acts", db_index=False, db_constraint=False)
    position = models.SmallIntegerField()
    event_id = models.UUIDField()
    amount_minor = models.BigIntegerField(null=True)  # contested of it; minor units of `currency`
    currency = models.CharField(max_length=3, blank=True)

    class Meta:
        db_table = "dispute_act"
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["tenant", "case", "event_id"], name="contested_act_once")]
        # Which cases is an event in: asked by the event's page.
        indexes = [models.Index(fields=["tenant", "event_id"], name="contested_act_by_event")]

    def __str__(self) -> str:
        return str(self.event_id)


class Transition(models.Model):
    """One step of a case. `digest` covers the step and the digest before it; leaf `leaf_index` commits to it."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    case = models.ForeignKey(Case, models.PROTECT, related_name="transitions", db_index=False, db_constraint=False)
    position = models.IntegerField()
    from_state = models.CharField(max_length=16, blank=True)
    to_state = models.CharField(max_length=16)
    person = models.CharField(max_length=170)  # key: differs for different people
    actor = models.CharField(max_length=150)
    role = models.CharField(max_length=10)
    reason = models.TextField(blank=True)
    policy_version = models.CharField(max_length=20)
    at = models.DateTimeField()
    previous = models.CharField(max_length=64, blank=True)  # hex SHA-256
    digest = models.CharField(max_length=64)
    leaf_index = models.BigIntegerField()

    class Meta:
        db_table = "dispute_transition"
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["tenant", "case", "position"], name="transition_position_once")]
        # Steps in the order of the log, which a SIEM follows.
        indexes = [models.Index(fields=["tenant", "leaf_index"], name="transition_by_leaf")]

    def __str__(self) -> str:
        return f"{self.from_state} -> {self.to_state}"


class Assessment(models.Model):
    """One run of the engine over a case's acts, as it came out. `digest` covers the digests of its verdicts."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    case = models.ForeignKey(Case, models.PROTECT, related_name="assessments", db_index=False, db_constraint=False)
    number = models.IntegerField()
    at = models.DateTimeField()
    engine = models.CharField(max_length=40)
    policy_version = models.CharField(max_length=20)
    verdicts = models.JSONField()
    digest = models.CharField(max_length=64)
    # What the verdicts rest on, as it stood (core/grounds.py); null: of a run before that was kept.
    grounds = models.JSONField(null=True)
    words = models.CharField(max_length=64, blank=True)  # SHA-256 over verdicts and grounds, which the log states
    # How far the record had been projected; what comes later makes it stale.
    position = models.BigIntegerField(default=0)
    # Of a run after the seal: who asked for it and why. It is decided on only where a proposal says so.
    person = models.CharField(max_length=170, blank=True)
    actor = models.CharField(max_length=150, blank=True)
    reason = models.TextField(blank=True)

    class Meta:
        db_table = "dispute_assessment"
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["tenant", "case", "number"], name="assessment_number_once")]

    def __str__(self) -> str:
        return self.digest


class Reading(models.Model):
    """What the engine says of a case that was not assessed yet: kept so that reading a page judges nothing anew.
    Replaced when the record moves; nobody decides by it.
    """

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    case = models.OneToOneField(Case, models.PROTECT, related_name="reading", db_constraint=False)
    at = models.DateTimeField()
    engine = models.CharField(max_length=40)
    policy_version = models.CharField(max_length=20)
    verdicts = models.JSONField()
    digest = models.CharField(max_length=64)
    position = models.BigIntegerField()

    class Meta:
        db_table = "dispute_reading"

    def __str__(self) -> str:
        return self.digest


class Proposal(models.Model):
    """What the handler proposes, with the verdicts as they stood then."""

    class Outcome(models.TextChoices):
        UPHELD = "upheld", "The complaint is upheld"
        PARTLY_UPHELD = "partly_upheld", "The complaint is upheld in part"
        REJECTED = "rejected", "The complaint is rejected"
        CONFIRMED = "confirmed", "On appeal: the decision stands"
        VARIED = "varied", "On appeal: the decision is changed"
        REMITTED = "remitted", "On appeal: sent back for more evidence"
        SETTLED = "settled", "A settlement is offered"

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    case = models.ForeignKey(Case, models.PROTECT, related_name="proposals", db_index=False, db_constraint=False)
    number = models.IntegerField()
    outcome = models.CharField(max_length=13, choices=Outcome)
    reason = models.TextField()
    person = models.CharField(max_length=170)
    proposer = models.CharField(max_length=150)
    role = models.CharField(max_length=10)
    at = models.DateTimeField()
    verdicts = models.JSONField()
    assessment_digest = models.CharField(max_length=64, blank=True)
    # What is to be paid back, in minor units of `currency`; null: the proposal states no sum.
    amount_minor = models.BigIntegerField(null=True)
    currency = models.CharField(max_length=3, blank=True)

    class Meta:
        db_table = "dispute_proposal"
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["tenant", "case", "number"], name="proposal_number_once")]

    def __str__(self) -> str:
        return self.outcome


class Approval(models.Model):
    """The second person's word on a proposal. Written once a proposal, by somebody other than its proposer."""

    class Result(models.TextChoices):
        APPROVED = "approved"
        RETURNED = "returned"

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    case = models.ForeignKey(Case, models.PROTECT, related_name="approvals", db_index=False, db_constraint=False)
    proposal = models.OneToOneField(Proposal, models.PROTECT, related_name="approval", db_constraint=False)
    result = models.CharField(max_length=8, choices=Result)
    reason = models.TextField()
    proposer = models.CharField(max_length=170)  # the proposal's `person`; a foreign key keeps it true
    person = models.CharField(max_length=170)
    approver = models.CharField(max_length=150)
    role = models.CharField(max_length=10)
    at = models.DateTimeField()

    class Meta:
        db_table = "dispute_approval"
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=~models.Q(person=models.F("proposer")), name="approval_four_eyes")
        ]

    def __str__(self) -> str:
        return self.result


class Deadline(models.Model):
    """By when something has to come. One of a state's own runs while the case is in it; others are set by hand."""

    class State(models.TextChoices):
        RUNNING = "running"
        PAUSED = "paused"
        MET = "met"
        MISSED = "missed"
        CANCELLED = "cancelled"

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    case = models.ForeignKey(Case, models.PROTECT, related_name="deadlines", db_index=False, db_constraint=False)
    kind = models.CharField(max_length=20)
    source = models.CharField(max_length=8)  # internal | contract | network | law
    basis = models.CharField(max_length=300)
    of_state = models.CharField(max_length=16, blank=True)  # the state that it is of; "" was set by hand
    zone = models.CharField(max_length=60)
    begins_at = models.DateTimeField()
    due_at = models.DateTimeField()
    state = models.CharField(max_length=9, choices=State, default=State.RUNNING)
    warned = ArrayField(models.CharField(max_length=12), default=list)
    next_at = models.DateTimeField(null=True)  # of one that runs: when there is something to be done about it
    left = models.DurationField(null=True)  # of one that is paused
    why = models.TextField(blank=True)  # it was paused or cancelled
    ended_at = models.DateTimeField(null=True)
    set_by = models.CharField(max_length=150, blank=True)

    class Meta:
        db_table = "dispute_deadline"
        ordering = ["due_at", "id"]
        indexes = [
            models.Index(fields=["tenant", "case", "state"], name="deadline_by_case"),
            models.Index(fields=["next_at"], name="deadline_next", condition=models.Q(state="running")),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.due_at}"


class EvidenceItem(models.Model):
    """A file or an event that a side puts into a case. Staged until it is submitted, once; late after the seal.

    `upstream_valid`: whether its own signature or proof holds; `eligible`: whether it is let in, which a person says.
    """

    class Side(models.TextChoices):
        CLAIMANT = "claimant"
        RESPONDENT = "respondent"
        PROVIDER = "provider"
        OPERATOR = "operator"

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    case = models.ForeignKey(Case, models.PROTECT, related_name="evidence", db_index=False, db_constraint=False)
    number = models.IntegerField()
    side = models.CharField(max_length=10, choices=Side)
    title = models.CharField(max_length=200)
    event_id = models.UUIDField(null=True)  # an event on record; else a file
    name = models.CharField(max_length=200, blank=True)
    media_type = models.CharField(max_length=120, blank=True)
    body = models.BinaryField(null=True)
    size = models.IntegerField(default=0)
    sha256 = models.CharField(max_length=64)  # hex, of the file; of an event, of its bytes as received
    person = models.CharField(max_length=170)
    actor = models.CharField(max_length=150)
    role = models.CharField(max_length=10)
    staged_at = models.DateTimeField()
    staged_leaf = models.BigIntegerField()
    submitted_at = models.DateTimeField(null=True)
    submitted_leaf = models.BigIntegerField(null=True)
    is_late = models.BooleanField(default=False)
    upstream_valid = models.BooleanField(null=True)
    eligible = models.BooleanField(null=True)
    eligible_why = models.TextField(blank=True)
    eligible_by = models.CharField(max_length=150, blank=True)

    class Meta:
        db_table = "dispute_evidence"
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["tenant", "case", "number"], name="evidence_number_once")]

    def __str__(self) -> str:
        return self.title


class BankAnswer(models.Model):
    """What was sent to a bank about a dispute of it, and what became of that. Staged as often as one likes, submitted
    once.
    """

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    case = models.ForeignKey(Case, models.PROTECT, related_name="bank_answers", db_index=False, db_constraint=False)
    number = models.IntegerField()
    dispute = models.CharField(max_length=100)  # the network's id
    receiver = models.CharField(max_length=48)
    evidence = models.JSONField()
    digest = models.CharField(max_length=64)  # SHA-256 of the evidence in JCS
    is_submitted = models.BooleanField()  # else staged
    is_accepted = models.BooleanField()
    error = models.TextField(blank=True)
    person = models.CharField(max_length=170)
    actor = models.CharField(max_length=150)
    role = models.CharField(max_length=10)
    at = models.DateTimeField()
    leaf_index = models.BigIntegerField()

    class Meta:
        db_table = "dispute_bank_answer"
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "case", "number"], name="bank_answer_number_once"),
            models.UniqueConstraint(
                fields=["tenant", "dispute"],
                condition=models.Q(is_submitted=True, is_accepted=True),
                name="bank_answer_submitted_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.dispute} {'submitted' if self.is_submitted else 'staged'}"


class ComplaintDoor(models.Model):
    """A link under which whoever has it may complain, without an account. Shown once, kept as its hash."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    name = models.CharField(max_length=120)
    provider = models.CharField(max_length=120, blank=True)  # of the desk at whose door one complains
    secret_digest = models.CharField(max_length=64, unique=True)  # hex SHA-256
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)  # somebody shut it
    ended_by = models.CharField(max_length=150, blank=True)

    class Meta:
        db_table = "dispute_door"
        indexes = [models.Index(fields=["tenant", "-id"], name="door_newest")]

    def __str__(self) -> str:
        return self.name


class Complaint(models.Model):
    """What somebody outside said. It is no case until a person makes one of it; the bytes stay as they came."""

    class State(models.TextChoices):
        WAITING = "waiting"
        OPENED = "opened", "a case was opened"
        DECLINED = "declined"

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    door = models.ForeignKey(ComplaintDoor, models.PROTECT, db_index=False)
    number = models.IntegerField()
    channel = models.CharField(max_length=4)  # form | xarf
    provider = models.CharField(max_length=120, blank=True)  # the door's
    reporter = models.CharField(max_length=200)
    contact = models.CharField(max_length=200, blank=True)
    subject = models.CharField(max_length=300)  # what it is about: a name, a charge, an event
    about = models.CharField(max_length=200)  # in a few words; of XARF category and type
    said = models.TextField(blank=True)
    report_id = models.CharField(max_length=64, blank=True)  # the sender's own, of XARF: the same is taken once
    is_test = models.BooleanField(default=False)
    body = models.BinaryField()
    sha256 = models.CharField(max_length=64)
    received_at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    case = models.ForeignKey(Case, models.PROTECT, null=True, db_index=False, related_name="complaints")
    answered_by = models.CharField(max_length=150, blank=True)
    answered_why = models.TextField(blank=True)
    answered_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "dispute_complaint"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "number"], name="complaint_number_once"),
            models.UniqueConstraint(
                fields=["tenant", "door", "report_id"], condition=~models.Q(report_id=""), name="complaint_report_once"
            ),
        ]
        indexes = [models.Index(fields=["tenant", "state", "-id"], name="complaint_by_state")]

    def __str__(self) -> str:
        return f"{self.number}: {self.about}"


class OutsideLink(models.Model):
    """How one party outside sees one case and hands in to it: a link, and a code that is sent another way."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    case = models.ForeignKey(Case, models.PROTECT, related_name="outside", db_index=False, db_constraint=False)
    side = models.CharField(max_length=10, choices=EvidenceItem.Side)
    name = models.CharField(max_length=120)
    secret_digest = models.CharField(max_length=64, unique=True)  # hex SHA-256, of the link
    code_digest = models.CharField(max_length=64)  # of link and code together
    made_person = models.CharField(max_length=170)
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    ended_by = models.CharField(max_length=150, blank=True)

    class Meta:
        db_table = "dispute_outside"
        ordering = ["id"]
        indexes = [models.Index(fields=["tenant", "case"], name="outside_by_case")]

    def __str__(self) -> str:
        return self.name


class OutsideUse(models.Model):
    """One use of such a link. Written once."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    link = models.ForeignKey(OutsideLink, models.PROTECT, related_name="uses", db_index=False)
    at = models.DateTimeField()
    what = models.CharField(max_length=20)  # came in | wrong code | looked | handed in | left
    address = models.CharField(max_length=60, blank=True)

    class Meta:
        db_table = "dispute_outside_use"
        ordering = ["id"]
        indexes = [models.Index(fields=["tenant", "link", "-id"], name="outside_use_by_link")]

    def __str__(self) -> str:
        return self.what


class AssessmentJob(models.Model):
    """A run of the engine over more acts than a request has time for: asked for by a person, done by a worker."""

    class Kind(models.TextChoices):
        SEAL = "seal", "seal the record and assess"
        AGAIN = "again", "run the engine again"

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    case = models.ForeignKey(Case, models.PROTECT, related_name="jobs", db_index=False, db_constraint=False)
    kind = models.CharField(max_length=5, choices=Kind)
    to_state = models.CharField(max_length=16, blank=True)
    reason = models.TextField(blank=True)
    # Who asked, as `Viewer` has it: the step is theirs, and is refused where they may no longer take it.
    role = models.CharField(max_length=10)
    name = models.CharField(max_length=150)
    user_id = models.BigIntegerField(null=True)
    provider = models.CharField(max_length=120, blank=True)
    stands_for = ArrayField(models.BigIntegerField(), default=list)
    asked_at = models.DateTimeField()
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    judged = models.IntegerField(default=0)
    total = models.IntegerField()
    touched_at = models.DateTimeField()  # when a worker last said that it is at it
    error = models.TextField(blank=True)

    class Meta:
        db_table = "dispute_job"
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "case"],
                condition=models.Q(state__in=["waiting", "running"]),
                name="job_one_at_a_time",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.state}"
