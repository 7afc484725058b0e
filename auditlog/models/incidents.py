"""Incidents: findings of one cause as people own and close them. Not projections: a rebuild keeps them."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models

from auditlog.models.fields import WholeNumber
from auditlog.models.findings import Finding


class Incident(models.Model):
    """What it comes to is kept with it for lists; who may read what of it, incidents/read.py says."""

    class State(models.TextChoices):
        OPEN = "open"
        RESOLVED = "resolved"  # people resolved all its findings, or judged them false
        CLOSED = "closed"  # by a person, with an outcome
        WITHDRAWN = "withdrawn"  # every finding in it lost its ground
        MERGED = "merged"  # into an older one, which its reference leads to

    class Outcome(models.TextChoices):
        STOPPED = "stopped", "stopped and undone as far as it goes"
        REFUNDED = "refunded", "the money came back"
        ACCEPTED = "accepted", "accepted: nothing more is done"
        FALSE_ALARM = "false_alarm", "a false alarm"
        OTHER = "other", "something else"

    class Away(models.TextChoices):
        SNOOZED = "snoozed"  # until it grows, or a day comes
        SUPPRESSED = "suppressed"  # until a day comes, also where it grows

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    number = models.BigIntegerField()
    ref = models.CharField(max_length=20)  # INC-000001
    state = models.CharField(max_length=9, choices=State, default=State.OPEN)
    outcome = models.CharField(max_length=11, choices=Outcome, blank=True)
    opened_at = models.DateTimeField()
    changed_at = models.DateTimeField()
    merged_into = models.ForeignKey("self", models.PROTECT, null=True, db_index=False, related_name="merged")
    owner = models.CharField(max_length=150, blank=True)
    owner_id = models.BigIntegerField(null=True)  # the account; its name stays when it is gone
    severity = models.CharField(max_length=8, choices=Finding.Severity, default=Finding.Severity.INFO)
    rank = models.SmallIntegerField(default=0)
    principal = models.TextField(blank=True)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    findings = models.IntegerField(default=0)  # that stand
    members = models.BigIntegerField(default=0)  # acts that those rest on, added up
    over_minor = WholeNumber(default=0)  # of its largest currency: what lists are ordered by
    undo_until = models.DateTimeField(null=True)
    closed_members = models.BigIntegerField(null=True)  # `members` when it was closed: more opens it again
    is_by_hand = models.BooleanField(default=False)  # a person took it apart, or put it together
    away = models.CharField(max_length=10, choices=Away, blank=True)  # out of the queue
    away_until = models.DateTimeField(null=True)  # None: for as long as it does not grow
    away_members = models.BigIntegerField(null=True)  # `members` when it was snoozed: more brings it back
    away_rank = models.SmallIntegerField(null=True)

    class Meta:
        db_table = "incident"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "number"], name="incident_number_once"),
            models.UniqueConstraint(fields=["tenant", "ref"], name="incident_ref_once"),
        ]
        indexes = [
            models.Index(fields=["tenant", "state", "-number"], name="incident_by_state"),
            models.Index(fields=["tenant", "principal", "-number"], name="incident_by_principal"),
            models.Index(fields=["merged_into"], name="incident_merged", condition=models.Q(merged_into__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.ref


class IncidentNumber(models.Model):
    """The last number given to an incident. Its row is the lock under which a tenant's findings are gathered."""

    tenant = models.OneToOneField("auditlog.Tenant", models.PROTECT, primary_key=True)
    last = models.BigIntegerField(default=0)

    class Meta:
        db_table = "incident_number"

    def __str__(self) -> str:
        return f"{self.tenant_id}: {self.last}"


