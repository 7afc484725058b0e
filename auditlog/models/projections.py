"""Projections: what the leaves mean, derived and disposable. Keys lead with (tenant, generation).

A rebuild writes a new generation from leaf zero with the same code and swaps it in; `ProjectionState` says which one
is read. Party keys are `iss|sub`.
"""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models

from auditlog.models.fields import WholeNumber


class ProjectionState(models.Model):
    """How far a tenant's generation has been projected. `position` is the next leaf index to read."""

    pk = models.CompositePrimaryKey("tenant_id", "generation")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    position = models.BigIntegerField(default=0)
    detected = models.BigIntegerField(default=0)  # the next leaf index that detection looks at
    is_current = models.BooleanField(default=False)
    is_stale = models.BooleanField(
        default=False
    )  # payloads were erased since it began: it may still say what they said
    has_mentions = models.BooleanField(
        default=True, db_default=True
    )  # written with `Mention` rows: what was erased can be taken out of it
    projected_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "projection_state"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(is_current=True), name="generation_current_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.tenant_id} generation {self.generation} at {self.position}"


RARE = (
    "limit.set", "limit.raised", "limit.lowered", "limit.reached", "payment.authority_granted", "delegation.granted",
    "domain.registered", "approval.decided", "approval.requested",
)  # fmt: skip


def _key(name: str) -> models.Index:
    """An index for one filter of the events list, read from its end. Partial: most events lack most keys.

    Ascending, so that what arrives goes behind what is there: its pages stay nearly full.
    """
    return models.Index(
        fields=["tenant", "generation", name, "leaf_index"],
        name=f"event_by_{name}",
        condition=~models.Q(**{name: ""}),
    )


class Event(models.Model):
    """A typed event with its chain resolved. Empty text means "not stated"."""

    pk = models.CompositePrimaryKey("tenant_id", "generation", "leaf_index")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    leaf_index = models.BigIntegerField()
    event_id = models.UUIDField()
    source = models.CharField(max_length=48)
    source_event_id = models.TextField()
    issuer = models.TextField()
    type = models.CharField(max_length=200)
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField()
    grade = models.CharField(max_length=1)
    within_remit = models.BooleanField()  # the source may speak for this layer
    outcome = models.CharField(max_length=8)
    environment = models.CharField(max_length=4)
    mode = models.CharField(max_length=13)
    principal = models.TextField()  # the chain's root, else `sub_id`
    principal_claimed = models.BooleanField()
    actor = models.TextField()
    actor_kind = models.CharField(max_length=8)
    claimed_principal = models.TextField()  # `sub_id` as the sender gave it
    verb = models.TextField()
    provider = models.TextField()
    account = models.TextField()
    target_type = models.TextField()
    target = models.TextField()
    resource = models.TextField()
    operation = models.TextField()
    grant = models.TextField()  # as stated, or the id of the grant object
    token = models.TextField()  # as stated, or the jti of the token object
    via_grant = (
        models.TextField()
    )  # the grant that answers: as stated (then the same as `grant`), else through the token
    chain_complete = models.BooleanField()
    chain_proven = models.BooleanField()
    chain_depth = models.SmallIntegerField()
    txn = models.TextField()
    session = models.TextField()
    task = models.TextField()
    project = models.TextField()
    request_id = models.TextField()
    trace_id = models.TextField()
    ip = models.TextField()
    ray_id = models.TextField()  # of a proxy in front of the provider: another name of the request
    idempotency_key = models.TextField()
    phase = models.CharField(max_length=10)
    book = models.CharField(max_length=8, default="")  # incurred | billed | paid | returned | held (core.money.book_of)
    amount_minor = models.BigIntegerField(null=True)  # rounded half to even where `amount` has less than a minor unit
    amount = models.DecimalField(max_digits=40, decimal_places=15, null=True)  # minor units, exact
    currency = models.CharField(max_length=3)
    rail = models.TextField()
    charge = models.TextField()
    payment = models.TextField(default="", db_default="")
    invoice = models.TextField()
    subscription = models.TextField(default="")
    period_from = models.DateTimeField(null=True)
    period_to = models.DateTimeField(null=True)
    payee = models.TextField(default="")
    payer = models.TextField(default="")
    payment_authority = models.TextField()
    through = models.UUIDField(null=True)  # names nobody, and a thing: the event by which an agent made that thing
    jkt = models.TextField()  # thumbprint of the key that a grant or token of this event is bound to (RFC 7800 `cnf`)
    detail = models.BinaryField()  # the typed payload as JSON (core.event.Payload)

    class Meta:
        db_table = "projection_event"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "generation", "event_id"], name="event_once"),
            # So that whoever looks for a grant looks for `via_grant`, and one index serves.
            models.CheckConstraint(
                condition=models.Q(grant="") | models.Q(grant=models.F("via_grant")), name="event_stated_grant_answers"
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "generation", "type", "leaf_index"], name="event_by_type"),
            models.Index(fields=["tenant", "generation", "occurred_at"], name="event_by_time"),
            *(
                _key(name)
                for name in (
                    "principal", "actor", "provider", "account", "target", "token", "via_grant", "txn",
                    "session", "task", "charge", "invoice", "request_id", "ip", "jkt", "ray_id", "idempotency_key", "subscription", "payment",
                )
            ),
            models.Index(fields=["tenant", "generation", "source", "source_event_id"], name="event_by_source_id"),
            # What an erasure asks for: what else tells of a thing, and what was attributed through its making.
            models.Index(fields=["tenant", "generation", "through"], name="event_by_through", condition=models.Q(through__isnull=False)),
            models.Index(fields=["tenant", "generation", "payment_authority"], name="event_by_authority", condition=~models.Q(payment_authority="")),
            models.Index(fields=["tenant", "generation", "resource"], name="event_by_resource", condition=~models.Q(resource="")),
            # What a rule asks for of a principal, among a million calls.
            models.Index(fields=["tenant", "generation", "principal", "type"], name="event_rare", condition=models.Q(type__in=RARE)),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"


