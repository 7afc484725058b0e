"""OCSF 1.7.0 out: what an event and a finding are to a SIEM (Open Cybersecurity Schema Framework, schema.ocsf.io).

Classes by event type: Account Change 3001, Authentication 3002, Authorize Session 3003, Entity Management 3004, User
Access Management 3005, API Activity 6003 for everything else. Findings are Detection Finding 2004, those of over-broad
delegation IAM Analysis Finding 2008; a dispute's case is Incident Finding 2005, told at each of its steps. What 1.7 has
no place for (delegation, agents, money, evidence) is under `unmapped`: `ai_agent` and `delegation` with the names that
1.9 gives them, `answerable` with ours.

What nobody said is `Unknown` (0), what OCSF has no word for `Other` (99) under our word. An identifier (`uid`) is as
the sender wrote it; a text for eyes (`name`, `title`, `message`) has its hidden characters written out. Written as
ASCII, one line an object: whatever a sender put in, nothing reorders, hides or begins a line.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from auditlog.core.chain.act import Act
from auditlog.core.chain.chain import Chain, Hop
from auditlog.core.chain.statement import Grant
from auditlog.core.event import GrantObject, Party, TokenObject
from auditlog.core.finding import Kept
from auditlog.core.siem.case_step import CaseStep, Contested
from auditlog.core.text import visible

VERSION = "1.7.0"
PRODUCT = {"name": "Answerable", "vendor_name": "Answerable", "version": "0.1.0"}
UNKNOWN, OTHER = 0, 99
MOST = 100  # of hops, privileges and members of a finding that are written; how many there are is written too
_TEXT = 2_000  # characters of a text

ACCOUNT, AUTHENTICATION, SESSION, ENTITY, ACCESS, API = 3001, 3002, 3003, 3004, 3005, 6003
DETECTION, INCIDENT, IAM_FINDING = 2004, 2005, 2008
_CLASSES = {
    ACCOUNT: "Account Change", AUTHENTICATION: "Authentication", SESSION: "Authorize Session", ENTITY: "Entity Management",
    ACCESS: "User Access Management", API: "API Activity", DETECTION: "Detection Finding", IAM_FINDING: "IAM Analysis Finding",
    INCIDENT: "Incident Finding",
}  # fmt: skip
_CATEGORIES = {2: "Findings", 3: "Identity & Access Management", 6: "Application Activity"}
_CRUD = {1: "Create", 2: "Read", 3: "Update", 4: "Delete"}
_FINDING_ACTIVITIES = {1: "Create", 2: "Update", 3: "Close"}
_ACTIVITIES: dict[int, dict[int, str]] = {
    ACCOUNT: {1: "Create"},
    AUTHENTICATION: {1: "Logon", 2: "Logoff", 3: "Authentication Ticket", 4: "Service Ticket Request"},
    SESSION: {1: "Assign Privileges"},
    ENTITY: _CRUD,
    ACCESS: {1: "Assign Privileges", 2: "Revoke Privileges"},
    API: _CRUD,
    DETECTION: _FINDING_ACTIVITIES,
    IAM_FINDING: _FINDING_ACTIVITIES,
    INCIDENT: _FINDING_ACTIVITIES,
}
# Class and activity by type. What is not here is API activity that OCSF has no word for.
_KINDS: dict[str, tuple[int, int]] = {
    "session.started": (AUTHENTICATION, 1),
    "session.ended": (AUTHENTICATION, 2),
    "token.issued": (AUTHENTICATION, 3),
    "token.exchanged": (AUTHENTICATION, 4),
    "token.exchange_failed": (AUTHENTICATION, 4),
    "token.revoked": (AUTHENTICATION, OTHER),
    "delegation.granted": (ACCESS, 1),
    "delegation.denied": (ACCESS, 1),
    "delegation.revoked": (ACCESS, 2),
    "consent.granted": (ACCESS, 1),
    "consent.withdrawn": (ACCESS, 2),
    "mandate.issued": (ACCESS, 1),
    "mandate.revoked": (ACCESS, 2),
    "account.created": (ACCOUNT, 1),
    "account.requested": (ACCOUNT, OTHER),
    "account.linked": (ACCOUNT, OTHER),
    "project.created": (ENTITY, 1),
    "credential.issued": (ENTITY, 1),
    "credential.rotated": (ENTITY, 3),
    "credential.revoked": (ENTITY, 4),
    "limit.set": (ENTITY, OTHER),  # made or changed: it does not say
    "limit.raised": (ENTITY, 3),
    "limit.lowered": (ENTITY, 3),
    "limit.reached": (ENTITY, OTHER),
    "resource.provisioned": (API, 1),
    "resource.failed": (API, 1),
    "resource.updated": (API, 3),
    "resource.removed": (API, 4),
    "domain.searched": (API, 2),
    "domain.checked": (API, 2),
    "domain.registered": (API, 1),
    "domain.registration_failed": (API, 1),
    "domain.renewed": (API, 3),
    "domain.transferred": (API, 3),
    "domain.deleted": (API, 4),
    "subscription.started": (API, 1),
    "subscription.changed": (API, 3),
    "subscription.ended": (API, 4),
}
# Of `action.performed` only what the verb says plainly.
_VERBS = {"create": 1, "register": 1, "read": 2, "get": 2, "list": 2, "update": 3, "renew": 3, "delete": 4, "remove": 4}
_STATUSES = {
    "success": (1, "Success"),
    "failure": (2, "Failure"),
    "denied": (2, "Failure"),
    "pending": (OTHER, "Pending"),
}
_SEVERITIES = {
    "info": (1, "Informational"),
    "low": (2, "Low"),
    "medium": (3, "Medium"),
    "high": (4, "High"),
    "critical": (5, "Critical"),
}
_USERS = {"human": (1, "User"), "service": (4, "Service"), "agent": (OTHER, "Agent"), "workload": (OTHER, "Workload")}
_STATES = {
    "open": (1, "New"), "acknowledged": (2, "In Progress"), "false_positive": (3, "Suppressed"), "resolved": (4, "Resolved"),
    "withdrawn": (OTHER, "Withdrawn"),
}  # fmt: skip
_STANDINGS = {
    "new": (1, "New"),
    "in_progress": (2, "In Progress"),
    "on_hold": (3, "On Hold"),
    "resolved": (4, "Resolved"),
    "closed": (5, "Closed"),
}
_DUPLICATE = 10
# A hop gave more than it had: what was allowed is wrong, not what was done.
OVER_BROAD = frozenset(
    f"authority.{rule}" for rule in ("scope_widened", "limit_widened", "outlives_parent", "depth_exceeded")
)
_IP, _NAME, _RESOURCE, _USER = 2, 1, 10, 31  # observable types


def line(written: dict[str, Any]) -> bytes:
    """One object as one line of NDJSON, in ASCII."""
    return json.dumps(written, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


# --- events -----------------------------------------------------------------------------------------------------------


def event_object(act: Act, chain: Chain, *, tenant: str, original_uid: str = "") -> dict[str, Any]:
    """An event with the chain behind it, as it is known now. `original_uid`: its source's own id of it."""
    payload = act.payload
    class_uid, activity = _kind(act)
    status_id, status = _STATUSES.get(act.outcome, (UNKNOWN, "Unknown"))
    acting = _acting(act, chain)
    object_ = named(
        class_uid, activity, "" if activity != OTHER else act.verb if act.type == "action.performed" else act.type
    )
    object_ |= {
        "time": _ms(act.occurred_at),
        "severity_id": 1,
        "severity": "Informational",
        "status_id": status_id,
        "status": status,
        "message": _text(_told(act, acting)),
        "metadata": metadata(tenant, uid=act.event_id, code=act.type)
        | _said(
            original_event_uid=original_uid,
            log_name=act.source,
            log_provider=act.issuer,
            logged_time=_ms(act.received_at),
            sequence=act.leaf_index,
            correlation_uid=payload.trace_id or act.txn,
            labels=["environment: test"] if act.environment == "test" else None,
        ),
        "actor": _actor(act, chain, acting),
        "src_endpoint": endpoint(payload.client.ip if payload.client else ""),
        "unmapped": _unmapped(act, chain, acting),
    }
    object_ |= _said(
        status_detail=_text(
            (payload.call.error if payload.call else "") or ("denied" if act.outcome == "denied" else "")
        ),
        http_request=_said(user_agent=_text(payload.client.user_agent)) if payload.client else None,
    )
    object_ |= _of_class(act, class_uid, acting)
    return object_ | _said(observables=_observables(object_))


