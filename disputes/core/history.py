"""History: a case's steps as a hash chain, so that none can be changed, dropped or put in between unseen."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256

import rfc8785


@dataclass(frozen=True, slots=True)
class Taken:
    """One step that was taken. `previous` is the digest of the step before it, "" for the first."""

    case: str
    position: int
    from_state: str
    to_state: str
    person: str
    actor: str
    role: str
    reason: str
    policy_version: str
    at: datetime
    previous: str

    def digest(self) -> str:
        """Hex SHA-256 over the JCS (RFC 8785) of the step; times in UTC to the microsecond."""
        at = self.at.astimezone(UTC).isoformat(timespec="microseconds")
        return sha256(rfc8785.dumps(asdict(self) | {"at": at})).hexdigest()


def first_break(steps: Iterable[tuple[Taken, str]]) -> int | None:
    """The position of the first step that its digest, or the step before it, does not fit. None when all hold."""
    previous = ""
    for position, (step, digest) in enumerate(steps):
        if step.position != position or step.previous != previous or step.digest() != digest:
            return position
        previous = digest
    return None