class Party(models.Model):
    """Anyone named by an event. Kinds are a bit mask of all that was ever said; see core.party."""

    pk = models.CompositePrimaryKey("tenant_id", "generation", "key")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    key = models.TextField()
    kinds = models.SmallIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        db_table = "projection_party"

    def __str__(self) -> str:
        return self.key


class Mention(models.Model):
    """What the events of one block of leaves say of a party (project_acts.BLOCK): a `Party` is the union of its
    mentions, so a block whose events were erased in part is told anew without reading any other.
    """

    pk = models.CompositePrimaryKey("tenant_id", "generation", "key", "block")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    key = models.TextField()
    block = models.BigIntegerField()
    kinds = models.SmallIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        db_table = "projection_mention"

    def __str__(self) -> str:
        return f"{self.key} in block {self.block}"


class Grant(models.Model):
    """One grant id: the statement that stands, its revocation, and its path. `history` keeps all that was said."""

    pk = models.CompositePrimaryKey("tenant_id", "generation", "id")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    id = models.TextField()
    parent = models.TextField()
    stated = models.BooleanField()  # False: only a revocation is known
    subject = models.TextField()
    actor = models.TextField()
    principal = models.TextField()
    complete = models.BooleanField()
    proven = models.BooleanField()
    depth = models.SmallIntegerField()
    granted_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    leaf_index = models.BigIntegerField()
    history = models.BinaryField()  # all that was said of it, as JSON (core.statement.History)

    class Meta:
        db_table = "projection_grant"
        indexes = [
            models.Index(  # the children of one, in the order in which they were granted
                fields=["tenant", "generation", "parent", "granted_at", "id"],
                name="grant_by_parent",
                condition=~models.Q(parent=""),
            ),
            models.Index(fields=["tenant", "generation", "actor"], name="grant_by_actor"),
            models.Index(fields=["tenant", "generation", "principal"], name="grant_by_principal"),
        ]

    def __str__(self) -> str:
        return self.id