def _kind(act: Act) -> tuple[int, int]:
    if act.type in ("action.performed", "action.denied"):
        verb = act.verb.rpartition(".")[2].lower()
        return API, _VERBS.get(verb, OTHER) if act.verb else UNKNOWN
    class_uid, activity = _KINDS.get(act.type, (API, OTHER))
    if act.type in ("delegation.granted", "delegation.denied") and act.session:
        return SESSION, activity
    return class_uid, activity


def named(class_uid: int, activity: int, caption: str) -> dict[str, Any]:
    """Class, category and activity; `caption` is our word for an activity that OCSF has none for."""
    known = {UNKNOWN: "Unknown", OTHER: "Other"} | _ACTIVITIES[class_uid]
    category = class_uid // 1000
    return {
        "class_uid": class_uid,
        "class_name": _CLASSES[class_uid],
        "category_uid": category,
        "category_name": _CATEGORIES[category],
        "activity_id": activity,
        "activity_name": _text(caption) or known[activity],
        "type_uid": class_uid * 100 + activity,
        "type_name": f"{_CLASSES[class_uid]}: {known[activity]}",
    }


def metadata(tenant: str, *, uid: str, code: str) -> dict[str, Any]:
    return {"version": VERSION, "product": PRODUCT, "uid": uid, "tenant_uid": tenant, "event_code": _text(code)}


