"""Passwords that Django's own validators let through, and this place does not (NIST SP 800-63B, ASVS 6.2)."""

import re

from django.core.exceptions import ValidationError

from auditlog.models import Membership, Tenant

LONGEST = 256  # characters; more would only cost time to hash
SHORTEST_WORD = 4
OURS = ("answerable", "audit", "ledger", "delegation", "password", "passwort", "welcome", "changeme", "letmein",
        "1234567890", "0123456789", "0987654321", "qwertyuiop", "qwertzuiop", "asdfghjkl", "abcdefgh")  # fmt: skip
_LEET = str.maketrans("013457@$!", "oieastasi")


class LongestPassword:
    """Not longer than what is hashed with care."""

    def validate(self, password: str, user=None) -> None:
        if len(password) > LONGEST:
            raise ValidationError(f"A password has at most {LONGEST} characters.", code="password_too_long")

    def get_help_text(self) -> str:
        return f"It may have up to {LONGEST} characters, spaces and any script among them."


class NoWordsOfThisPlace:
    """What is left once the words that anybody would try here are taken out must still be long enough: the service's
    name, the names of tenants and organisations, and the person's own.
    """

    def __init__(self, left: int = 8) -> None:
        self.left = left

    def validate(self, password: str, user=None) -> None:
        plain = left = password.lower().translate(_LEET)
        for word in sorted(self._words(user), key=len, reverse=True):
            left = left.replace(word.translate(_LEET), "")
        if left != plain and len(re.sub(r"[\W_]+", "", left)) < self.left:
            raise ValidationError(
                "This is made of words that anybody would try here: the name of the service, of the organisation or"
                " your own. Add some that are not.",
                code="password_of_this_place",
            )

    def get_help_text(self) -> str:
        return "Not made of the names of the service, the organisation or yourself."

    def _words(self, user) -> set[str]:
        names = list(OURS)
        tenants = Tenant.objects.none()
        if user is not None:
            names += [user.get_username(), user.email.partition("@")[0], user.first_name, user.last_name]
        if user is not None and user.pk:
            tenants = Tenant.objects.filter(pk__in=Membership.objects.filter(user=user).values("tenant"))
        for tenant in tenants:
            names += [tenant.name, tenant.title, *tenant.organisation_set.values_list("name", flat=True)[:200]]
        return {word for name in names for word in re.split(r"\W+", name.lower()) if len(word) >= SHORTEST_WORD}
