"""The directory: tenants, who may look, who may send. The only tables that are global."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models

slug = RegexValidator(r"^[a-z0-9][a-z0-9._-]{0,47}\Z", "Use 1 to 48 of a-z, 0-9, dot, dash and underscore.")

DEFAULT_TENANT = "default"  # whose name is not in the addresses of its deliveries


class Tenant(models.Model):
    name = models.CharField(
        max_length=48, unique=True, validators=[slug], help_text="Appears in addresses and in `aud`."
    )
    title = models.CharField(max_length=200, blank=True)
    # Mixed into identities, so that nobody outside can compute an event's id from its content.
    pepper = models.BinaryField(max_length=32, editable=False)
    witness_quorum = models.PositiveSmallIntegerField(
        default=0, help_text="How many witnesses must have cosigned a checkpoint before it counts as witnessed."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class SecurityLog(models.Model):
    """Which log says who signed in, was refused or took something out of a tenant: a log of its own, with its own
    leaves.
    """

    tenant = models.OneToOneField(Tenant, models.PROTECT, related_name="+")
    log = models.OneToOneField(Tenant, models.PROTECT, related_name="+")

    class Meta:
        db_table = "security_log"

    def __str__(self) -> str:
        return f"{self.log_id} of {self.tenant_id}"


class SealedSecret(models.Model):
    """A shared secret in a box (sealed.py), under the name that a source or an export gives in the place of a variable."""

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    name = models.CharField(max_length=120)
    box = models.BinaryField()
    key_id = models.CharField(max_length=12)  # of the key that sealed it
    changed_at = models.DateTimeField()

    class Meta:
        db_table = "sealed_secret"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="sealed_secret_once")]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    ADMIN = "admin", "Admin: configures everything"
    SECURITY = "security", "Security: investigates, triages findings"
    FINANCE = "finance", "Finance: spend, disputes"
    ABUSE = "abuse", "Abuse desk: sees its own provider's events only"
    AUDITOR = "auditor", "Auditor: reads everything, changes nothing"


class Membership(models.Model):
    """What a person may do in a tenant."""

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)
    provider = models.CharField(max_length=120, blank=True, help_text="For the abuse role: the provider it works for.")
    changes_seen = models.BigIntegerField(
        default=0, editable=False
    )  # leaves up to here were looked at for changes of configuration

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="membership_once"),
            models.CheckConstraint(
                condition=~models.Q(role="abuse") | ~models.Q(provider=""), name="membership_abuse_has_provider"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} as {self.role} in {self.tenant}"


class ApiToken(models.Model):
    """A bearer token of the API, stored as its SHA-256 only."""

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    name = models.CharField(max_length=120)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    role = models.CharField(max_length=10, choices=Role)
    provider = models.CharField(max_length=120, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        null=True,
        related_name="tokens",
        help_text="The person in whose name it acts.",
    )
    issued_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.DO_NOTHING, null=True, related_name="+", db_constraint=False
    )
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, editable=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.role})"


class Heartbeat(models.Model):
    """When a process of the service was last at work."""

    name = models.CharField(max_length=20, primary_key=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class Organisation(models.Model):
    """Who answers for parties, issuers and sources."""

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    name = models.CharField(max_length=120)
    issuers = ArrayField(
        models.CharField(max_length=300), default=list, blank=True, help_text="Issuers whose parties belong to it."
    )
    parties = ArrayField(
        models.CharField(max_length=600), default=list, blank=True,
        help_text="Single parties that belong to it, as issuer|subject, whoever their issuer is.",
    )  # fmt: skip

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="organisation_once")]

    def __str__(self) -> str:
        return self.name


class OwnedName(models.Model):
    """A name or mark that an organisation owns: what lookalikes are measured against."""

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    organisation = models.ForeignKey(Organisation, models.CASCADE, related_name="owned_names")
    name = models.CharField(max_length=253, help_text="A domain (acme.io) or a mark (acme).")
    is_private = models.BooleanField(
        "private", default=False, db_default=False,
        help_text="An abuse desk that reads what was found of it is told neither the mark nor whose it is.",
    )  # fmt: skip

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="owned_name_once")]

    def __str__(self) -> str:
        return self.name


class Witness(models.Model):
    """Somebody else who watches this tenant's log: a C2SP tlog-witness that our checkpoints are submitted to."""

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    name = models.CharField(max_length=200, help_text="The name in its verifier key.")
    url = models.URLField(help_text="Its submission prefix, https; add-checkpoint is appended.")
    vkey = models.TextField(help_text="Its verifier key, of type cosignature/v1.")
    allow_private = models.BooleanField(default=False, help_text="It may be at a private or loopback address.")
    is_active = models.BooleanField(default=True)
    last_size = models.BigIntegerField(default=0, editable=False)  # the newest head it cosigned
    last_error = models.TextField(blank=True, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="witness_once")]

    def __str__(self) -> str:
        return self.name