class IncidentFinding(models.Model):
    """Which incident a finding is in, and by what it was put there (core.incident.Linked)."""

    finding = models.OneToOneField(Finding, models.CASCADE, primary_key=True, related_name="place_in_incident")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    # Null only while it is being placed.
    incident = models.ForeignKey(Incident, models.PROTECT, related_name="places", db_index=False, null=True)
    stands = models.BooleanField()  # False: withdrawn, and it links nothing
    is_sum = models.BooleanField()
    links = ArrayField(models.CharField(max_length=33))
    leaves = models.UUIDField()  # a digest of the first `named` acts
    named = models.IntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    undo_until = models.DateTimeField(null=True)

    class Meta:
        db_table = "incident_finding"
        indexes = [models.Index(fields=["tenant", "incident"], name="incident_findings")]

    def __str__(self) -> str:
        return f"finding {self.finding_id} in {self.incident_id}"


class IncidentLink(models.Model):
    """One link of a finding that stands, so that others with it are found."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    link = models.CharField(max_length=33)
    finding = models.ForeignKey(Finding, models.CASCADE, related_name="+", db_constraint=False)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        db_table = "incident_link"
        indexes = [models.Index(fields=["tenant", "link", "first_at"], name="incident_link_in_time")]

    def __str__(self) -> str:
        return f"{self.link} of finding {self.finding_id}"


class IncidentDirty(models.Model):
    """What gathering must look at: a finding that was written (sql/incidents.sql), or an incident in turn."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    finding_id = models.BigIntegerField(null=True)
    incident_id = models.BigIntegerField(null=True)
    due_at = models.DateTimeField()

    class Meta:
        db_table = "incident_dirty"
        indexes = [models.Index(fields=["tenant", "due_at", "id"], name="incident_dirty_next")]

    def __str__(self) -> str:
        return f"finding {self.finding_id} incident {self.incident_id}"


class IncidentStep(models.Model):
    """One thing that happened to an incident, by a person or by gathering (then `by` is empty). Kept for ever."""

    class Kind(models.TextChoices):
        OPENED = "opened"
        GREW = "grew"
        MERGED = "merged"  # into another
        TOOK_IN = "took_in", "took in another"
        SPLIT = "split", "split off"
        WITHDRAWN = "withdrawn"
        RESOLVED = "resolved"
        REOPENED = "reopened"
        ASSIGNED = "assigned"
        NOTE = "note"
        CLOSED = "closed"
        SNOOZED = "snoozed"
        SUPPRESSED = "suppressed"
        RETURNED = "returned"  # to the queue

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    incident = models.ForeignKey(Incident, models.PROTECT, related_name="steps", db_index=False)
    at = models.DateTimeField()
    kind = models.CharField(max_length=10, choices=Kind)
    by = models.CharField(max_length=150, blank=True)
    person = models.CharField(max_length=170, blank=True)  # key: differs for different people (core.person)
    role = models.CharField(max_length=10, blank=True)
    desk = models.CharField(max_length=120, blank=True)  # the provider whose abuse desk took it
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.DO_NOTHING, null=True, db_constraint=False, db_index=False
    )
    reason = models.TextField(blank=True)
    data = models.JSONField(default=dict)  # {findings, incident, owner, outcome, state}: what it says in figures

    class Meta:
        db_table = "incident_step"
        ordering = ["id"]
        indexes = [models.Index(fields=["incident", "id"], name="incident_steps")]

    def __str__(self) -> str:
        return f"{self.kind} at {self.at}"


class IncidentHand(models.Model):
    """What a person decided of who belongs to whom. It holds until another decision lifts it."""

    class Kind(models.TextChoices):
        TOGETHER = "together"
        APART = "apart"

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False)
    kind = models.CharField(max_length=8, choices=Kind)
    one = ArrayField(models.BigIntegerField())  # findings
    other = ArrayField(models.BigIntegerField())
    step = models.ForeignKey(IncidentStep, models.PROTECT, related_name="+", db_index=False)
    is_lifted = models.BooleanField(default=False)

    class Meta:
        db_table = "incident_hand"
        indexes = [models.Index(fields=["tenant"], name="incident_hands", condition=models.Q(is_lifted=False))]

    def __str__(self) -> str:
        return f"{self.one} {self.kind} {self.other}"
