"""The ledger: insert-only, but for the log's head. Keys lead with (tenant, epoch).

Foreign keys are not checked by the database here: a check a row costs more than the row, and both sides are ours.
`sql/append_only.sql` forbids UPDATE, DELETE and TRUNCATE by trigger and by grant; `append.py` writes by COPY.
"""

from django.db import models

from auditlog.core.log import leaf

KIND_NUMBERS = {kind: number for number, kind in enumerate(leaf.KINDS)}
KIND_NAMES = dict(enumerate(leaf.KINDS))


class LogHead(models.Model):
    """One row a log: the committed size and right edge. Locked by whoever appends."""

    pk = models.CompositePrimaryKey("tenant_id", "epoch")
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT)
    epoch = models.SmallIntegerField(default=1)
    size = models.BigIntegerField(default=0)
    edge = models.BinaryField()  # the roots of the perfect subtrees, largest first (core.merkle.Edge)
    fence = models.BigIntegerField(default=0)  # of the publisher that may sign

    class Meta:
        db_table = "ledger_head"

    def __str__(self) -> str:
        return f"log of {self.tenant_id}, {self.size} leaves"


class Leaf(models.Model):
    """A place in the log: all that the leaf's canonical bytes are made of (core.leaf)."""

    pk = models.CompositePrimaryKey("tenant_id", "epoch", "leaf_index")
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False, db_constraint=False)
    epoch = models.SmallIntegerField()
    leaf_index = models.BigIntegerField()
    kind = models.SmallIntegerField(choices=[(n, k) for k, n in KIND_NUMBERS.items()])
    # Of events and conflicts: derived from tenant, source and source event id, so that it doubles as the identity.
    event_id = models.UUIDField(null=True)
    source = models.ForeignKey("auditlog.Source", models.PROTECT, null=True, db_index=False, db_constraint=False)
    received_at = models.DateTimeField()
    grade = models.CharField(max_length=1)
    key = models.CharField(max_length=43)  # thumbprint; "-" for none
    commitment = models.BinaryField(max_length=32)

    class Meta:
        db_table = "ledger_leaf"
        constraints = [
            # Exactly once, for ever.
            models.UniqueConstraint(fields=["tenant", "event_id"], name="leaf_identity_once"),
        ]
        indexes = [
            # The leaves that the service wrote itself: few, and asked for by kind.
            models.Index(
                fields=["tenant", "epoch", "kind", "leaf_index"], condition=models.Q(event_id=None), name="leaf_own"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tenant_id}/{self.leaf_index}"


class Payload(models.Model):
    """The exact bytes of a leaf, and the salt that ties them to it. Apart, so that they can be erased."""

    pk = models.CompositePrimaryKey("tenant_id", "epoch", "leaf_index")
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False, db_constraint=False)
    epoch = models.SmallIntegerField()
    leaf_index = models.BigIntegerField()
    salt = models.BinaryField(max_length=32)
    source_event_id = models.TextField()
    headers = models.BinaryField(default=b"")  # signed headers, JCS; empty when the signature lies in the bytes
    raw = models.BinaryField()

    class Meta:
        db_table = "ledger_payload"

    def __str__(self) -> str:
        return f"{self.tenant_id}/{self.leaf_index}"


class Tile(models.Model):
    """A full tile of 256 hashes (C2SP tlog-tiles), written by the publisher as it re-derives the tree."""

    pk = models.CompositePrimaryKey("tenant_id", "epoch", "level", "number")
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False, db_constraint=False)
    epoch = models.SmallIntegerField()
    level = models.SmallIntegerField()
    number = models.BigIntegerField()
    hashes = models.BinaryField()

    class Meta:
        db_table = "ledger_tile"

    def __str__(self) -> str:
        return f"{self.tenant_id}/tile/{self.level}/{self.number}"


class Checkpoint(models.Model):
    """A signed head, as published. `edge` lets the next one be derived without reading the whole log."""

    pk = models.CompositePrimaryKey("tenant_id", "epoch", "size")
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False, db_constraint=False)
    epoch = models.SmallIntegerField()
    size = models.BigIntegerField()
    root = models.BinaryField(max_length=32)
    edge = models.BinaryField()
    note = models.TextField()
    signed_at = models.DateTimeField()

    class Meta:
        db_table = "ledger_checkpoint"

    def __str__(self) -> str:
        return f"{self.tenant_id} at {self.size}"


