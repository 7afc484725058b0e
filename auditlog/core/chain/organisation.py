"""Who answers for whom: organisations as the configuration maps them to issuers, parties and sources.

Two issuers of one company are one voice, and two customers of one issuer are two. What is not mapped is unknown, and
stays so: an issuer that nobody maps may belong to anybody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from auditlog.core.chain.chain import Hop

# Where anybody may have an account: two parties of one of these are two strangers.
PUBLIC_LOGINS = frozenset(
    "https://accounts.google.com https://github.com https://gitlab.com https://appleid.apple.com https://login.live.com "
    "https://www.facebook.com https://www.linkedin.com https://www.linkedin.com/oauth https://huggingface.co "
    "https://login.microsoftonline.com/common/v2.0 https://login.microsoftonline.com/consumers/v2.0 "
    "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0".split()
)


@dataclass(frozen=True, slots=True)
class Gain:
    """Whether somebody gains by its own word, and how. None: it cannot be told."""

    gains: bool | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Organisations:
    """Names of organisations by issuer and by party key (`iss|sub`); a party's own entry comes before its issuer's."""

    by_issuer: Mapping[str, str] = field(default_factory=dict)
    by_party: Mapping[str, str] = field(default_factory=dict)
    speakers: Mapping[str, frozenset[str]] = field(
        default_factory=dict
    )  # provider -> issuers of the sources that speak as it

    def of_issuer(self, issuer: str) -> str | None:
        return self.by_issuer.get(issuer)

    def of_party(self, key: str) -> str | None:
        return self.by_party.get(key) or self.by_issuer.get(key.partition("|")[0])

    def are_one(self, one: str, other: str) -> bool | None:
        """Whether two parties are of one organisation. Of an issuer that nobody maps, its parties are: it is one itself,
        unless anybody may log in there. None: it cannot be told.
        """
        mine, theirs = self.of_party(one), self.of_party(other)
        if mine and theirs:
            return mine == theirs
        issuer = one.partition("|")[0]
        if mine or theirs or issuer != other.partition("|")[0] or issuer.rstrip("/") in PUBLIC_LOGINS:
            return None
        return True

    def gain_of(self, hop: Hop, *, below: Iterable[Hop] = (), provider: str | None = None) -> Gain:
        """Whether who vouches for this hop gains by it: it answers for a party that received authority by this hop or
        `below` it, or for the `provider` at which the act was done, and who was paid for it.

        `provider` None: nothing was done or paid. "": something was, and nobody says by whom it was taken.
        """
        if hop.attester is None:
            return Gain(None)
        unknown = False
        for party in (hop.party, *(one.party for one in below)):
            same = self._same(hop.attester, party.iss, self.of_party(party.key))
            if same:
                return Gain(
                    True,
                    "it answers for this party"
                    if party == hop.party
                    else f"it answers for {party.sub}, who acts by this",
                )
            unknown |= same is None
        if provider is not None:
            issuers = self.speakers.get(provider, ())
            taken = [self._same(hop.attester, issuer, self.of_issuer(issuer)) for issuer in issuers]
            if any(taken):
                return Gain(True, f"it is {provider}, where this was done")
            unknown |= not taken or None in taken
        return Gain(None if unknown else False)

    def _same(self, attester: str, issuer: str, organisation: str | None) -> bool | None:
        """Whether the attester and the other are one organisation. None: they differ by name and are not both mapped."""
        vouches = self.of_issuer(attester)
        if vouches and organisation:
            return vouches == organisation
        return True if attester == issuer else None


NONE_MAPPED = Organisations()
