"""Response: who is told to stop an agent, what was stopped, and what became of each signal."""

import uuid

from django.db import models

from auditlog.models.directory import Tenant, slug


class Receiver(models.Model):
    """Somebody who can stop an agent: a provider, a token server, a payment network. Its URL stands in the log by
    digest.
    """

    class Kind(models.TextChoices):
        PUSH = "push", "SSF push (RFC 8935)"
        POLL = "poll", "SSF poll (RFC 8936)"
        WEBHOOK = "webhook", "signed webhook (Standard Webhooks)"
        REVOCATION = "revocation", "token revocation (RFC 7009)"
        STRIPE = "stripe", "Stripe API"
        CLOUDFLARE = "cloudflare", "Cloudflare API"

    class State(models.TextChoices):
        ENABLED = "enabled"
        PAUSED = "paused", "paused: signals wait"
        DISABLED = "disabled", "disabled: nothing is sent"

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    name = models.CharField(max_length=48, validators=[slug])
    kind = models.CharField(max_length=10, choices=Kind)
    stream = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    url = models.CharField(
        max_length=500, blank=True, help_text="Where it is called, by https. A poll receiver calls us."
    )
    audience = models.CharField(max_length=300, blank=True, help_text="`aud` of its signals (RFC 8417).")
    provider = models.CharField(
        max_length=120, blank=True, help_text="What it can stop: the provider's name. Empty: anything."
    )
    issuer = models.CharField(
        max_length=300, blank=True, help_text="What it can stop: subjects of this issuer. Empty: anyone's."
    )
    account = models.CharField(
        max_length=120, blank=True, help_text="The account at the provider, where its API asks for one."
    )
    secret_env = models.CharField(
        max_length=120,
        blank=True,
        help_text="Name of the secret: an `Authorization` value, a signing secret or an API key.",
    )
    events = models.JSONField(default=list, blank=True)  # requested event types; empty: all that we send
    allow_private = models.BooleanField(default=False, help_text="The address may be a private or loopback one.")
    state = models.CharField(max_length=8, choices=State, default=State.ENABLED)
    description = models.CharField(max_length=300, blank=True)
    token_digest = models.BinaryField(null=True, editable=False)  # SHA-256 of the bearer token under which it calls us
    made_by = models.CharField(max_length=200, blank=True)  # of a stream that a receiver made itself: its token
    created_at = models.DateTimeField(auto_now_add=True)
    tested_at = models.DateTimeField(null=True, editable=False)  # when a test of it was last accepted
    verified_at = models.DateTimeField(null=True, editable=False)  # when it last asked to be verified

    class Meta:
        db_table = "response_receiver"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="receiver_once")]

    def __str__(self) -> str:
        return self.name


class Stop(models.Model):
    """One stop that somebody pressed, or that a policy made. A drill sends tests and stops nobody."""

    class State(models.TextChoices):
        IN_FORCE = "in_force", "in force"
        LIFTED = "lifted"

    tenant = models.ForeignKey(Tenant, models.PROTECT)
    number = models.IntegerField()
    kind = models.CharField(max_length=8)  # party | grant | token | session
    key = models.CharField(max_length=700)
    reason = models.TextField()
    is_drill = models.BooleanField(default=False)
    finding_id = models.BigIntegerField(null=True)
    policy_id = models.BigIntegerField(null=True)  # of the response policy that made it
    who = models.CharField(max_length=200)
    person = models.CharField(max_length=400)  # access.person_of
    at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=State, default=State.IN_FORCE)
    lift_person = models.CharField(max_length=400, blank=True)  # who proposed to lift it
    lift_who = models.CharField(max_length=200, blank=True)
    lift_reason = models.TextField(blank=True)
    lift_at = models.DateTimeField(null=True)
    lifted_person = models.CharField(max_length=400, blank=True)
    lifted_who = models.CharField(max_length=200, blank=True)
    lifted_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "response_stop"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "number"], name="stop_number_once"),
            models.CheckConstraint(
                condition=models.Q(lifted_at=None)
                | (
                    models.Q(lift_at__isnull=False)
                    & ~models.Q(lift_person="")
                    & ~models.Q(lifted_person=models.F("lift_person"))
                ),
                name="stop_lifted_by_two",
            ),
        ]
        indexes = [models.Index(fields=["tenant", "kind", "key"], name="stop_by_subject")]

    def __str__(self) -> str:
        return self.ref

    @property
    def ref(self) -> str:
        return f"S-{self.number}"


class Signal(models.Model):
    """One message to one receiver, exactly as it is sent, and how that went."""

    class State(models.TextChoices):
        WAITING = "waiting", "to be sent"
        SENT = "sent", "sent, not yet confirmed"
        ACCEPTED = "accepted"
        FAILED = "failed", "failed, tried again later"
        DEAD = "dead", "given up: nobody answered"
        CANCELLED = "cancelled"

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    receiver = models.ForeignKey(Receiver, models.CASCADE, related_name="signals")
    stop = models.ForeignKey(Stop, models.PROTECT, null=True, related_name="signals")  # null: a test or a verification
    jti = models.CharField(max_length=64, unique=True)
    what = models.CharField(max_length=160)  # event type, or what is asked of an API in words
    body = models.TextField()  # a SET in compact form; of an API: the request as JSON
    state = models.CharField(max_length=9, choices=State, default=State.WAITING)
    attempts = models.IntegerField(default=0)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    accepted_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        db_table = "response_signal"
        indexes = [
            models.Index(fields=["due_at"], name="signal_due", condition=models.Q(state__in=["waiting", "failed"])),
            models.Index(fields=["receiver", "state", "id"], name="signal_by_receiver"),
        ]

    def __str__(self) -> str:
        return f"{self.what} to {self.receiver_id}: {self.state}"

    @property
    def words(self) -> str:
        """What it is, for a page: of an event type its last part."""
        return (
            self.what.rpartition("/")[2].replace("-", " ")
            if self.what.startswith("https://schemas.openid.net/")
            else self.what
        )


class ResponsePolicy(models.Model):
    """What is stopped without waiting for a person. Made live by two people; a dry run only notes what it would do."""

    class Mode(models.TextChoices):
        OFF = "off"
        DRY_RUN = "dry_run", "dry run"
        LIVE = "live"

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    name = models.CharField(max_length=48, validators=[slug])
    rule = models.CharField(max_length=80)
    severity = models.CharField(max_length=8, default="high")  # at least
    minimum_minor = models.BigIntegerField(
        null=True, blank=True
    )  # money at risk at least, in minor units of `currency`
    currency = models.CharField(max_length=12, blank=True)
    subject = models.CharField(max_length=8, default="grant")  # what of the finding is stopped: grant | party
    mode = models.CharField(max_length=7, choices=Mode, default=Mode.DRY_RUN)
    asked_person = models.CharField(
        max_length=400, blank=True
    )  # who asked for it to be live; another person makes it so
    asked_who = models.CharField(max_length=200, blank=True)
    since = models.DateTimeField(
        null=True, editable=False
    )  # findings from then on: nobody is stopped for what was known before
    would = models.JSONField(default=list, blank=True)  # of a dry run: the newest findings it would have acted on
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "response_policy"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="response_policy_once")]

    def __str__(self) -> str:
        return self.name
