"""Alerts: who is told of incidents, what of each was told, and what became of every message."""

import secrets

from django.db import models

from auditlog.models.directory import Tenant, slug
from auditlog.models.findings import Finding
from auditlog.models.incidents import Incident


class AlertChannel(models.Model):
    """Somebody who is told of incidents. Its address stands in the log by digest; what of it is secret is sealed."""

    class Kind(models.TextChoices):
        SLACK = "slack", "Slack, or what takes the same"
        PAGERDUTY = "pagerduty", "PagerDuty (Events API v2)"
        WEBHOOK = "webhook", "signed webhook (Standard Webhooks)"
        MAIL = "mail", "mail"

    class State(models.TextChoices):
        ON = "on"
        OFF = "off"

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    name = models.CharField(max_length=48, validators=[slug])
    kind = models.CharField(max_length=9, choices=Kind)
    address = models.CharField(max_length=500, blank=True)  # of a webhook its URL; of mail who gets it, by commas
    secret_env = models.CharField(
        max_length=120, blank=True
    )  # Slack's URL, PagerDuty's key, a webhook's signing secret
    severity = models.CharField(max_length=8, choices=Finding.Severity, default=Finding.Severity.HIGH)  # at least
    desks = models.JSONField(default=list, blank=True)  # none: all
    least_minor = models.BigIntegerField(null=True, blank=True)  # too much money at least, in minor units of `currency`
    currency = models.CharField(max_length=12, blank=True)
    with_texts = models.BooleanField(default=False)  # what senders and agents wrote goes out
    quiet_zone = models.CharField(max_length=64, blank=True)  # IANA; empty: no quiet hours
    quiet_from = models.TimeField(null=True, blank=True)
    quiet_to = models.TimeField(null=True, blank=True)
    quiet_days = models.JSONField(default=list, blank=True)  # on which they begin, 0: Monday; none: every day
    critical_passes = models.BooleanField(default=True)  # through the quiet hours
    escalate_minutes = models.IntegerField(null=True, blank=True)
    escalate_to = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="escalated")
    allow_private = models.BooleanField(default=False)
    state = models.CharField(max_length=3, choices=State, default=State.ON)
    since = models.DateTimeField(editable=False)  # what was open before is told of only as it grows
    created_at = models.DateTimeField(auto_now_add=True)
    tested_at = models.DateTimeField(null=True, editable=False)  # when a test of it was last taken

    class Meta:
        db_table = "alert_channel"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="alert_channel_once")]

    def __str__(self) -> str:
        return self.name


def alert_key() -> str:
    return secrets.token_urlsafe(18)


class Alert(models.Model):
    """One message to one channel. It is written before it is sent, and bears the same key whenever it is tried again.

    What it says is fixed when it is first sent, and forgotten once that is over: what is erased from the record stays
    in no message.
    """

    class Kind(models.TextChoices):
        NEWS = "news"
        SUMMARY = "summary", "summary after quiet hours"
        ACKNOWLEDGED = "acknowledged", "taken up"
        RESOLVED = "resolved", "no longer open"
        TEST = "test"
        TEST_OVER = "test_over", "end of a test"

    class State(models.TextChoices):
        WAITING = "waiting", "to be sent"
        HELD = "held", "held in quiet hours"
        FAILED = "failed", "failed, tried again later"
        SENT = "sent", "sent"
        SUMMED = "summed", "told in a summary"
        DEAD = "dead", "given up"
        CANCELLED = "cancelled", "no news any more"

    tenant = models.ForeignKey(Tenant, models.CASCADE, db_index=False)
    channel = models.ForeignKey(AlertChannel, models.CASCADE, related_name="alerts", db_index=False)
    incident = models.ForeignKey(Incident, models.PROTECT, null=True, db_index=False, related_name="alerts")
    kind = models.CharField(max_length=12, choices=Kind)
    key = models.CharField(max_length=64, unique=True, default=alert_key)
    news = models.JSONField(default=list, blank=True)  # the words of each; of a summary the references
    escalated_from = models.CharField(max_length=48, blank=True)  # the channel after which nobody took it up
    body = models.TextField(blank=True)  # as it is sent but for secrets, while it is under way
    state = models.CharField(max_length=9, choices=State, default=State.WAITING)
    attempts = models.IntegerField(default=0)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True)
    tried_at = models.DateTimeField(null=True)  # written before each call
    sent_at = models.DateTimeField(null=True)
    answer = models.CharField(max_length=300, blank=True)  # what the other side said, or why nobody did
    summary = models.ForeignKey("self", models.SET_NULL, null=True, related_name="holds", db_index=False)

    class Meta:
        db_table = "alert"
        constraints = [
            # Grouped: what comes while one waits is told in it.
            models.UniqueConstraint(
                fields=["channel", "incident"],
                name="alert_waits_once",
                condition=models.Q(kind="news", state__in=["waiting", "held"], body="", news=[]),
            ),
        ]
        indexes = [
            models.Index(
                fields=["due_at"], name="alert_due", condition=models.Q(state__in=["waiting", "failed", "held"])
            ),
            models.Index(fields=["channel", "-id"], name="alert_by_channel"),
            models.Index(fields=["incident", "channel"], name="alert_by_incident"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.channel_id}: {self.state}"


class AlertTold(models.Model):
    """What a channel knows of an incident (core.alert.news.Told): only what is more than this is news."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.CASCADE, db_index=False)
    channel = models.ForeignKey(AlertChannel, models.CASCADE, related_name="told", db_index=False)
    incident = models.ForeignKey(Incident, models.PROTECT, db_index=False, related_name="told")
    data = models.JSONField()
    told_at = models.DateTimeField(null=True)  # null: it was there before the channel, which was never told of it
    asked_at = models.DateTimeField(null=True)  # since when somebody is waited for
    is_taken = models.BooleanField(default=False)  # that somebody took it up was told
    escalated_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "alert_told"
        constraints = [models.UniqueConstraint(fields=["channel", "incident"], name="alert_told_once")]
        indexes = [models.Index(fields=["incident"], name="alert_told_of")]

    def __str__(self) -> str:
        return f"{self.incident_id} to {self.channel_id}"


class AlertLook(models.Model):
    """An incident that may be news: it was written (sql/alerts.sql), or a time has come."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.CASCADE, db_index=False, db_constraint=False)
    incident_id = models.BigIntegerField()
    due_at = models.DateTimeField()

    class Meta:
        db_table = "alert_look"
        indexes = [models.Index(fields=["due_at", "id"], name="alert_look_next")]

    def __str__(self) -> str:
        return f"incident {self.incident_id} from {self.due_at}"