class LogKey(models.Model):
    """A public key that signs this log, as a verifier key (C2SP signed-note). The private one is never in here."""

    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False, db_constraint=False)
    epoch = models.SmallIntegerField()
    vkey = models.TextField()
    from_size = models.BigIntegerField()  # checkpoints of this size or more may carry it
    added_at = models.DateTimeField()

    class Meta:
        db_table = "ledger_log_key"
        constraints = [models.UniqueConstraint(fields=["tenant", "epoch", "vkey"], name="log_key_once")]

    def __str__(self) -> str:
        return self.vkey


class Cosignature(models.Model):
    """A witness's signature line on a checkpoint (C2SP tlog-cosignature): it saw this head, after all earlier ones."""

    pk = models.CompositePrimaryKey("tenant_id", "epoch", "size", "witness")
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False, db_constraint=False)
    epoch = models.SmallIntegerField()
    size = models.BigIntegerField()
    witness = models.CharField(max_length=200)
    line = models.TextField()
    received_at = models.DateTimeField()

    class Meta:
        db_table = "ledger_cosignature"

    def __str__(self) -> str:
        return f"{self.witness} on {self.tenant_id} at {self.size}"


class PublisherState(models.Model):
    """What the publisher thinks of a log: whether it signs, and if not, why. Not part of the ledger."""

    tenant = models.OneToOneField("auditlog.Tenant", models.CASCADE, primary_key=True)
    is_signing = models.BooleanField(default=True)
    reason = models.TextField(blank=True)
    at = models.DateTimeField()

    class Meta:
        db_table = "publisher_state"

    def __str__(self) -> str:
        return f"{self.tenant_id}: {'signing' if self.is_signing else self.reason}"


class Hold(models.Model):
    """A legal hold over leaves [first_leaf, last_leaf]: nothing in it is erased. Made by the hold leaf at `leaf_index`."""

    pk = models.CompositePrimaryKey("tenant_id", "epoch", "leaf_index")
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False, db_constraint=False)
    epoch = models.SmallIntegerField()
    leaf_index = models.BigIntegerField()
    first_leaf = models.BigIntegerField()
    last_leaf = models.BigIntegerField()
    case = models.TextField(blank=True)
    reason = models.TextField()

    class Meta:
        db_table = "ledger_hold"

    def __str__(self) -> str:
        return f"{self.tenant_id} hold {self.leaf_index}"


class Release(models.Model):
    """The end of a hold, made by the release leaf at `leaf_index`."""

    pk = models.CompositePrimaryKey("tenant_id", "epoch", "leaf_index")
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False, db_constraint=False)
    epoch = models.SmallIntegerField()
    leaf_index = models.BigIntegerField()
    hold_leaf = models.BigIntegerField()

    class Meta:
        db_table = "ledger_release"
        constraints = [models.UniqueConstraint(fields=["tenant", "epoch", "hold_leaf"], name="release_once")]

    def __str__(self) -> str:
        return f"{self.tenant_id} release of {self.hold_leaf}"


class Edge(models.Model):
    """The tiles of the newest checkpoint that are not full yet, one a level. Derived: the publisher rewrites it."""

    pk = models.CompositePrimaryKey("tenant_id", "epoch", "level")
    tenant = models.ForeignKey("auditlog.Tenant", models.PROTECT, db_index=False, db_constraint=False)
    epoch = models.SmallIntegerField()
    level = models.SmallIntegerField()
    number = models.BigIntegerField()
    hashes = models.BinaryField()

    class Meta:
        db_table = "ledger_edge"

    def __str__(self) -> str:
        return f"{self.tenant_id}/edge/{self.level}"


class LedgerEntry(models.Model):
    """A view of leaves for the admin, which wants one key column. Nothing can be written through it."""

    id = models.TextField(primary_key=True)
    tenant = models.ForeignKey("auditlog.Tenant", models.DO_NOTHING)
    leaf_index = models.BigIntegerField()
    kind = models.SmallIntegerField(choices=[(n, k) for k, n in KIND_NUMBERS.items()])
    event_id = models.UUIDField(null=True)
    source = models.ForeignKey("auditlog.Source", models.DO_NOTHING, null=True)
    received_at = models.DateTimeField()
    grade = models.CharField(max_length=1)
    key = models.CharField(max_length=43)

    class Meta:
        managed = False
        db_table = "ledger_entry"
        verbose_name_plural = "ledger entries"
        ordering = ["tenant", "-leaf_index"]

    def __str__(self) -> str:
        return self.id
