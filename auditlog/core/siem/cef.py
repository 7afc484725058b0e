"""CEF out: one line for SIEMs that do not read OCSF (ArcSight Common Event Format, version 0, implementation standard
25).

`CEF:0|vendor|product|version|signature|name|severity|key=value key=value`. In the header `\\\\` and `|` are escaped, in
a value `\\\\`, `=` and line ends; every other control character and what reorders text is written out, in both. So
nothing that a sender wrote can add a field or a line.
"""

from collections.abc import Mapping
from datetime import datetime
from ipaddress import ip_address

from auditlog.core.chain.act import Act
from auditlog.core.chain.chain import Chain
from auditlog.core.event import Party
from auditlog.core.finding import Kept
from auditlog.core.siem.case_step import CaseStep
from auditlog.core.siem.ocsf_out import PRODUCT
from auditlog.core.text import visible

_SEVERITIES = {"info": 1, "low": 3, "medium": 5, "high": 8, "critical": 10}
_LONGEST = 1_000  # characters of a value; the standard allows 1,023 in most


def cef_line(signature: str, name: str, severity: int, extension: Mapping[str, str | int]) -> bytes:
    """One line, its end included. Values that are "" are left out; keys are ours, never a sender's."""
    header = ("CEF:0", PRODUCT["vendor_name"], PRODUCT["name"], PRODUCT["version"], signature, name, str(severity))
    said = " ".join(f"{key}={_value(str(value))}" for key, value in extension.items() if value != "")
    return f"{'|'.join(_header(part) for part in header)}|{said}\n".encode()


def _header(text: str) -> str:
    return visible(_cut(text)).replace("\\", "\\\\").replace("|", "\\|")


def _value(text: str) -> str:
    """Lines stay lines, as `\\\\n` and `\\\\r`; a space at an end, where a reader would lose it, stays as it is."""
    shown = _cut(text).replace("\\", "\\\\").replace("=", "\\=").split("\n")
    return "\\n".join("\\r".join(visible(part) for part in row.split("\r")) for row in shown)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def event_line(act: Act, chain: Chain, *, tenant: str, original_uid: str = "") -> bytes:
    """An event: `suser` is who it was done for, cs1 who acted, cs4 the chain between them, oldest first."""
    payload = act.payload
    principal, actor = _party(act.principal), _party(act.actor)
    said: dict[str, str | int] = {
        "rt": _milliseconds(act.received_at),
        "start": _milliseconds(act.occurred_at),
        "externalId": act.event_id,
        "cat": act.type,
        "act": act.verb,
        "outcome": act.outcome,
        "suser": principal.sub if principal else "",
        "suid": act.principal,
        "sourceServiceName": act.source,
        "destinationServiceName": act.provider,
        "duid": act.account,
        "requestClientApplication": payload.client.user_agent if payload.client else "",
        "requestContext": act.request_id,
        "reason": payload.call.error if payload.call else "",
        "deviceExternalId": tenant,
    }
    said |= _address(payload.client.ip if payload.client else "")
    said |= _custom("cs", [
        ("agent", act.actor), ("grant", act.via_grant or act.grant), ("transaction", act.txn),
        ("chain", " > ".join(f"{hop.party.sub} ({hop.standing})" for hop in chain.hops)),
        ("evidenceGrade", act.grade), ("target", act.object),
    ])  # fmt: skip
    said |= _custom(
        "cn", [("leafIndex", act.leaf_index), ("amountMinor", "" if act.amount_minor is None else act.amount_minor)]
    )
    said |= _custom("flexString", [("currency", act.currency), ("originalId", original_uid)])
    done = " ".join(filter(None, (act.verb or act.type, act.object)))
    return cef_line(act.type, f"{actor.sub if actor else 'somebody unknown'}: {done}", 1, said)


def finding_line(kept: Kept, *, tenant: str) -> bytes:
    """A finding as it stands; `externalId` stays the same for all its changes."""
    finding = kept.finding
    principal = _party(finding.principal or "")
    said: dict[str, str | int] = {
        "rt": _milliseconds(kept.detected_at),
        "start": _milliseconds(finding.first_at),
        "end": _milliseconds(finding.last_at),
        "externalId": kept.finding_uid,
        "cat": finding.rule,
        "outcome": kept.state,
        "msg": finding.title,
        "reason": kept.comment,
        "suser": principal.sub if principal else "",
        "suid": finding.principal or "",
        "destinationServiceName": finding.provider or "",
        "cnt": max(1, len(finding.events)),
        "deviceExternalId": tenant,
    }
    said |= _custom(
        "cs",
        [
            ("agent", finding.actor or ""),
            ("grant", finding.grant or ""),
            ("firstEvent", next(iter(finding.events), "")),
        ],
    )
    said |= _custom(
        "cn",
        [
            ("change", kept.change),
            ("amountMinor", "" if finding.money_at_risk_minor is None else finding.money_at_risk_minor),
        ],
    )
    said |= _custom("flexString", [("currency", finding.currency or "")])
    return cef_line(finding.rule, finding.title, _SEVERITIES[finding.severity], said)


def case_line(step: CaseStep, *, tenant: str) -> bytes:
    """A case after one of its steps; `externalId` is its reference in all of them, `cn1` the step."""
    principal, severity = _party(step.principal), _SEVERITIES.get(step.severity, _SEVERITIES["medium"])
    said: dict[str, str | int] = {
        "rt": _milliseconds(step.at),
        "start": _milliseconds(step.opened_at),
        "externalId": step.uid,
        "cat": f"case.{step.kind}",
        "outcome": step.state,
        "msg": step.complaint,
        "reason": step.reason,
        "suser": principal.sub if principal else "",
        "suid": step.principal,
        "destinationServiceName": step.provider,
        "cnt": max(1, len(step.acts)),
        "deviceExternalId": tenant,
    }
    said |= _custom("cs", [
        ("agent", step.actor), ("by", f"{step.by} ({step.role})"), ("firstEvent", step.acts[0].event_id if step.acts else ""),
        ("decided", step.outcome), ("mergedInto", step.merged_into),
        ("finding", "" if step.finding is None else f"finding-{step.finding}"),
    ])  # fmt: skip
    said |= _custom(
        "cn",
        [("step", step.step), ("claimedMinor", "" if step.claimed_minor is None else step.claimed_minor)],
    )
    said |= _custom("flexString", [("currency", step.claimed_currency)])
    return cef_line(f"case.{step.state}", f"{step.uid}: {step.title}", severity, said)


def _custom(kind: str, values: list[tuple[str, str | int]]) -> dict[str, str | int]:
    """Custom fields: cs1 with cs1Label, and so on; a number keeps its meaning where another is left out."""
    named: dict[str, str | int] = {}
    for number, (label, value) in enumerate(values, 1):
        if value != "":
            named |= {f"{kind}{number}": value, f"{kind}{number}Label": label}
    return named


def _address(ip: str) -> dict[str, str | int]:
    """`src` is an IPv4 address, c6a2 an IPv6 one; what is neither is said nowhere."""
    try:
        version = ip_address(ip).version
    except ValueError:
        return {}
    return {"src": ip} if version == 4 else {"c6a2": ip, "c6a2Label": "source address"}


def _party(key: str) -> Party | None:
    return Party.of(key) if key else None
