"""People at the door: how often they tried, who they are elsewhere, and links that an admin handed out."""

from django.conf import settings
from django.db import models

from auditlog.models.directory import Role, Tenant


class Attempt(models.Model):
    """How often something was tried at a door lately (database/throttle.py). Forgotten once it succeeds."""

    key = models.BinaryField(max_length=32, primary_key=True)  # a hash of door, account and address
    tries = models.IntegerField()
    last_at = models.DateTimeField()
    open_at = models.DateTimeField()  # nothing is tried before

    class Meta:
        db_table = "signin_attempt"
        indexes = [models.Index(fields=["last_at"], name="signin_attempt_last")]

    def __str__(self) -> str:
        return f"{self.tries} tries"


class Identity(models.Model):
    """That an account is of somebody: as an identity provider said when it signed in, or as an admin linked two. Only
    ever added, so that one person does not become two; the account may be gone.
    """

    user_id = models.BigIntegerField()
    issuer = models.CharField(max_length=300)
    subject = models.CharField(max_length=300)
    said_by = models.CharField(max_length=200)
    at = models.DateTimeField()

    class Meta:
        db_table = "person_identity"
        constraints = [models.UniqueConstraint(fields=["user_id", "issuer", "subject"], name="person_identity_once")]
        indexes = [models.Index(fields=["issuer", "subject"], name="person_identity_by_subject")]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.issuer}|{self.subject}"


class OneTimeLink(models.Model):
    """What an admin hands out: an invitation, or the way to a new password. Kept as its hash; good once, not long."""

    class Kind(models.TextChoices):
        INVITATION = "invitation"
        RESET = "reset", "new password"

    tenant = models.ForeignKey(Tenant, models.CASCADE)
    kind = models.CharField(max_length=10, choices=Kind)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True, related_name="+")  # of a reset
    username = models.CharField(max_length=150, blank=True)  # of an invitation, as the three below
    email = models.EmailField(blank=True)
    role = models.CharField(max_length=10, choices=Role, blank=True)
    provider = models.CharField(max_length=120, blank=True)
    drops_factors = models.BooleanField(default=False)  # of a reset: the second factors are taken off, too
    made_by = models.CharField(max_length=200)
    made_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "one_time_link"

    def __str__(self) -> str:
        return f"{self.kind} by {self.made_by}"
