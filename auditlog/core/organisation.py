"""Who answers for whom: organisations as the configuration maps them to issuers, parties and sources.

Two issuers of one company are one voice, and two customers of one issuer are two. What is not mapped is unknown, and
stays so: an issuer that nobody maps may belong to anybody.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from auditlog.core.chain import Hop


@dataclass(frozen=True, slots=True)
class Organisations:
    """Names of organisations by issuer and by party key (`iss|sub`); a party's own entry comes before its issuer's."""

    by_issuer: Mapping[str, str] = field(default_factory=dict)
    by_party: Mapping[str, str] = field(default_factory=dict)

    def of_issuer(self, issuer: str) -> str | None:
        return self.by_issuer.get(issuer)

    def of_party(self, key: str) -> str | None:
        return self.by_party.get(key) or self.by_issuer.get(key.partition("|")[0])

    def attester_gains(self, hop: Hop) -> bool | None:
        """Whether who vouches for this hop answers for the party that received it: its word in its own favour.

        None when it cannot be told: nobody vouches, or they differ by name and are not both mapped.
        """
        if hop.attester is None:
            return None
        vouches, receives = self.of_issuer(hop.attester), self.of_party(hop.party.key)
        if vouches and receives:
            return vouches == receives
        return True if hop.attester == hop.party.iss else None


NONE_MAPPED = Organisations()
