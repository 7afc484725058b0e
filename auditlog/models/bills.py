"""Bills: what providers say was spent, line by line, and what each line was found to be."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from auditlog.models.directory import Tenant

_AMOUNT = {"max_digits": 45, "decimal_places": 20}  # minor units, exact


class Bill(models.Model):
    """One file as it was handed in. `leaf_index` commits to its bytes."""

    tenant = models.ForeignKey(Tenant, models.PROTECT)
    number = models.IntegerField()
    format = models.CharField(max_length=16)
    provider = models.CharField(max_length=120, blank=True)
    file_name = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=64)
    raw = models.BinaryField()
    grade = models.CharField(max_length=1, default="F")  # handed in by a person; E: fetched by us
    importer = models.CharField(max_length=200)
    imported_at = models.DateTimeField()
    leaf_index = models.BigIntegerField()
    lines = models.IntegerField()
    new_lines = models.IntegerField()
    changed_lines = models.IntegerField()  # known already, and said otherwise now: not taken
    begins = models.DateTimeField()
    ends = models.DateTimeField()

    class Meta:
        db_table = "bill"
        constraints = [models.UniqueConstraint(fields=["tenant", "number"], name="bill_number_once")]

    def __str__(self) -> str:
        return self.ref

    @property
    def ref(self) -> str:
        return f"B-{self.number}"


class BillLine(models.Model):
    """A line (core.bills.line), once, whatever files it comes in; and what it was found to be (core.bills.match)."""

    class State(models.TextChoices):
        MATCHED = "matched"
        DIFFERS = "differs", "matched, at another price"
        UNEXPLAINED = "unexplained"
        APART = "apart", "tax, credit, fee or rounding"

    tenant = models.ForeignKey(Tenant, models.CASCADE, db_index=False)
    bill = models.ForeignKey(Bill, models.CASCADE, related_name="of_it")
    key = models.CharField(max_length=64)
    said = models.CharField(max_length=64)  # digest of what it says
    position = models.IntegerField()
    at = models.DateTimeField()
    until = models.DateTimeField()
    amount = models.DecimalField(**_AMOUNT)
    currency = models.CharField(max_length=3)
    kind = models.CharField(max_length=10)
    provider = models.TextField()
    account = models.TextField()
    resource = models.TextField()
    service = models.TextField()
    operation = models.TextField()
    invoice = models.TextField()
    agent = models.TextField()
    api_key = models.TextField()
    refs = ArrayField(models.TextField())
    description = models.TextField()  # escaped wherever shown
    state = models.CharField(max_length=11, choices=State, blank=True)
    reason = models.TextField(blank=True)
    difference = models.DecimalField(**_AMOUNT, default=0)

    class Meta:
        db_table = "bill_line"
        constraints = [models.UniqueConstraint(fields=["tenant", "key"], name="bill_line_once")]
        indexes = [
            models.Index(fields=["tenant", "provider", "at"], name="bill_line_in_time"),
            models.Index(fields=["bill", "state", "position"], name="bill_line_by_state"),
        ]

    def __str__(self) -> str:
        return f"{self.bill_id} {self.position}"


class BillShare(models.Model):
    """A charge on record that a line goes with, and how much of the line it is."""

    tenant = models.ForeignKey(Tenant, models.CASCADE, db_index=False)
    line = models.ForeignKey(BillLine, models.CASCADE, related_name="shares")
    lead = models.UUIDField()  # the event that leads the charge
    amount = models.DecimalField(**_AMOUNT)
    agent = models.TextField()
    principal = models.TextField()

    class Meta:
        db_table = "bill_share"
        indexes = [models.Index(fields=["tenant", "lead"], name="bill_share_by_event")]

    def __str__(self) -> str:
        return f"{self.line_id} {self.lead}"


class Unbilled(models.Model):
    """A charge on record that no line of its provider's bills shows, within the time that they cover."""

    tenant = models.ForeignKey(Tenant, models.CASCADE, db_index=False)
    provider = models.TextField()  # whose bills they are, as these name it
    lead = models.UUIDField()
    leaf_index = models.BigIntegerField()
    at = models.DateTimeField()
    amount = models.DecimalField(**_AMOUNT)
    currency = models.CharField(max_length=3)
    agent = models.TextField()
    principal = models.TextField()
    has_act = models.BooleanField()

    class Meta:
        db_table = "bill_missing"
        indexes = [models.Index(fields=["tenant", "provider", "at"], name="unbilled_in_time")]

    def __str__(self) -> str:
        return f"{self.provider} {self.lead}"


class BillMapping(models.Model):
    """Which column of a provider's CSV is what: kept from one import to the next."""

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    provider = models.CharField(max_length=120, blank=True)
    columns = models.JSONField()

    class Meta:
        db_table = "bill_mapping"
        constraints = [models.UniqueConstraint(fields=["tenant", "provider"], name="bill_mapping_once")]

    def __str__(self) -> str:
        return self.provider


class Statement(models.Model):
    """A closed month: what was said of it then, signed. What comes later is an adjustment of a later month."""

    tenant = models.ForeignKey(Tenant, models.PROTECT)
    month = models.DateField()
    body = models.JSONField()
    signed = models.TextField()  # the same, as a compact JWS
    closed_at = models.DateTimeField()
    closed_by = models.CharField(max_length=200)
    leaf_index = models.BigIntegerField()

    class Meta:
        db_table = "bill_statement"
        constraints = [models.UniqueConstraint(fields=["tenant", "month"], name="statement_once")]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"
