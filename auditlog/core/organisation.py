"""Who answers for whom: organisations as the configuration maps them to issuers, parties and sources.

Two issuers of one company are one voice, and two customers of one issuer are two. What is not mapped is unknown, and
stays so: an issuer that nobody maps may belong to anybody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from auditlog.core.chain import Hop


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
    speakers: Mapping[str, frozenset[str]] = field(default_factory=dict)  # provider -> issuers of the sources that speak as it

    def of_issuer(self, issuer: str) -> str | None:
        return self.by_issuer.get(issuer)

    def of_party(self, key: str) -> str | None:
        return self.by_party.get(key) or self.by_issuer.get(key.partition("|")[0])

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
                return Gain(True, "it answers for this party" if party == hop.party else f"it answers for {party.sub}, who acts by this")
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