class Token(models.Model):
    pk = models.CompositePrimaryKey("tenant_id", "generation", "jti")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    jti = models.TextField()
    parent_jti = models.TextField()
    stated = models.BooleanField()
    grant = models.TextField()
    via_grant = models.TextField()  # own grant, else the nearest parent token's
    subject = models.TextField()
    actor = models.TextField()
    issued_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    leaf_index = models.BigIntegerField()
    history = models.BinaryField()  # as a grant's

    class Meta:
        db_table = "projection_token"
        indexes = [
            models.Index(
                fields=["tenant", "generation", "parent_jti"],
                name="token_by_parent",
                condition=~models.Q(parent_jti=""),
            ),
            models.Index(
                fields=["tenant", "generation", "actor"], name="token_by_actor", condition=~models.Q(actor="")
            ),
            models.Index(
                fields=["tenant", "generation", "via_grant"], name="token_by_grant", condition=~models.Q(via_grant="")
            ),
        ]

    def __str__(self) -> str:
        return self.jti


class LimitStatement(models.Model):
    """One thing said of a limit, by an event or inside a grant. In force is the latest by time; see core.limits."""

    pk = models.CompositePrimaryKey("tenant_id", "generation", "leaf_index", "position")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    leaf_index = models.BigIntegerField()
    position = models.SmallIntegerField()  # within the event
    event_id = models.UUIDField()
    verb = models.CharField(max_length=8)  # set | raised | lowered | reached | grant
    holder = models.TextField()
    grant = models.TextField()
    principal = models.TextField()  # root above the holder, as far as known
    scope = models.CharField(max_length=10)
    scope_id = models.TextField()  # session, task or project it is about, where the scope is one
    provider = models.TextField()
    currency = models.CharField(max_length=3)
    interval = models.CharField(max_length=5)
    zone = models.TextField()
    max_minor = models.BigIntegerField(null=True)
    enforcement = models.CharField(max_length=10)
    set_by = models.TextField()
    occurred_at = models.DateTimeField()
    limit_id = models.TextField(default="")
    session = models.TextField(default="")  # what the statement names, and so binds
    task = models.TextField(default="")
    project = models.TextField(default="")
    counts = models.BooleanField(default=True)  # its source may say so (layers, issuers)

    class Meta:
        db_table = "projection_limit"
        indexes = [
            models.Index(fields=["tenant", "generation", "holder"], name="limit_by_holder"),
            models.Index(fields=["tenant", "generation", "set_by"], name="limit_by_setter"),
            models.Index(
                fields=["tenant", "generation", "grant"], name="limit_by_grant", condition=~models.Q(grant="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.provider} {self.max_minor} {self.currency}"


class Charge(models.Model):
    """One line of the books (core.books.Line). `lead` names the event whose chain answers for it. Minor units, exact."""

    pk = models.CompositePrimaryKey("tenant_id", "generation", "rail", "charge", "book", "currency")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    rail = models.TextField()
    charge = models.TextField()  # the unit: charge id, `invoice:<id>` or `event:<id>`
    book = models.CharField(max_length=8)  # incurred | billed | paid | held
    currency = models.CharField(max_length=3)
    lead = models.UUIDField()
    leaf_index = models.BigIntegerField()  # of the lead
    at = models.DateTimeField()
    principal = models.TextField()
    actor = models.TextField()
    provider = models.TextField()
    payee = models.TextField()
    account = models.TextField()
    grant = models.TextField()
    session = models.TextField()
    task = models.TextField()
    project = models.TextField()
    authority = models.TextField()
    spent = models.DecimalField(max_digits=40, decimal_places=15)  # the lower bound, net of what came back
    at_most = models.DecimalField(max_digits=40, decimal_places=15)
    returned = models.DecimalField(max_digits=40, decimal_places=15)
    returned_at = ArrayField(models.DateTimeField())  # when each part of it came back
    returned_parts = ArrayField(models.DecimalField(max_digits=40, decimal_places=15))
    held = models.DecimalField(max_digits=40, decimal_places=15)
    held_from = models.DateTimeField(null=True)
    held_until = models.DateTimeField(null=True)
    has_spend = models.BooleanField()  # False: only held
    role = models.CharField(
        max_length=5
    )  # what else may bear on it: open | meter | loose | bill | pool; "" nothing (core.books)
    source = models.CharField(max_length=48)  # of the lead
    is_joined = models.BooleanField()  # several statements are counted in it
    events = ArrayField(models.UUIDField())  # all statements counted in it

    class Meta:
        db_table = "projection_charge"
        indexes = [
            GinIndex(fields=["events"], name="charge_by_events", condition=models.Q(is_joined=True)),
            models.Index(fields=["tenant", "generation", "lead"], name="charge_by_lead"),
            models.Index(fields=["tenant", "generation", "principal", "at"], name="charge_by_principal"),
            models.Index(
                fields=["tenant", "generation", "grant"], name="charge_by_grant", condition=~models.Q(grant="")
            ),
            models.Index(fields=["tenant", "generation", "at"], name="charge_by_time"),
            models.Index(
                fields=["tenant", "generation", "authority"],
                name="charge_by_authority",
                condition=~models.Q(authority=""),
            ),
            # Whether a principal's books rest on more than keys (project_money).
            models.Index(
                fields=["tenant", "generation", "principal", "role", "source"],
                name="charge_by_role",
                condition=~models.Q(role=""),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rail}/{self.charge}"

    @property
    def invoice(self) -> str:
        return self.charge.removeprefix("invoice:")


class Balance(models.Model):
    """What the lines of one principal, actor, grant, provider, payee and currency come to: on a day, in a month (UTC)
    or altogether. Kept by the database with the lines (sql/balances.sql).
    """

    pk = models.CompositePrimaryKey(
        "tenant_id", "generation", "principal", "level", "start", "actor", "grant", "provider", "payee", "currency"
    )
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    principal = models.TextField()
    level = models.CharField(max_length=5)  # day | month | ever
    start = models.DateField()
    actor = models.TextField()
    grant = models.TextField()
    provider = models.TextField()
    payee = models.TextField()
    currency = models.CharField(max_length=3)
    gross = models.DecimalField(max_digits=40, decimal_places=15)  # the lower bound, before anything came back
    held = models.DecimalField(max_digits=40, decimal_places=15)  # by the day on which it was opened
    lines = models.BigIntegerField()
    billed = models.BigIntegerField()  # of the lines, those of invoices
    authorities = models.BigIntegerField()  # of the lines, those under a payment authority

    class Meta:
        db_table = "projection_balance"
        indexes = [  # in whose names somebody spends
            models.Index(
                fields=["tenant", "generation", "actor"], name="balance_by_actor", condition=models.Q(level="ever")
            ),
            models.Index(
                fields=["tenant", "generation", "grant"], name="balance_by_grant", condition=models.Q(level="ever")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.principal} {self.level} {self.start}"


class Rate(models.Model):
    """What the lines of one spender come to in an hour (UTC). Kept by the database with the lines (sql/rates.sql)."""

    pk = models.CompositePrimaryKey("tenant_id", "generation", "principal", "actor", "provider", "currency", "hour")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    principal = models.TextField()
    actor = models.TextField()
    provider = models.TextField()
    currency = models.CharField(max_length=3)
    hour = models.DateTimeField()
    gross = models.DecimalField(max_digits=40, decimal_places=15)  # the lower bound, before anything came back
    lines = models.BigIntegerField()

    class Meta:
        db_table = "projection_rate"

    def __str__(self) -> str:
        return f"{self.principal} {self.hour}"


class Tie(models.Model):
    """What an act has in common with others that no column of an event says (detection/ties.py), as a hash."""

    pk = models.CompositePrimaryKey("tenant_id", "generation", "leaf_index", "tie")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    leaf_index = models.BigIntegerField()
    tie = models.UUIDField()
    value = models.UUIDField(null=True)  # of a call: what was called, with what
    at = models.DateTimeField()

    class Meta:
        db_table = "projection_tie"
        indexes = [
            models.Index(fields=["tenant", "generation", "tie", "at", "leaf_index"], name="tie_in_time"),
            models.Index(
                fields=["tenant", "generation", "tie", "value", "at", "leaf_index"],
                name="tie_by_value",
                condition=models.Q(value__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tie} of leaf {self.leaf_index}"


class Place(models.Model):
    """One sign of where an agent was (detectors.token_elsewhere), as a hash, and when an act first bore it."""

    pk = models.CompositePrimaryKey("tenant_id", "generation", "actor", "place")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    actor = models.TextField()
    place = models.UUIDField()
    first_at = models.DateTimeField()

    class Meta:
        db_table = "projection_place"
        indexes = [models.Index(fields=["tenant", "generation", "actor", "first_at"], name="place_in_time")]

    def __str__(self) -> str:
        return f"{self.actor} from {self.first_at}"


class NameRow(models.Model):
    """A name that was registered, or another thing that was set up, where it counts for `squatting.*` (detection/names.py)."""

    pk = models.CompositePrimaryKey("tenant_id", "generation", "leaf_index")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    leaf_index = models.BigIntegerField()
    event_id = models.UUIDField()
    at = models.DateTimeField()
    what = models.TextField()  # domain, account, mailbox, number, package, project
    name = models.TextField()
    label = models.TextField()  # what of the name its buyer chose
    brand = models.TextField()  # somebody else's mark that it stands close to, or ""
    principal = models.TextField()
    actor = models.TextField()
    jkt = models.TextField()
    grant = models.TextField()
    provider = models.TextField()
    amount_minor = WholeNumber(null=True)
    currency = models.TextField()

    class Meta:
        db_table = "projection_name"
        indexes = [
            models.Index(fields=["tenant", "generation", "what", "principal", "at"], name="name_of_principal"),
            models.Index(fields=["tenant", "generation", "what", "actor", "at"], name="name_of_actor"),
            models.Index(
                fields=["tenant", "generation", "what", "jkt", "at"], name="name_of_key", condition=~models.Q(jkt="")
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Unasked(models.Model):
    """An act that cannot be undone and that nobody asked for by name, under its kind (detection/unforeseen.py)."""

    pk = models.CompositePrimaryKey("tenant_id", "generation", "leaf_index")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    leaf_index = models.BigIntegerField()
    kind = models.UUIDField()  # hash of principal, verb, provider and what it was done to
    at = models.DateTimeField()

    class Meta:
        db_table = "projection_unasked"
        indexes = [
            models.Index(fields=["tenant", "generation", "kind", "at", "leaf_index"], name="unasked_in_time"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of leaf {self.leaf_index}"


class SourceActivity(models.Model):
    """When a source was last heard, by its last leaf."""

    pk = models.CompositePrimaryKey("tenant_id", "generation", "source")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    source = models.CharField(max_length=48)
    events = models.BigIntegerField()
    erased = models.BigIntegerField()  # of them, those whose payload is gone
    leaf_index = models.BigIntegerField()
    received_at = models.DateTimeField()  # of that leaf: the newest by order, whatever our clock did

    class Meta:
        db_table = "projection_source"

    def __str__(self) -> str:
        return self.source


class UnparsedLeaf(models.Model):
    """An event leaf that says nothing in the projections, because its bytes no longer parse. It stays in the ledger."""

    pk = models.CompositePrimaryKey("tenant_id", "generation", "leaf_index")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    leaf_index = models.BigIntegerField()
    source = models.CharField(max_length=48)
    reason = models.TextField()  # escaped wherever shown

    class Meta:
        db_table = "projection_unparsed"

    def __str__(self) -> str:
        return f"leaf {self.leaf_index}: {self.reason}"


class SequenceRun(models.Model):
    """Numbers `first` to `last` of a source's stream, all received or not in use (core.sequence). One row where nothing
    is missing.
    """

    pk = models.CompositePrimaryKey("tenant_id", "generation", "source", "stream", "first")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    source = models.CharField(max_length=48)
    stream = models.CharField(max_length=120)
    first = models.BigIntegerField()
    last = models.BigIntegerField()
    events = models.BigIntegerField()
    leaf_index = models.BigIntegerField()
    received_at = models.DateTimeField()
    is_linked = models.BooleanField(default=False, db_default=False)
    begins = models.BooleanField(default=False, db_default=False)

    class Meta:
        db_table = "projection_sequence"

    def __str__(self) -> str:
        return f"{self.source} {self.stream} {self.first} to {self.last}"


class ClockHour(models.Model):
    """How a source's `iat` stood to our receipt, by key and hour of receipt (detectors.clock_skew)."""

    pk = models.CompositePrimaryKey("tenant_id", "generation", "source", "key", "hour")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    source = models.CharField(max_length=48)
    key = models.CharField(max_length=43)
    hour = models.DateTimeField()
    events = models.BigIntegerField()
    ahead = models.BigIntegerField()
    least_lag_us = models.BigIntegerField()  # receipt minus `iat`, microseconds
    most_lag_us = models.BigIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    leaf_index = models.BigIntegerField()  # of the least lag
    event_id = models.UUIDField()

    class Meta:
        db_table = "projection_clock"

    def __str__(self) -> str:
        return f"{self.source} {self.hour}"


class Holding(models.Model):
    """Something that was made or linked and may still be there (core.holding). `event_id` is its first making."""

    pk = models.CompositePrimaryKey("tenant_id", "generation", "provider", "kind", "id")
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    generation = models.IntegerField()
    provider = models.TextField()
    kind = models.CharField(max_length=20)
    id = models.TextField()
    event_id = models.UUIDField(null=True)  # of the making; null: only its end is known
    made_at = models.DateTimeField(null=True)
    last_made_at = models.DateTimeField(null=True)
    how = models.CharField(max_length=7)
    account = models.TextField()
    matched_by = models.TextField()
    ended_at = models.DateTimeField(null=True)
    ended_by = models.UUIDField(null=True)
    accounts = ArrayField(
        models.TextField(), default=list, db_default=[]
    )  # that makings of this name state, a few of them

    class Meta:
        db_table = "projection_holding"
        indexes = [
            models.Index(fields=["tenant", "generation", "event_id"], name="holding_by_event"),
            models.Index(fields=["tenant", "generation", "-made_at", "-event_id"], name="holding_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id} at {self.provider}"

    @property
    def is_live(self) -> bool:
        """Made, and not ended since; meant for rows whose making is known."""
        return self.ended_at is None or self.ended_at < self.last_made_at


class Dirty(models.Model):
    """What detection must look at again, beside the new leaves: something older changed its meaning, or a rule about
    absence waits for `due_at`. Written in the transaction that changed it.
    """

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.CASCADE, db_index=False, db_constraint=False)
    # What its meaning hangs on: all | event | grant | token | party | principal | under; waiting: grace | big | caps | key; of sources:
    # refusal | sequence | silence | clock (detection/detect.py)
    kind = models.CharField(max_length=9)
    key = models.TextField()
    leaf_index = models.BigIntegerField()  # the leaf that made it dirty
    due_at = models.DateTimeField()

    class Meta:
        db_table = "projection_dirty"
        indexes = [models.Index(fields=["tenant", "due_at", "id"], name="dirty_next")]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"
