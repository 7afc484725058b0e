"""Signals: Security Event Tokens that tell others to stop (RFC 8417; OpenID CAEP 1.0 and RISC 1.0 over SSF 1.0).

A subject is named as the record names it: a party by issuer and subject, a token by its `jti`, a grant or a session as
the session that lives by it (RFC 9493; SSF 1.0 section 3). Nothing else of the record goes out with a signal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
SSF = "https://schemas.openid.net/secevent/ssf/event-type/"
SESSION_REVOKED = f"{CAEP}session-revoked"
ACCOUNT_DISABLED, ACCOUNT_ENABLED = f"{RISC}account-disabled", f"{RISC}account-enabled"
VERIFICATION = f"{SSF}verification"
SENT = (SESSION_REVOKED, ACCOUNT_DISABLED, ACCOUNT_ENABLED)  # what a receiver may ask for; verification always comes
KINDS = ("party", "grant", "token", "session")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is stopped. `key`: of a party `iss|sub`, else the id. `principal`: for whom it acts, `iss|sub`; "" unknown."""

    kind: str
    key: str
    principal: str = ""
    issuer: str = ""  # of a token or grant: who issued it


def subject_id(subject: Subject) -> dict[str, Any]:
    """Its subject identifier (RFC 9493)."""
    if subject.kind == "party":
        return _iss_sub(subject.key)
    if subject.kind == "token":
        return (
            {"format": "jwt_id", "iss": subject.issuer, "jti": subject.key}
            if subject.issuer
            else {"format": "opaque", "id": subject.key}
        )
    session = {"format": "opaque", "id": subject.key}
    user = {"user": _iss_sub(subject.principal)} if subject.principal else {}
    return {"format": "complex", "session": session, **user}


def _iss_sub(key: str) -> dict[str, str]:
    issuer, _, sub = key.partition("|")
    return {"format": "iss_sub", "iss": issuer, "sub": sub}


def events_of(subject: Subject, *, lifts: bool = False) -> list[str]:
    """The types of event that tell of a stop of this subject, or that it is lifted. Nothing un-revokes a session."""
    if lifts:
        return [ACCOUNT_ENABLED] if subject.kind == "party" else []
    return [SESSION_REVOKED, *([ACCOUNT_DISABLED] if subject.kind == "party" else [])]


def claims(
    event: str,
    *,
    issuer: str,
    audience: str,
    jti: str,
    txn: str,
    subject: Subject,
    at: datetime,
    by_policy: bool,
    reason: str,
) -> dict[str, Any]:
    """The claims of one SET about a subject. `reason`: for the receiver's administrators, in English."""
    said: dict[str, Any] = {}
    if event.startswith(CAEP):
        said = {
            "event_timestamp": int(at.timestamp()),
            "initiating_entity": "policy" if by_policy else "admin",
            "reason_admin": {"en": reason},
        }
    return {
        "iss": issuer, "jti": jti, "iat": int(at.timestamp()), "aud": audience, "txn": txn, "sub_id": subject_id(subject), "events": {event: said},
    }  # fmt: skip


def verification(
    *, issuer: str, audience: str, jti: str, stream: str, at: datetime, state: str | None
) -> dict[str, Any]:
    """The claims of a verification event (SSF 1.0 section 8.1.4): `state` is echoed where one was given."""
    said: Mapping[str, Any] = {} if state is None else {"state": state}
    return {
        "iss": issuer, "jti": jti, "iat": int(at.timestamp()), "aud": audience, "sub_id": {"format": "opaque", "id": stream},
        "events": {VERIFICATION: dict(said)},
    }  # fmt: skip