def _acting(act: Act, chain: Chain) -> Party | None:
    """Who acted, of the kind that the record knows."""
    if not act.actor:
        return None
    kinds = {hop.party.key: hop.party.kind for hop in chain.hops}
    party = Party.of(act.actor)
    stated = act.payload.actor.kind if act.payload.actor else "unknown"
    return Party(party.iss, party.sub, kinds.get(act.actor, stated))


def _principal(act: Act, chain: Chain) -> Party | None:
    kinds = {hop.party.key: hop.party.kind for hop in chain.hops}
    if not act.principal:
        return None
    party = Party.of(act.principal)
    stated = chain.principal.kind if chain.principal and chain.principal.key == act.principal else "unknown"
    return Party(party.iss, party.sub, kinds.get(act.principal, stated))


def _actor(act: Act, chain: Chain, acting: Party | None) -> dict[str, Any]:
    """`user` is who is acted for, the agent beside it the application that acts; alone, whoever acts is the user."""
    principal = _principal(act, chain)
    apart = acting is not None and (
        acting.kind in ("agent", "workload", "service") or (principal is not None and principal.key != acting.key)
    )
    user = principal if principal is not None and (apart or acting is None) else None if apart else acting
    written = {}
    if user is not None or act.account or not apart:
        written["user"] = _user(user, account=act.account)
    if apart and acting is not None:
        written |= {"app_uid": acting.key, "app_name": _text(acting.sub)}
    return written | _said(session=_said(uid=act.session))


def _user(party: Party | None, *, account: str = "") -> dict[str, Any]:
    """Identity is issuer and subject: `uid` has both, as `iss|sub`."""
    owned = {"account": {"uid": account}} if account else {}
    if party is None:
        return {"name": "Unknown", "type_id": UNKNOWN, "type": "Unknown"} | owned
    type_id, type_ = _USERS.get(party.kind, (UNKNOWN, "Unknown"))
    return {
        "uid": party.key,
        "name": _text(party.sub),
        "domain": _text(party.iss),
        "type_id": type_id,
        "type": type_,
    } | owned


def endpoint(ip: str) -> dict[str, Any]:
    if not ip:
        return {"name": "Unknown", "type_id": UNKNOWN, "type": "Unknown"}
    return {"ip": ip} if _is_ip(ip) else {"name": _text(ip)}


def _is_ip(text: str) -> bool:
    try:
        return len(text) <= 40 and "%" not in text and bool(ip_address(text))
    except ValueError:
        return False