class RetentionPolicy(models.Model):
    """How long payloads of a type are kept. A new policy only counts what it would erase, until somebody arms it."""

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    name = models.CharField(max_length=60, help_text="Stands in every tombstone that the policy causes.")
    event_type = models.CharField(max_length=200, blank=True, help_text="Empty: every type.")
    keep_days = models.PositiveIntegerField()
    is_armed = models.BooleanField(default=False, help_text="Unarmed, it only reports what it would erase.")
    last_run_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_count = models.BigIntegerField(default=0, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="retention_policy_once")]

    def __str__(self) -> str:
        return self.name


class Source(models.Model):
    """A configured sender. Its name is in every leaf it causes, so it never changes."""

    class State(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    name = models.CharField(max_length=48, validators=[slug])
    format = models.CharField(max_length=30)
    issuer = models.CharField(max_length=300)
    organisation = models.ForeignKey(Organisation, models.SET_NULL, null=True, blank=True)
    provider = models.CharField(max_length=120, blank=True, help_text="The provider whose own word this source is.")
    layers = ArrayField(
        models.CharField(max_length=20), default=list, blank=True, help_text="Layers it may speak for; empty: all."
    )
    speaks_for = ArrayField(
        models.CharField(max_length=300), default=list, blank=True, help_text="Issuers it may speak for; empty: all."
    )
    state = models.CharField(max_length=10, choices=State, default=State.ACTIVE)
    secret_env = models.CharField(max_length=120, blank=True, help_text="Variable that holds the shared secret.")
    audience = models.CharField(
        max_length=300,
        blank=True,
        help_text="The `aud` of its tokens, for CAEP. Empty: urn:answerable: and the tenant's name.",
    )
    jwks_url = models.CharField(
        max_length=500,
        blank=True,
        help_text="Where its public keys are read from, again and again: a JWKS (RFC 7517), by https.",
    )
    poll_url = models.CharField(
        max_length=500, blank=True, help_text="Where its events are asked for, by https. Empty: it sends."
    )
    poll_seconds = models.PositiveIntegerField(
        default=60, validators=[MinValueValidator(5)], help_text="How often it is asked."
    )
    api_key_env = models.CharField(
        max_length=120,
        blank=True,
        help_text="Variable that holds our key for its API, for what is polled or fetched there.",
    )
    api_url = models.CharField(
        max_length=500,
        blank=True,
        help_text="Its API, where what it announces is fetched. Empty: the format's own address.",
    )
    allow_private = models.BooleanField(
        default=False,
        help_text="The addresses above may be private or loopback ones. Without this they are never called.",
    )
    requests_per_second = models.PositiveIntegerField(default=4_000)
    events_per_second = models.PositiveIntegerField(default=100_000)
    heartbeat_seconds = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)],
        help_text="It promises to be heard at least this often, by a `source.heartbeat` when nothing else happens."
        " Empty: it promises nothing.",
    )  # fmt: skip
    heartbeat_since = models.DateTimeField(null=True, editable=False)  # when that was promised
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="source_name_once"),
            # Otherwise two senders could claim the same event.
            models.UniqueConstraint(
                fields=["tenant", "issuer"], condition=models.Q(format="set"), name="source_set_issuer_once"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class SourceKey(models.Model):
    """A public key of a source. Adding and retiring one appends a leaf; rows are never deleted."""

    source = models.ForeignKey(Source, models.PROTECT, related_name="keys")
    kid = models.CharField(max_length=200)
    thumbprint = models.CharField(max_length=43)  # RFC 7638, in every leaf it signed
    jwk = models.JSONField()
    added_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    from_url = models.BooleanField(
        default=False, help_text="Read from the source's JWKS address, and retired when it is gone there."
    )
    left_url = models.BooleanField(
        default=False
    )  # retired because it was gone; one that a person retired never comes back

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["source", "thumbprint"], name="source_key_once"),
            models.UniqueConstraint(
                fields=["source", "kid"], condition=models.Q(retired_at=None), name="source_key_kid_once"
            ),
        ]

    def __str__(self) -> str:
        return self.kid


