"""A security event: who did what at the doors of the service itself, and how it is told to a SIEM.

OCSF 1.7: Authentication 3002 for signing in and out, API Activity 6003 for everything else.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from auditlog.core.siem.cef import cef_line
from auditlog.core.siem.ocsf_out import API, AUTHENTICATION, OTHER, PRODUCT, endpoint, line, metadata, named

# By kind: what it is called, and its severity for a SIEM (OCSF).
KINDS: dict[str, tuple[str, int]] = {
    "signin.succeeded": ("signed in", 1),
    "signin.failed": ("could not sign in", 3),
    "signin.slowed": ("tried too often and has to wait", 3),
    "signout": ("signed out", 1),
    "session.ended": ("ended a session", 1),
    "proof.asked": ("proved again who they are", 1),
    "proof.failed": ("could not prove again who they are", 3),
    "factor.changed": ("changed a second factor or a password", 2),
    "link.made": ("made a one-time link", 2),
    "link.used": ("used a one-time link", 2),
    "delivery.refused": ("was refused at the ingest door", 2),
    "access.refused": ("was refused", 3),
    "record.revealed": ("took the exact bytes of an event", 1),
    "record.exported": ("took a copy out", 2),
    "configuration.changed": ("changed how things are set up", 2),
    "secret.changed": ("changed a secret", 2),
    "stop.pressed": ("stopped an agent", 3),
    "stop.lifted": ("moved to lift a stop", 3),
}
_SEVERITIES = {1: "Informational", 2: "Low", 3: "Medium"}
_ACTIVITIES = {"signin.succeeded": 1, "signin.failed": 1, "signout": 2, "signin.slowed": 1, "session.ended": 2, "access.refused": OTHER, "record.revealed": 2, "record.exported": 2,
               "configuration.changed": 3, "secret.changed": 3,
               "stop.pressed": 3, "stop.lifted": 3}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Noted:
    """One leaf of a security log. What `who` and `what` say was in part written by whoever asked."""

    leaf_index: int
    at: datetime
    kind: str
    who: str
    what: str
    address: str
    result: str
    account: int | None = None
    left_out: int = 0  # events of strangers that were only counted before it

    @property
    def words(self) -> str:
        return KINDS.get(self.kind, (self.kind, 1))[0]


def ocsf(noted: Noted, *, tenant: str) -> bytes:
    is_sign_in = noted.kind in ("signin.succeeded", "signin.failed", "signin.slowed", "signout", "session.ended")
    is_failure = noted.kind in ("signin.failed", "signin.slowed", "access.refused", "proof.failed", "delivery.refused")
    severity = KINDS.get(noted.kind, ("", 1))[1]
    user: dict[str, Any] = {"name": noted.who or "Unknown"} | (
        {} if noted.account is None else {"uid": str(noted.account)}
    )
    activity = _ACTIVITIES.get(noted.kind, OTHER)
    written = named(AUTHENTICATION if is_sign_in else API, activity, noted.kind if activity == OTHER else "") | {
        "time": _ms(noted.at), "severity_id": severity, "severity": _SEVERITIES[severity],
        "status_id": 2 if is_failure else 1, "status": "Failure" if is_failure else "Success",
        "message": f"{noted.who} {noted.words}",
        "metadata": metadata(tenant, uid=f"security-{tenant}-{noted.leaf_index}", code=noted.kind) | {"sequence": noted.leaf_index},
        "src_endpoint": endpoint(noted.address),
        "unmapped": {"answerable": {"what": noted.what, "result": noted.result, "left_out": noted.left_out}},
    }  # fmt: skip
    if is_sign_in:
        written |= {"user": user, "dst_endpoint": {"name": PRODUCT["name"]}}
    else:
        written |= {"actor": {"user": user}, "api": {"operation": noted.what or noted.kind}}
    return line(written)


def cef(noted: Noted, *, tenant: str) -> bytes:
    return cef_line(f"security.{noted.kind}", f"{noted.who} {noted.words}", KINDS.get(noted.kind, ("", 1))[1] * 2, {
        "rt": _ms(noted.at), "externalId": f"security-{tenant}-{noted.leaf_index}", "suser": noted.who, "suid": "" if noted.account is None else noted.account,
        "src": noted.address, "request": noted.what, "outcome": noted.result, "cnt": 1 + noted.left_out, "deviceExternalId": tenant,
    })  # fmt: skip


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