def _of_class(act: Act, class_uid: int, acting: Party | None) -> dict[str, Any]:
    """What a class needs beside what all have."""
    payload = act.payload
    grant = payload.grant if isinstance(payload.grant, GrantObject) else None
    token = payload.token if isinstance(payload.token, TokenObject) else None
    target = payload.action.target if payload.action else None
    kind = target.type if target else ""
    resource = _said(uid=act.target, name=_text(act.resource), type=_text(kind))
    resources = {"resources": [resource | {"role_id": 1, "role": "Target"}]} if act.target or act.resource else {}
    match class_uid:
        case 3001:
            account = act.account or act.target
            return {
                "user": {"account": {"uid": account}, "type_id": UNKNOWN, "type": "Unknown"} if account else _user(None)
            }
        case 3002:
            subject = (token.actor.party if token and token.actor else token.subject if token else None) or acting
            service = {"service": {"name": _text(act.provider) or "Unknown"}}
            return service | {"user": _user(subject)} | _said(session=_said(uid=act.session))
        case 3003 | 3005:
            standing = act.path.grants[-1] if act.path.grants else None
            holder = grant.actor if grant and grant.actor else standing.actor if standing else acting
            written = {"user": _user(holder), "privileges": _privileges(grant, standing)}
            return written | (resources if class_uid == ACCESS else _said(session=_said(uid=act.session)))
        case 3004:
            limit = payload.limit
            uid = (limit.id if limit else "") or act.target or act.project
            entity = _said(uid=uid, name=_text(act.resource), type=_text(kind or act.type.partition(".")[0]))
            return {"entity": {"name": "Unknown"} | entity | {"type_id": OTHER}}
    service = _said(service=_said(name=_text(act.provider)), request=_said(uid=act.request_id))
    return resources | {"api": {"operation": _text(act.operation or act.verb) or "Unknown"} | service}


def _privileges(said: GrantObject | None, standing: Grant | None) -> list[str]:
    """The actions that a grant allows; one that states none inherits them, or nobody knows."""
    details = (
        said.authorization_details
        if said and said.authorization_details is not None
        else standing.details
        if standing
        else None
    )
    if details is None:
        return ["Unknown"]
    return sorted({_text(action) for detail in details for action in detail.actions or ["**"]})[:MOST]


def _told(act: Act, acting: Party | None) -> str:
    who = acting.sub if acting else "somebody unknown"
    what = " ".join(filter(None, (act.verb, act.object)))
    return (
        f"{act.type} ({act.outcome}) by {who}"
        + (f": {what}" if what else "")
        + (f" at {act.provider}" if act.provider else "")
    )


def _unmapped(act: Act, chain: Chain, acting: Party | None) -> dict[str, Any]:
    payload, principal = act.payload, _principal(act, chain)
    answerable = {
        "type": act.type,
        "outcome": act.outcome,
        "environment": act.environment,
        "mode": payload.mode,
        "source": act.source,
        "issuer": act.issuer,
        "leaf_index": act.leaf_index,
        "grade": act.grade,
        "within_remit": act.within_remit,
        "chain": {
            "complete": chain.complete,
            "proven": chain.proven,
            "depth": len(chain.hops),
            "hops": [_hop(hop) for hop in chain.hops[:MOST]],
            "breaks": [{"hop": b.hop, "code": b.code} | _said(supplier=b.supplier) for b in chain.breaks[:MOST]],
        },
    } | _said(
        principal=_party(principal) | {"claimed": act.principal_claimed} if principal else None,
        actor=_party(acting) if acting else None,
        provider=act.provider, account=act.account, verb=act.stated_verb, target=act.target, resource=act.resource,
        target_type=payload.action.target.type if payload.action and payload.action.target else None,
        operation=act.operation, grant=act.grant, via_grant=act.via_grant, token=act.token, txn=act.txn, session=act.session,
        task=act.task, project=act.project, request_id=act.request_id, trace_id=payload.trace_id,
        idempotency_key=act.idempotency_key, money=_money(act), delegated=_delegated(payload.grant),
    )  # fmt: skip
    written: dict[str, Any] = {"answerable": answerable}
    if acting is not None and acting.kind == "agent":
        written["ai_agent"] = {"uid": acting.key, "name": _text(acting.sub)}
    if delegation := _delegation(act):
        written["delegation"] = delegation
    return written


def _delegation(act: Act) -> dict[str, Any]:
    """Of the grant that answers, as it stands, under the names of OCSF 1.9's `delegation`; a parent makes a graph of
    them.
    """
    if not act.via_grant:
        return {}
    grant = act.path.grants[-1] if act.path.grants and act.path.grants[-1].id == act.via_grant else None
    if grant is None:
        return {"uid": act.via_grant}
    return {"uid": grant.id} | _said(
        parent_uid=grant.parent,
        issuer_uid=grant.attester,
        scopes=None if grant.details is None else _privileges(None, grant),
        audience=list(grant.audience or ())[:MOST],
        created_time=_ms(grant.granted_at) if grant.dated else None,
        expiration_time=_ms(grant.expires_at) if grant.expires_at else None,
    )