class Pull(models.Model):
    """What the service asks of a source by itself, when it does so next, and how the last time went. Working state:
    what came of it is in the ledger. Apart from the source, whose row tells every process to read its keys again.
    """

    class Kind(models.TextChoices):
        KEYS = "keys", "its key set is read"
        POLL = "poll", "its events are asked for"
        FETCH = "fetch", "what it announced is fetched"

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    source = models.ForeignKey(Source, models.CASCADE, related_name="pulls")
    kind = models.CharField(max_length=5, choices=Kind)
    due_at = models.DateTimeField(null=True)  # null: as soon as somebody looks
    asked_at = models.DateTimeField(null=True)  # of keys: when a delivery last had them read before their time
    last_at = models.DateTimeField(null=True)
    succeeded_at = models.DateTimeField(null=True)
    brought = models.IntegerField(default=0)  # the last time that it went well
    failures = models.IntegerField(default=0)  # since then
    error = models.TextField(blank=True)  # of the last time; escaped wherever shown
    warning = models.TextField(blank=True)  # of the last time that it went well: what was left out
    state = models.JSONField(default=dict)  # of a poll: the format's position
    position = models.BigIntegerField(default=0)  # of fetches: the next leaf to look at for announcements

    class Meta:
        db_table = "source_pull"
        constraints = [models.UniqueConstraint(fields=["source", "kind"], name="pull_once")]
        indexes = [models.Index(fields=["due_at"], name="pull_due")]

    def __str__(self) -> str:
        return f"{self.source_id} {self.kind}"


class PendingFetch(models.Model):
    """Something that a source announced and that has to be fetched from it: due, done, or given up with a reason."""

    class State(models.TextChoices):
        DUE = "due"
        DONE = "done"
        GIVEN_UP = "given_up", "given up"

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.CASCADE)
    source = models.ForeignKey(Source, models.CASCADE)
    name = models.CharField(max_length=600)  # what is fetched; the same is fetched once
    asks = models.JSONField()  # what the format needs to know to ask for it
    leaf_index = models.BigIntegerField()  # of the announcement
    state = models.CharField(max_length=8, choices=State, default=State.DUE)
    due_at = models.DateTimeField()
    attempts = models.IntegerField(default=0)
    error = models.TextField(blank=True)  # escaped wherever shown
    ended_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "pending_fetch"
        constraints = [models.UniqueConstraint(fields=["tenant", "source", "name"], name="pending_fetch_once")]
        indexes = [models.Index(fields=["source", "state", "due_at"], name="pending_fetch_due")]

    def __str__(self) -> str:
        return f"{self.name}: {self.state}"


class Export(models.Model):
    """Where the tenant's events, findings and cases are sent by webhook: a SIEM. Files and the API need none."""

    class Kind(models.TextChoices):
        OCSF = "ocsf", "OCSF 1.7, as JSON lines"
        CEF = "cef", "CEF, one line each"

    class What(models.TextChoices):
        EVENTS = "events"
        FINDINGS = "findings"
        CASES = "cases"  # what people wrote of their dispute goes along, so nobody gets it who did not ask for it
        SECURITY = "security", "security log"
        BOTH = "both", "events and findings"
        ALL = "all", "events, findings and cases"

    class Scheme(models.TextChoices):
        BEARER = "Bearer", "Authorization: Bearer"
        SPLUNK = "Splunk", "Authorization: Splunk (HTTP Event Collector)"

    class State(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    name = models.CharField(max_length=48, validators=[slug])
    kind = models.CharField(max_length=4, choices=Kind, default=Kind.OCSF)
    what = models.CharField(max_length=8, choices=What, default=What.BOTH)
    url = models.CharField(
        max_length=500, help_text="Where it is posted, by https. Put no secret into it: deliveries are signed."
    )
    secret_env = models.CharField(
        max_length=120,
        blank=True,
        help_text="Variable that holds the secret of its signatures: whsec_ and base64 (Standard Webhooks).",
    )
    token_env = models.CharField(
        max_length=120, blank=True, help_text="Variable that holds the receiver's token, where it wants one."
    )
    token_scheme = models.CharField(
        max_length=6, choices=Scheme, default=Scheme.BEARER, help_text="How the token is sent."
    )
    allow_private = models.BooleanField(default=False, help_text="The address may be a private or loopback one.")
    state = models.CharField(max_length=10, choices=State, default=State.ACTIVE)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="export_once")]

    def __str__(self) -> str:
        return self.name


class ExportStream(models.Model):
    """One of an export's streams: how far it is, and how its last delivery went. `position` is a cursor of siem.py."""

    class What(models.TextChoices):
        EVENTS = "events"
        FINDINGS = "findings"
        CASES = "cases"
        SECURITY = "security"

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    export = models.ForeignKey(Export, models.CASCADE, related_name="streams")
    what = models.CharField(max_length=8, choices=What)
    position = models.BigIntegerField(default=0)
    due_at = models.DateTimeField(null=True)  # null: as soon as there is something
    last_at = models.DateTimeField(null=True)
    succeeded_at = models.DateTimeField(null=True)
    sent = models.BigIntegerField(default=0)  # in all
    failures = models.IntegerField(default=0)  # since the last that went well
    error = models.TextField(blank=True)  # of the last delivery; escaped wherever shown

    class Meta:
        db_table = "export_stream"
        constraints = [models.UniqueConstraint(fields=["export", "what"], name="export_stream_once")]

    def __str__(self) -> str:
        return f"{self.export_id} {self.what}"
