"""Findings, what people did about them, and counts of refusals. Not projections: a rebuild keeps them."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models

from auditlog.models.fields import WholeNumber

SHOWN = 1_000  # members that a finding names itself; the rest are read from their rows


class Finding(models.Model):
    class Severity(models.TextChoices):
        INFO = "info"
        LOW = "low"
        MEDIUM = "medium"
        HIGH = "high"
        CRITICAL = "critical"

    class State(models.TextChoices):
        OPEN = "open"
        ACKNOWLEDGED = "acknowledged"
        RESOLVED = "resolved"
        FALSE_POSITIVE = "false_positive", "false positive"
        WITHDRAWN = "withdrawn"

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False)
    rule = models.CharField(max_length=60)
    rule_version = models.SmallIntegerField()
    anchor = models.TextField()
    partition = models.TextField()  # the detector's key that this finding came from, as JSON
    severity = models.CharField(max_length=8, choices=Severity)
    state = models.CharField(max_length=14, choices=State, default=State.OPEN)
    title = models.TextField()
    principal = models.TextField(blank=True)
    actor = models.TextField(blank=True)
    grant = models.TextField(blank=True)
    provider = models.TextField(blank=True)
    event_ids = ArrayField(models.UUIDField())  # the first SHOWN of its members, in their order
    leaves = ArrayField(models.BigIntegerField())
    events_total = models.BigIntegerField(default=0, db_default=0)
    money_at_risk_minor = WholeNumber(null=True)
    currency = models.CharField(max_length=3, blank=True)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    detected_at = models.DateTimeField()
    evidence = models.JSONField(default=dict)
    withdrawn_by_leaf = models.BigIntegerField(null=True)
    # Its place among all changes of the tenant's findings, for whoever follows them. Null: changed, and not numbered
    # yet;
    # sql/finding_change.sql takes the number away whenever anything else changes, and siem.py gives the next.
    change = models.BigIntegerField(null=True)
    first_change = models.BigIntegerField(null=True)

    class Meta:
        db_table = "finding"
        constraints = [models.UniqueConstraint(fields=["tenant", "rule", "anchor"], name="finding_once")]
        indexes = [
            models.Index(fields=["tenant", "rule", "partition"], name="finding_by_partition"),
            models.Index(fields=["tenant", "state", "-id"], name="finding_by_state"),
            models.Index(fields=["tenant", "principal", "-id"], name="finding_by_principal"),
            models.Index(fields=["tenant", "change"], name="finding_by_change"),
        ]

    def __str__(self) -> str:
        return f"{self.rule}: {self.title}"


class FindingMember(models.Model):
    """One event that a finding rests on. Rows, so that a finding grows by what comes and is found by any of its events."""

    pk = models.CompositePrimaryKey("finding_id", "leaf_index")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    finding = models.ForeignKey(Finding, models.CASCADE, related_name="members", db_index=False)
    leaf_index = models.BigIntegerField()
    event_id = models.UUIDField(null=True)  # none of a leaf of the road itself, which is no event
    place = models.BigIntegerField()  # what orders them: their number as the rule names them, or their time
    # Of findings that gather what was found of single events (detection/findings/gather.py): what was found of this one, with
    # what
    # the worst of them is found by.
    told = models.JSONField(null=True)
    severity = models.SmallIntegerField(null=True)
    late = models.FloatField(null=True)  # seconds

    class Meta:
        db_table = "finding_member"
        indexes = [
            models.Index(fields=["tenant", "leaf_index"], name="member_by_leaf"),
            models.Index(fields=["finding", "place", "leaf_index"], name="member_in_order"),
            models.Index(
                fields=["finding", "severity", "late", "place", "leaf_index"],
                name="member_worst",
                condition=models.Q(severity__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"leaf {self.leaf_index} of finding {self.finding_id}"


class FindingChanges(models.Model):
    """The last number that was given to a change of a tenant's findings. Its row is the lock under which they are
    given.
    """

    tenant = models.OneToOneField("auditlog.Tenant", models.CASCADE, primary_key=True)
    last = models.BigIntegerField(default=0)

    class Meta:
        db_table = "finding_changes"

    def __str__(self) -> str:
        return f"{self.tenant_id}: {self.last}"


class Triage(models.Model):
    """One step of a person with a finding. Kept for ever, in order."""

    finding = models.ForeignKey(Finding, models.PROTECT, related_name="triage")
    at = models.DateTimeField(auto_now_add=True)
    by = models.CharField(max_length=150)
    desk = models.CharField(
        max_length=120, blank=True
    )  # the provider whose abuse desk took it; "": somebody who reads all
    # Who it was stays, as a number and a name, when the account is gone.
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.DO_NOTHING, null=True, db_constraint=False)
    from_state = models.CharField(max_length=14)
    to_state = models.CharField(max_length=14)
    reason = models.TextField()
    # What the finding was, where the person says: a label for the precision of its rule, and never a threshold by itself.
    label = models.CharField(max_length=9, blank=True)

    class Meta:
        db_table = "finding_triage"
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.from_state} -> {self.to_state}"


class RulePolicy(models.Model):
    """One version of how a rule is set for a tenant (core.policy). The newest is in force; what was in force before stays.
    Leaf `leaf_index` states the whole of it, and a row that it does not state is not followed.
    """

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    rule = models.CharField(max_length=60)
    version = models.IntegerField()
    data = models.JSONField()
    reason = models.TextField()
    set_by = models.CharField(max_length=150)
    person = models.CharField(max_length=170)
    at = models.DateTimeField()
    leaf_index = models.BigIntegerField()

    class Meta:
        db_table = "rule_policy"
        ordering = ["-version"]
        constraints = [models.UniqueConstraint(fields=["tenant", "rule", "version"], name="rule_policy_once")]

    def __str__(self) -> str:
        return f"{self.rule} {self.version}"


class Backtest(models.Model):
    """What a policy would have raised, asked for by a person and run by a worker. Nothing of it is a finding."""

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False)
    rule = models.CharField(max_length=60)
    data = models.JSONField()  # the policy that is tried
    days = models.IntegerField()
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    asked_by = models.CharField(max_length=150)
    asked_at = models.DateTimeField()
    begun_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    done = models.IntegerField(default=0)  # acts looked at, of `total`
    total = models.IntegerField(default=0)
    result = models.JSONField(null=True)
    error = models.TextField(blank=True)

    class Meta:
        db_table = "backtest"
        indexes = [
            models.Index(fields=["tenant", "rule", "-id"], name="backtest_by_rule"),
            models.Index(fields=["id"], name="backtest_open", condition=models.Q(state__in=["waiting", "running"])),
        ]

    def __str__(self) -> str:
        return f"{self.rule} {self.state}"


class Verification(models.Model):
    """One run of `verify_ledger` over a window of a log: what it covered, and what it found."""

    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False)
    at = models.DateTimeField()
    first_leaf = models.BigIntegerField()
    end_leaf = models.BigIntegerField()  # exclusive; where the next run goes on
    seconds = models.FloatField()
    problem = models.TextField(blank=True)  # empty: all of it holds

    class Meta:
        db_table = "verification"
        indexes = [models.Index(fields=["tenant", "-id"], name="verification_newest")]

    def __str__(self) -> str:
        return self.problem or f"leaves {self.first_leaf} to {self.end_leaf} hold"


class Watch(models.Model):
    """How far the background check has held a log's leaves against its keys and tombstones (watch.py)."""

    tenant = models.OneToOneField("auditlog.Tenant", models.CASCADE, primary_key=True)
    position = models.BigIntegerField(default=0)  # the next leaf to look at
    at = models.DateTimeField()  # of the last look

    class Meta:
        db_table = "watch"

    def __str__(self) -> str:
        return f"{self.tenant_id} as far as {self.position}"


class RefusalCount(models.Model):
    """Deliveries that were refused, counted per source, key, reason and hour. Bounded: an unknown key counts as ""."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False)
    source = models.CharField(max_length=48)
    key = models.CharField(max_length=43, blank=True)
    err = models.CharField(max_length=40)
    hour = models.DateTimeField()
    count = models.BigIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    sample = models.TextField()  # one description; escaped wherever shown

    class Meta:
        db_table = "refusal_count"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "source", "key", "err", "hour"], name="refusal_count_once")
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.err}: {self.count}"


class NotedDelivery(models.Model):
    """One of a source's last deliveries that brought a refusal, or nothing new. What was taken is told by its leaves."""

    KEPT = 10  # a source

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False)
    source = models.CharField(max_length=48)
    at = models.DateTimeField()
    taken = models.IntegerField()
    repeated = models.IntegerField()
    refused = models.IntegerField()
    err = models.CharField(max_length=40, blank=True)
    reason = models.TextField(blank=True)  # of the first refusal; escaped wherever shown

    class Meta:
        db_table = "noted_delivery"
        indexes = [models.Index(fields=["tenant", "source", "id"], name="noted_delivery_by_source")]

    def __str__(self) -> str:
        return f"{self.source} {self.at}"