def _delegated(said: GrantObject | str | None) -> dict[str, Any]:
    """Between whom, of an event that grants."""
    if not isinstance(said, GrantObject):
        return {}
    return {"grant": said.id} | _said(
        subject=_party(said.subject) if said.subject else None,
        actor=_party(said.actor) if said.actor else None,
        not_before=said.not_before,
    )


def _hop(hop: Hop) -> dict[str, Any]:
    times = {
        name: _ms(at) for name, at in (("granted_time", hop.granted_at), ("expiration_time", hop.expires_at)) if at
    }
    return (
        {"position": hop.position, **_party(hop.party), "standing": hop.standing, "derived_from": hop.derived_from}
        | _said(delegated_by=hop.delegated_by, attester=hop.attester, grant=hop.grant, token=hop.token, grade=hop.grade)
        | times
    )


def _party(party: Party) -> dict[str, Any]:
    return {"iss": party.iss, "sub": party.sub, "kind": party.kind}


def _money(act: Act) -> dict[str, Any] | None:
    if act.amount_minor is None:
        return None
    money = {"amount_minor": act.amount_minor, "currency": act.currency, "phase": act.phase}
    return money | _said(rail=act.rail, charge=act.charge)


# --- findings
# -----------------------------------------------------------------------------------------------------------


def finding_object(kept: Kept, *, tenant: str, runbook: str = "") -> dict[str, Any]:
    """A finding as it stands now. The same `finding_info.uid` again is an update of it; `metadata.uid` differs each
    time.
    """
    finding = kept.finding
    class_uid = IAM_FINDING if finding.rule in OVER_BROAD else DETECTION
    activity = 3 if kept.is_closed else 1 if kept.is_first else 2
    severity_id, severity = _SEVERITIES[finding.severity]
    status_id, status = _STATES[kept.state]
    object_ = named(class_uid, activity, "") | {
        "time": _ms(kept.detected_at),
        "start_time": _ms(finding.first_at),
        "end_time": _ms(finding.last_at),
        "count": max(1, len(finding.events)),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "message": _text(finding.title),
        "metadata": metadata(tenant, uid=kept.uid, code=finding.rule) | {"sequence": kept.change},
        "finding_info": {
            "uid": kept.finding_uid,
            "title": _text(finding.title),
            "types": [finding.rule.partition(".")[0]],
            "analytic": {
                "uid": finding.rule,
                "name": finding.rule,
                "type_id": 1,
                "type": "Rule",
                "version": str(kept.rule_version),
            },
            "created_time": _ms(kept.detected_at),
            "first_seen_time": _ms(finding.first_at),
            "last_seen_time": _ms(finding.last_at),
            "related_events": [{"uid": event_id} for event_id in finding.events[:MOST]],
            "related_events_count": len(finding.events),
        },
        "unmapped": {"answerable": _found(kept)},
    }
    object_ |= _said(
        comment=_text(kept.comment),
        remediation={"desc": _text(runbook)} if runbook else None,
        status_detail=f"its ground was taken away by leaf {kept.withdrawn_by_leaf}"
        if kept.withdrawn_by_leaf is not None
        else None,
    )
    actor = _user(Party.of(finding.actor)) if finding.actor else None
    if class_uid == IAM_FINDING:
        object_["permission_analysis_results"] = [{"policy": {"type": "grant"} | _said(uid=finding.grant)}]
        object_ |= _said(user=actor)
    elif actor:
        object_["evidences"] = [{"actor": {"user": actor}}]
    observables = [
        (name, _USER, key) for name, key in (("actor", finding.actor), ("principal", finding.principal)) if key
    ]
    return object_ | _said(observables=_listed(observables))


def _found(kept: Kept) -> dict[str, Any]:
    finding = kept.finding
    money = None
    if finding.money_at_risk_minor is not None:
        money = {"amount_minor": finding.money_at_risk_minor} | _said(currency=finding.currency)
    return {"rule": finding.rule, "state": kept.state, "leaves": list(finding.leaves[:MOST])} | _said(
        principal=_party(Party.of(finding.principal)) if finding.principal else None,
        actor=_party(Party.of(finding.actor)) if finding.actor else None,
        grant=finding.grant, provider=finding.provider, money_at_risk=money, withdrawn_by_leaf=kept.withdrawn_by_leaf,
        evidence=finding.evidence,
    )  # fmt: skip


# --- cases ------------------------------------------------------------------------------------------------------------


