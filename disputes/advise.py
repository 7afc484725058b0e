"""Advise: the engine's word on an act before it is done, signed and kept. Never a promise: the record may change, and
what is done may be another act than what was asked about.

The proposed act is judged as the next one on record. Nobody attests for himself: an approval that comes with the
question counts for nothing, only those on record do.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import uuid4

import msgspec
import rfc8785
from django.conf import settings
from django.db import connection

from auditlog.core.amount import minor, whole
from auditlog.core.chain.act import ACT_TYPES, PAYMENT_TYPES, Act
from auditlog.core.errors import ConfigurationError, MalformedEvent
from auditlog.core.event import decode_payload
from auditlog.core.money.limits import Spent
from auditlog.core.money.money import CREDIT_RAIL
from auditlog.core.wire.cards import refuse_card_numbers
from auditlog.core.wire.redaction import redact
from auditlog.ledger.append import append_note
from auditlog.models import Tenant
from auditlog.projection.acts import principal_of_chain
from auditlog.projection.generation import generation_of
from auditlog.reads.access import WHOLE, Viewer
from auditlog.reads.chains import GrantBook, histories
from auditlog.reads.record import record_around
from auditlog.response.keys import signed
from disputes.adjudicate import POLICY, position_of
from disputes.core.criteria import Integrity
from disputes.core.verdict import reach

MOST_BYTES = 16 * 1024
TYP = "answerable-advice+jwt"
NOTE = (
    "Advice on the record as it stood. It is no authorization and no promise; what is done is judged when it is done."
)
_TYPES = ACT_TYPES | PAYMENT_TYPES
_NOT_ASKED = "the act was not done yet: there is nothing signed to check"


def advise(viewer: Viewer, proposed: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
    """The verdict on a proposed act, {type, principal, ..payload fields}, and the advice that states it.

    Raises NotPermitted, and MalformedEvent naming the field.
    """
    viewer.must("case")
    viewer.must(WHOLE)  # an answer tells of grants and limits, and of acts that were never done at one's own provider
    raw = _kept(proposed)
    act = _act(viewer.tenant, msgspec.json.decode(raw), now=now)
    record = record_around(viewer.tenant, [act], with_history=True)
    record = replace(record, spending=(*record.spending, *_spent(act)), history=(*record.history, act))
    unsigned = Integrity(act.leaf_index, True, None, None, "-")
    verdict = reach(act, record, unsigned, POLICY).as_json()
    verdict["event_id"] = None
    verdict["criteria"][0] |= {"result": "na", "reason": _NOT_ASKED, "evidence": []}
    return {
        "results": [verdict | {"line": None, "beside": []}],
        "advice": _stated(viewer, raw, verdict, position=act.leaf_index, now=now),
    }


def _kept(proposed: Mapping[str, Any]) -> bytes:
    """The question as it is kept: without secrets, in JCS."""
    try:
        raw = rfc8785.dumps(dict(proposed))
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise MalformedEvent(f"proposed: expected JSON that every reader reads alike: {error}"[:300]) from None
    if len(raw) > MOST_BYTES:
        raise MalformedEvent(f"proposed: at most {MOST_BYTES:,} bytes, found {len(raw):,}")
    refuse_card_numbers(raw)
    return redact(raw).raw


def _act(tenant: Tenant, said: dict[str, Any], *, now: datetime) -> Act:
    kind = said.pop("type", "action.performed")
    if kind not in _TYPES:
        raise MalformedEvent(f"type: expected the type of an act, as action.performed, found {str(kind)[:60]!r}")
    claimed = _party(said.pop("principal", None))
    for name in ("gate", "attestation", "sequence", "limit"):
        said.pop(name, None)
    payload = decode_payload(msgspec.json.encode({"outcome": "success"} | said))
    if payload.outcome != "success" or payload.environment != "live":
        raise MalformedEvent("proposed: expected an act that would take effect: outcome success, environment live")
    if not isinstance(payload.grant, str | None) or not isinstance(payload.token, str | None):
        raise MalformedEvent("grant, token: expected the id of one on record")
    position = position_of(tenant)
    via = payload.grant or _via(tenant, payload.token or "")
    path = GrantBook(histories(tenant, {via})).path(via, at=now, known_leaf=position)
    rooted = path.grants[0].subject if path.grants and not path.missing else None
    action, money, call = payload.action, payload.money, payload.call
    target = action.target if action else None
    amount = money.exact if money else None
    return Act(
        event_id=str(uuid4()),
        leaf_index=position,
        type=kind,
        source="",
        issuer="",
        grade="-",
        occurred_at=now,
        received_at=now,
        outcome=payload.outcome,
        environment=payload.environment,
        principal=rooted.key if rooted else claimed or principal_of_chain(payload),
        principal_claimed=rooted is None,
        actor=payload.actor.key if payload.actor else "",
        provider=action.provider if action else "",
        account=action.account if action else "",
        target=target.id if target else "",
        resource=action.resource if action else "",
        stated_verb=action.verb if action else "",
        operation=call.operation if call else "",
        grant=payload.grant or "",
        token=payload.token or "",
        via_grant=via,
        txn="",
        session=payload.session,
        task=payload.task,
        project=payload.project,
        request_id=payload.request_id,
        idempotency_key=call.idempotency_key if call else "",
        phase=(money.phase or "") if money else "",
        amount_minor=None if amount is None else minor(amount),
        currency=money.currency.upper() if money else "",
        rail=money.rail if money else "",
        charge=money.charge if money else "",
        within_remit=True,
        jkt="",
        payload=payload,
        path=path,
    )


def _party(given: Any) -> str:
    """`iss|sub`, or {iss, sub}, of whom the act would be for."""
    if given is None:
        return ""
    if isinstance(given, dict) and isinstance(given.get("iss"), str) and isinstance(given.get("sub"), str):
        given = f"{given['iss']}|{given['sub']}"
    if not isinstance(given, str) or "|" not in given:
        raise MalformedEvent("principal: expected {iss, sub} or iss|sub")
    return given


def _via(tenant: Tenant, token: str) -> str:
    if not token:
        return ""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT via_grant FROM projection_token WHERE tenant_id = %s AND generation = %s AND jti = %s",
            [tenant.pk, generation_of(tenant), token],
        )
        row = cursor.fetchone()
    return row[0] if row else ""


def _spent(act: Act) -> list[Spent]:
    """The line of the books that the act would make."""
    money = act.payload.money
    if money is None or act.amount_minor is None or act.rail == CREDIT_RAIL or not act.book:
        return []
    amount = whole(money.exact)
    held = act.book == "held"
    return [
        Spent(
            act.event_id,
            act.leaf_index,
            act.occurred_at,
            act.provider,
            act.currency,
            0 if held else amount,
            amount if held else 0,
            act.rail,
            frozenset({act.principal, act.actor, *act.path.parties} - {""}),
            frozenset(grant.id for grant in act.path.grants),
            act.session,
            act.task,
            act.project,
            frozenset({act.event_id}),
            0 if held else amount,
            (),
            act.occurred_at if held else None,
            None,
            money.payee,
            money.authority,
            act.book,
            act.charge,
            act.principal,
            act.actor,
        )
    ]


def _stated(viewer: Viewer, raw: bytes, verdict: dict[str, Any], *, position: int, now: datetime) -> dict[str, Any]:
    """The advice as it stands in the log and, where this service has a key for that, as a JWS of its own."""
    id = f"adv_{uuid4().hex}"
    asked = sha256(raw).hexdigest()
    said = {
        "proposed_sha256": asked,
        "verdict": verdict["verdict"],
        "codes": verdict["codes"],
        "digest": verdict["digest"],
        "record_position": position,
    }
    leaf = append_note(
        viewer.tenant,
        "case",
        {"change": "advice.given", "advice": id, "by": viewer.name, "proposed": msgspec.json.decode(raw), **said},
        now=now,
    )
    claims = {
        "iss": settings.ISSUER,
        "aud": f"urn:answerable:{viewer.tenant.name}",
        "jti": id,
        "iat": int(now.timestamp()),
        "advice": said | {"leaf_index": leaf},
    }
    try:
        token = signed(msgspec.json.encode(claims), typ=TYP)
    except ConfigurationError:
        token = None  # no key to seal ours with: the log's checkpoint is the signature
    return {"id": id, "at": now, "leaf_index": leaf, **said, "jws": token, "note": NOTE}
