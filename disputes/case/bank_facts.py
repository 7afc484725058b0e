"""Bank facts: what the record holds of a disputed payment, as an answer to a bank reads it (`core/bank_answer.py`)."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from auditlog.core.amount import amount_text
from auditlog.core.chain.act import Act
from auditlog.core.chain.gates import check_gates
from auditlog.core.chain.record import Record
from auditlog.core.chain.statement import Grant
from auditlog.core.chain.use import answers_for
from auditlog.core.event import Detail, Party
from auditlog.models import Event
from auditlog.projection.generation import generation_of
from auditlog.reads.acts import select_acts
from disputes.case.bank import BankDispute, bank_charges, disputes_of_charges
from disputes.core.bank_answer import CE3_OLD, CardPayment, Deed, Earlier
from disputes.gather_evidence import gather
from disputes.models import Case, ContestedAct

RAIL = "stripe"
TIME = "%Y-%m-%d %H:%M:%S UTC"
NEAR = timedelta(days=35)  # charges that somebody could take for one another
MOST_EARLIER, MOST_PRIOR, MOST_NAMED = 200, 200, 20
_INTERVALS = {"once": "in all", "day": "a day", "week": "a week", "month": "a month", "year": "a year"}


def deed_of(paid: Act, done: Act, record: Record, verdict: Mapping[str, Any]) -> Deed:
    client = done.payload.client or paid.payload.client
    criteria = verdict.get("criteria", ())
    return Deed(
        event_id=done.event_id,
        leaf_index=done.leaf_index,
        at=done.occurred_at,
        verb=done.verb,
        target=done.object,
        provider=done.provider,
        amount=_amount(paid.amount_minor, paid.currency),
        agent=_party(done.actor),
        principal=_party(done.principal),
        ip=client.ip if client else "",
        user_agent=client.user_agent if client else "",
        account=done.account,
        verdict=verdict.get("verdict", "indeterminate"),
        failed=tuple(one["reason"] for one in criteria if one["result"] == "fail"),
        unknown=tuple(one["reason"] for one in criteria if one["result"] == "unknown"),
        path=tuple(_grant_line(grant) for grant in done.path.grants),
        approvals=tuple(
            f"{check.kind}: {_party(check.approval.by)} at {check.approval.at:{TIME}}"
            f" (log entry {check.approval.leaf_index})"
            for check in check_gates(done, record)
            if check.approval is not None and check.result == "pass"
        ),
        charge=paid.charge,
    )


def _grant_line(grant: Grant) -> str:
    """What one hop allowed, in one line, with whose statement it is."""
    who = f"{_named(grant.subject)} let {_named(grant.actor)}"
    allowed = "; ".join(_detail_line(detail) for detail in (grant.details or ())[:MOST_NAMED])
    limits = ", ".join(
        f"at most {amount_text(limit.max_minor, limit.currency)} {_INTERVALS[limit.interval]}"
        for limit in (grant.limits or ())[:MOST_NAMED]
        if limit.max_minor is not None
    )
    until = f"until {grant.expires_at:%Y-%m-%d %H:%M} UTC" if grant.expires_at else ""
    asked = f"asked for: {grant.intent.text}" if grant.intent and grant.intent.text else ""
    proof = "signed by" if grant.standing == "proven" else "claimed by"
    said = "; ".join(part for part in (allowed or "what is not stated", limits, until, asked) if part)
    given = f"given {grant.granted_at:{TIME}}, {proof} {grant.attester}, log entry {grant.leaf_index}"
    return f"{who} do: {said} (grant {grant.id}, {given})"


def _detail_line(detail: Detail) -> str:
    acts = ", ".join(detail.actions[:MOST_NAMED]) or "any act"
    return f"{acts} on {', '.join(detail.resources[:MOST_NAMED]) or 'anything'}"


def _named(party: Party | None) -> str:
    return _party(party.key) if party else "nobody named"


def _amount(minor: int | None, currency: str) -> str:
    return "" if minor is None else amount_text(minor, currency)


def _party(key: str) -> str:
    return key.replace("|", " ", 1)


def cards_of(case: Case, told: BankDispute, acts: Sequence[Act], record: Record) -> list[CardPayment]:
    """The disputed payment, and earlier ones of the same principal, as far as Stripe told of the card."""
    principals = {answers_for(act, record).principal for act in acts} - {""}
    opened = told.opened_at or case.opened_at
    # Stripe names no principal: its payments are found through the acts that they pay for.
    earlier = select_acts(
        case.tenant,
        "rail = %s AND type = 'payment.captured' AND within_remit AND (charge = %s OR charge IN (SELECT a.charge"
        " FROM projection_event a WHERE a.tenant_id = e.tenant_id AND a.generation = e.generation AND a.rail = e.rail"
        " AND a.principal = ANY(%s) AND a.charge <> '' AND a.occurred_at BETWEEN %s AND %s"
        " ORDER BY a.occurred_at DESC LIMIT %s))",
        [RAIL, told.charge, sorted(principals), opened - CE3_OLD, opened, MOST_PRIOR],
        order="occurred_at DESC, leaf_index DESC",
        limit=MOST_PRIOR,
    )
    said = bank_charges(case.tenant, [act.event_id for act in earlier])
    paid = [act for act in earlier if act.event_id in said]
    if not paid:
        return []
    around = gather(case.tenant, [act.event_id for act in paid]).record
    disputed = {one.charge for one in disputes_of_charges(case.tenant, RAIL, {act.charge for act in paid})}
    found: dict[str, CardPayment] = {}
    for act in paid:
        card, done = said[act.event_id], answers_for(act, around)
        client = done.payload.client
        product = f"{done.verb} {done.object}".strip() if done is not act else ""
        found.setdefault(
            act.charge,
            CardPayment(
                act.charge, act.occurred_at, card.card, card.network, card.name, card.email, card.address,
                client.ip if client else "", done.account, product, act.charge in disputed, card.refunded,
            ),
        )  # fmt: skip
    return list(found.values())


def earlier_acts(case: Case, deeds: Sequence[Act], record: Record) -> list[Earlier]:
    """Acts of the same root grant and agent before the first contested one, that no case and no bank contests."""
    roots = {(act.path.grants[0].id, act.actor) for act in deeds if act.path.ends_at_root and act.actor}
    if not roots or not deeds:
        return []
    first = min(act.occurred_at for act in deeds)
    alike = [
        act
        for principal in {act.principal for act in deeds}
        for act in record.history_of(principal)
        if act.occurred_at < first
        and act.is_act
        and act.happened
        and act.path.ends_at_root
        and (act.path.grants[0].id, act.actor) in roots
    ]
    alike = sorted(alike, key=lambda act: (act.occurred_at, act.leaf_index), reverse=True)[:MOST_EARLIER]
    contested = {
        str(one)
        for one in ContestedAct.objects.filter(
            tenant=case.tenant, event_id__in=[act.event_id for act in alike]
        ).values_list("event_id", flat=True)
    }
    disputed = {one.charge for one in disputes_of_charges(case.tenant, RAIL, {act.charge for act in alike})}
    return [
        Earlier(
            act.event_id, act.leaf_index, act.occurred_at, act.verb, act.object,
            _amount(act.amount_minor, act.currency),
        )
        for act in alike
        if act.event_id not in contested and not (act.charge and act.charge in disputed)
    ]  # fmt: skip


def charges_alike(deeds: Sequence[Act], told: BankDispute, record: Record) -> dict[str, str]:
    """Charges that could be taken for the disputed one, and how each differs from it by the record."""
    found: dict[str, str] = {}
    for deed in deeds:
        for other in record.history_of(deed.principal):
            near = abs(other.occurred_at - deed.occurred_at) <= NEAR
            same = (other.provider, other.amount_minor, other.currency) == (
                deed.provider,
                deed.amount_minor,
                deed.currency,
            )
            if not (near and same and other.charge and other.charge != told.charge and other.happened and other.spends):
                continue
            when = f"{other.occurred_at:{TIME}}"
            if other.object == deed.object:
                how = f"the same {deed.object or 'thing'}, paid {when}: by the record they are alike"
            else:
                how = f"another purchase: {other.object or 'not stated'} at {when}, not {deed.object or 'stated'}"
            found.setdefault(other.charge, how)
    return dict(list(found.items())[:MOST_NAMED])


def refunds_of(case: Case, told: BankDispute) -> list[str]:
    refunds = Event.objects.filter(
        tenant=case.tenant, generation=generation_of(case.tenant), rail=RAIL, charge=told.charge,
        type="payment.refunded", outcome="success", within_remit=True,
    ).order_by("leaf_index")[:MOST_NAMED]  # fmt: skip
    return [
        f"{_amount(one.amount_minor, one.currency) or 'An amount that is not stated'} was refunded"
        f" {one.occurred_at:{TIME}} (log entry {one.leaf_index})"
        for one in refunds
    ]


def endings_of(deeds: Sequence[Act]) -> list[str]:
    found = []
    for deed in deeds:
        for grant in deed.path.grants:
            if grant.revoked_at is not None:
                when = "after" if grant.revoked_at > deed.occurred_at else "before"
                found.append(
                    f"Grant {grant.id} was revoked {grant.revoked_at:{TIME}}, {when} the payment of"
                    f" {deed.occurred_at:{TIME}} (log entry {grant.revoked_leaf})"
                )
    return found