def case_object(step: CaseStep, *, tenant: str) -> dict[str, Any]:
    """A case as it was after one of its steps. `finding_info_list[0].uid` is the same in all of them; `metadata.uid`
    differs.

    A reference is a tenant's own, so both name the tenant: one SIEM may hear of several.
    """
    uid = f"case-{tenant}-{step.uid}"
    activity = 3 if step.standing == "closed" else 1 if step.step == 0 else 2
    severity_id, severity = _SEVERITIES.get(step.severity, (UNKNOWN, "Unknown"))
    status_id, status = _STANDINGS[step.standing]
    title = _text(step.title) or step.uid
    case = {
        "uid": uid,
        "title": title,
        "types": [step.kind],
        "created_time": _ms(step.opened_at),
        "modified_time": _ms(step.at),
        "related_events": [{"uid": act.event_id} for act in step.acts[:MOST]],
        "related_events_count": len(step.acts),
    } | _said(desc=_text(step.complaint))
    opened_from = (
        [{"uid": f"finding-{step.finding}"} | _said(title=_text(step.finding_title))]
        if step.finding is not None
        else []
    )
    object_ = named(INCIDENT, activity, "") | {
        "time": _ms(step.at),
        "start_time": _ms(step.opened_at),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "status_detail": step.state,
        "assignee_group": {"name": step.awaiting},
        "message": f"{step.uid} is {step.state}: {title}",
        "metadata": metadata(tenant, uid=f"{uid}-{step.step}", code=f"case.{step.state}")
        | {"sequence": step.leaf_index},
        "finding_info_list": [case, *opened_from],
        "unmapped": {"answerable": _argued(step)},
    }
    object_ |= _said(comment=_text(step.reason))
    if step.merged_into:
        object_ |= {"verdict_id": _DUPLICATE, "verdict": "Duplicate"}
    elif step.outcome:  # of a complaint, for which OCSF has no word
        object_ |= {"verdict_id": OTHER, "verdict": step.outcome}
    observables = [(name, _USER, key) for name, key in (("actor", step.actor), ("principal", step.principal)) if key]
    return object_ | _said(observables=_listed(observables))


def _argued(step: CaseStep) -> dict[str, Any]:
    claimed = None
    if step.claimed_minor is not None:
        claimed = {"amount_minor": step.claimed_minor} | _said(currency=step.claimed_currency)
    return {
        "case": step.uid, "step": step.step, "kind": step.kind, "state": step.state, "leaf_index": step.leaf_index,
        "by": {"name": _text(step.by), "role": step.role}, "acts": [_contested(act) for act in step.acts[:MOST]],
    } | _said(
        principal=_party(Party.of(step.principal)) if step.principal else None,
        actor=_party(Party.of(step.actor)) if step.actor else None,
        provider=step.provider, claimed=claimed, outcome=step.outcome, merged_into=step.merged_into,
    )  # fmt: skip


def _contested(act: Contested) -> dict[str, Any]:
    money = None if act.amount_minor is None else {"amount_minor": act.amount_minor} | _said(currency=act.currency)
    return {"event": act.event_id} | _said(money=money, verdict=act.verdict)


# --- what all are made of --------------------------------------------------------------------------------------------


def _observables(written: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[tuple[str, int, str]] = []
    if ip := written["src_endpoint"].get("ip"):
        found.append(("src_endpoint.ip", _IP, ip))
    for name, user in (("actor.user.uid", written["actor"].get("user")), ("user.uid", written.get("user"))):
        if user and user.get("uid"):
            found.append((name, _USER, user["uid"]))
    for resource in written.get("resources", ()):
        if resource.get("uid"):
            kind = _NAME if resource.get("type") == "domain" else _RESOURCE
            found.append(("resources.uid", kind, resource["uid"]))
    return _listed(found)


_OBSERVABLE = {_IP: "IP Address", _NAME: "Hostname", _RESOURCE: "Resource UID", _USER: "User Object: uid"}


def _listed(found: Iterable[tuple[str, int, str]]) -> list[dict[str, Any]]:
    return [{"name": name, "type_id": kind, "type": _OBSERVABLE[kind], "value": value} for name, kind, value in found]


def _ms(at: datetime) -> int:
    """Milliseconds since 1970, as OCSF's `timestamp_t`."""
    return round(at.timestamp() * 1000)


def _text(text: str) -> str:
    """For eyes: cut, and what they would not see written out."""
    return visible(text if len(text) <= _TEXT else text[:_TEXT] + "…")


def _said(**values: Any) -> dict[str, Any]:
    """Those that somebody said."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}
