"""The record around acts: what a detector or the verdict engine may look at besides the acts themselves."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from django.db import connection

from auditlog.core import party as kinds
from auditlog.core.acts.repeat import TYPES
from auditlog.core.chain.act import ACT_TYPES, Act
from auditlog.core.chain.authority import allows
from auditlog.core.chain.chain import Path
from auditlog.core.chain.gates import GateCheck, check_gates
from auditlog.core.chain.record import Approval, Record, Turn, subscription_of
from auditlog.core.chain.use import answers_for, follows_an_act
from auditlog.core.event import Gate, Party, act_chain, moment
from auditlog.detectors import stranded
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.acts import select_acts, shared_with
from auditlog.reads.chains import lineage_of, load_tokens, paths_held_by
from auditlog.reads.money import ceilings_of, limits_bound_to, spending_of
from auditlog.reads.parties import kinds_of, organisations_of, owned_names, remits_of


def record_around(tenant: Tenant, acts: Sequence[Act], *, with_history: bool = False) -> Record:
    """What a judge of `acts` may look at. A fixed number of queries, whatever the number of acts. `with_history`: also what
    else was done for their principals, for those who do not give all of it themselves.

    Around what they are judged through too: a payment through its act, which may be in nobody's request.
    """
    generation = generation_of(tenant)
    acts, siblings = with_what_they_pay_for(tenant, acts)
    principals = {act.principal for act in acts} - {""}
    spending = spending_of(tenant, principals)
    answers = _answers(tenant, acts, principals)
    held, others = grants_beside(tenant, acts)
    parties = {key for act in acts for key in (act.principal, act.actor, *act.path.parties)} - {""}
    parties |= {key for spent in spending for key in spent.parties}
    parties |= {a.payload.limit.holder.key for a in acts if a.payload.limit and a.payload.limit.holder}
    grants = {grant.id for act in acts for grant in act.path.grants} | {g for s in spending for g in s.grants}
    limits = limits_bound_to(tenant, parties=parties, grants=grants)
    ceilings = ceilings_of(
        tenant,
        {spent.authority for spent in spending} | {a.payload.money.authority for a in acts if a.payload.money},
    )
    setters = {party for limit in limits for party in (limit.set_by, limit.holder, limit.actor)} - {""}
    setters |= {said.set_by for many in ceilings.values() for said in many} - {""}
    # Whoever spends under a payment authority raises it for nothing: who stands above them is asked.
    setters |= {spent.actor for spent in spending if spent.authority} - {""}
    lineage, attesters = lineage_of(tenant, setters)
    parties |= {party for above in lineage.values() for party in above}
    initiators = {party.key for act in acts if act.payload.actor for party in act_chain(act.payload.actor)}
    gate_keepers = {act.payload.gate.by.key for act in (*acts, *siblings) if act.payload.gate and act.payload.gate.by}
    roots = {
        path.grants[0].subject.key
        for paths in (*held.values(), *others.values())
        for path in paths
        if path.grants and path.grants[0].subject
    }
    return Record(
        limits=tuple(limits),
        spending=tuple(spending),
        ceilings=ceilings,
        **by_answer(answers),
        siblings=tuple(siblings),
        kinds=kinds_of(
            tenant, generation, parties | setters | initiators | gate_keepers | roots | {a.by for a in answers} - {""}
        ),
        tokens=load_tokens(tenant, {act.token for act in (*acts, *siblings)}),
        owned=owned_names(tenant),
        held=held,
        others=others,
        lineage=lineage,
        attesters=attesters,
        organisations=organisations_of(tenant),
        remits=remits_of(tenant),
        agent_issuers=issuers_of_agents(tenant, {act.issuer for act in acts if act.payload.mode == "direct"}),
        turns=turns_around(tenant, acts),
        history=tuple(history_of(tenant, principals)) if with_history else (),
    )


def turns_around(tenant: Tenant, acts: Sequence[Act]) -> dict[tuple[str, str], tuple[Turn, ...]]:
    """When the sessions and tasks began and ended that charges of a meter or subscription name."""
    asking = [act for act in acts if act.type in stranded.types]
    names = {"session": {act.session for act in asking} - {""}, "task": {act.task for act in asking} - {""}}
    if not any(names.values()):
        return {}
    turning = select_acts(
        tenant,
        "type IN ('session.started', 'session.ended') AND within_remit AND ((session = ANY(%s) AND session <> '')"
        " OR (task = ANY(%s) AND task <> ''))",
        [list(names["session"]), list(names["task"])],
    )
    found: dict[tuple[str, str], list[Turn]] = {}
    for act in turning:
        if act.happened and act.environment == "live":
            turn = Turn(act.occurred_at, act.type == "session.ended", act.principal, act.leaf_index, act.event_id)
            for kind, name in (("session", act.session), ("task", act.task)):
                if name in names[kind]:
                    found.setdefault((kind, name), []).append(turn)
    return {key: tuple(turns) for key, turns in found.items()}


def time_of(tenant: Tenant, act: Act) -> datetime:
    """When what this tells of was done: of a statement of money, when the act was that it pays for."""
    if not follows_an_act(act):
        return act.occurred_at
    return answers_for(act, Record(siblings=tuple(_siblings(tenant, [act])))).occurred_at


def with_what_they_pay_for(tenant: Tenant, acts: Sequence[Act]) -> tuple[list[Act], list[Act]]:
    """The acts with those that they are judged through, and all that either could have something to do with."""
    first = _siblings(tenant, acts)
    around = Record(siblings=tuple(first))
    through = {(done := answers_for(act, around)).leaf_index: done for act in acts if follows_an_act(act)}
    new = [done for leaf, done in through.items() if leaf not in {act.leaf_index for act in acts}]
    siblings = {act.leaf_index: act for act in (*first, *(_siblings(tenant, new) if new else ()))}
    return [*acts, *new], [siblings[leaf] for leaf in sorted(siblings)]


def issuers_of_agents(tenant: Tenant, issuers: Collection[str]) -> frozenset[str]:
    """Which of these issuers name agents: what their sources tell may be an agent's own word."""
    if not issuers:
        return frozenset()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT split_part(key, '|', 1), kinds FROM projection_party WHERE tenant_id = %s AND generation = %s"
            " AND split_part(key, '|', 1) = ANY(%s)",
            [tenant.pk, generation_of(tenant), list(issuers)],
        )
        return frozenset(issuer for issuer, mask in cursor.fetchall() if kinds.kind_of(mask) in ("agent", "workload"))


HISTORY = 20_000  # acts of one principal, the latest; more would be read for nothing but its own sake


_HISTORY_TYPES = sorted(TYPES | ACT_TYPES)


def history_of(tenant: Tenant, principals: Collection[str]) -> list[Act]:
    """What was done and paid for these principals: of each the latest HISTORY acts, whatever else is asked about."""
    if not principals:
        return []
    return select_acts(
        tenant,
        "event_id IN (SELECT event_id FROM (SELECT event_id, row_number() OVER (PARTITION BY principal ORDER BY occurred_at DESC,"
        " leaf_index DESC) AS place FROM projection_event WHERE tenant_id = %s AND generation = %s AND principal = ANY(%s)"
        " AND principal <> '' AND type = ANY(%s) AND environment = 'live') latest WHERE place <= %s)",
        [tenant.pk, generation_of(tenant), list(principals), _HISTORY_TYPES, HISTORY],
    )


def grants_beside(
    tenant: Tenant, acts: Sequence[Act]
) -> tuple[dict[str, tuple[Path, ...]], dict[str, tuple[Path, ...]]]:
    """Grants beside those used. By party that somebody else acted for, where the authority used does not pass through
    it: its own. By actor whose act its grant did not allow: all that let it act, since another may have.
    """
    initiators = {
        party.key
        for act in acts
        if act.payload.actor and act.payload.actor.act and act.path.grants
        for party in act_chain(act.payload.actor)[:-1]
        if party.key not in act.path.parties
    }
    outside = {act.actor for act in acts if act.actor and act.path.grants and not allows(act.path, act)}
    held = paths_held_by(tenant, initiators | outside)
    return (
        {key: tuple(paths) for key, paths in held.items() if key in initiators},
        {key: tuple(paths) for key, paths in held.items() if key in outside},
    )


_ANSWERS: dict[tuple[str, str], Literal["approved", "refused", "asked"]] = {
    ("approval.decided", "success"): "approved",
    ("approval.decided", "denied"): "refused",
    ("approval.decided", "failure"): "refused",
}


def gates_of(tenant: Tenant, act: Act) -> list[GateCheck]:
    """What became of every approval that the act needed; without a query for an act whose grants list none.

    It looks at approvals and at acts that could have used them up, and not at all that the principal ever spent.
    """
    if not any(grant.gates for grant in act.path.grants):
        return []
    acts, siblings = with_what_they_pay_for(tenant, [act])
    answers = _answers(tenant, acts, {each.principal for each in acts} - {""})
    keepers = {each.payload.gate.by.key for each in (*acts, *siblings) if each.payload.gate and each.payload.gate.by}
    around = Record(
        siblings=tuple(siblings), kinds=kinds_of(tenant, generation_of(tenant), keepers), organisations=organisations_of(tenant),
        remits=remits_of(tenant),
        tokens=load_tokens(tenant, {each.token for each in (*acts, *siblings)}), **by_answer(answers),
    )  # fmt: skip
    return check_gates(act, around)


def by_answer(answers: Iterable[Approval]) -> dict[str, tuple[Approval, ...]]:
    given = [a for a in answers if a.answer == "approved"]
    return {"approvals": tuple(given), "refusals": tuple(a for a in answers if a.answer != "approved")}


def _answers(tenant: Tenant, acts: Sequence[Act], principals: set[str]) -> list[Approval]:
    """Approvals asked for, given or refused that could join these acts: by request id, or in the name of one of their
    principals.
    """
    requests = {act.request_id for act in acts} - {""}
    return answers_told(
        tenant,
        select_acts(
            tenant,
            "type IN ('approval.decided', 'approval.requested') AND ((request_id = ANY(%s) AND request_id <> '')"
            " OR (principal = ANY(%s) AND principal <> ''))",
            [list(requests), list(principals)],
        ),
    )


def answers_about(tenant: Tenant, acts: Sequence[Act]) -> list[Approval]:
    """Those that these acts could be joined to: by request, or in the name of the principal and of the same thing or none."""
    if not acts:
        return []
    requests = {act.request_id for act in acts} - {""}
    things = {thing for act in acts for thing in (act.target, act.resource)} | {""}
    deciding = select_acts(
        tenant,
        "type IN ('approval.decided', 'approval.requested') AND ((request_id = ANY(%s) AND request_id <> '')"
        " OR (principal = ANY(%s) AND principal <> '' AND coalesce(nullif(target, ''), resource) = ANY(%s)))",
        [list(requests), list({act.principal for act in acts} - {""}), list(things)],
    )
    return answers_told(tenant, deciding)


def answered(tenant: Tenant, acts: Sequence[Act], answers: Sequence[Approval]) -> dict[str, Any]:
    """Of a record, what says whether somebody said yes to these acts: the answers about them, and by whom they count."""
    gates = [gate for act in acts if (gate := act.payload.gate) and gate.by]
    if not answers and not gates:
        return {}
    by = {answer.by for answer in answers} | {gate.by.key for gate in gates if gate.by}
    return {
        **by_answer(answers),
        "siblings": tuple(acts),
        "kinds": kinds_of(tenant, generation_of(tenant), by - {""}),
        "organisations": organisations_of(tenant),
        "remits": remits_of(tenant),
    }


def answers_told(tenant: Tenant, deciding: Sequence[Act]) -> list[Approval]:
    """What these events tell of approvals."""
    told = [
        (act, act.payload.gate or Gate(kind=""), _ANSWERS.get((act.type, act.outcome), "asked")) for act in deciding
    ]
    # A yes counts by whom its gate names; of a no or a question it is enough to know who said it.
    gated = [
        (act, gate, answer, gate.by or (Party.of(act.actor) if act.actor and answer == "refused" else None))
        for act, gate, answer in told
    ]
    gated = [(act, gate, answer, by) for act, gate, answer, by in gated if by or answer != "approved"]
    known = kinds_of(tenant, generation_of(tenant), {by.key for *_, by in gated if by})
    return [
        Approval(
            event_id=act.event_id,
            leaf_index=act.leaf_index,
            kind=gate.kind,
            by=by.key if by else "",
            by_kind=known.get(by.key, by.kind) if by else "unknown",
            at=moment(gate.at) if gate.at is not None else act.occurred_at,
            over=gate.over,
            request_id=act.request_id,
            max_price_minor=act.payload.intent.max_price_minor if act.payload.intent else None,
            currency=act.payload.intent.currency if act.payload.intent else None,
            answer=answer,
            principal=act.principal,
            principal_is_giver=act.principal_claimed and act.principal in (by.key if by else "", act.actor),
            issuer=act.issuer,
            within_remit=act.within_remit,
            verb=act.stated_verb,
            target=act.target or act.resource,
            target_type=act.payload.action.target.type if act.payload.action and act.payload.action.target else "",
            provider=act.payload.action.provider if act.payload.action else "",
            environment=act.environment,
            interval=act.payload.intent.interval if act.payload.intent else None,
            targets=tuple(act.payload.intent.targets) if act.payload.intent else (),
            quantity=act.payload.intent.quantity if act.payload.intent else None,
            task="" if gate.over or act.request_id or act.target or act.resource else act.task,
        )
        for act, gate, answer, by in gated
    ]


def _siblings(tenant: Tenant, acts: Sequence[Act]) -> list[Act]:
    """What shares a charge, an idempotency key, an invoice or a request with these, or did the same to the same target; and
    how the subscription began that a bill among them names.
    """
    conditions, params = shared_with(acts, target={act.target for act in acts if any(g.gates for g in act.path.grants)})
    if made := [UUID(act.through) for act in acts if act.through]:
        conditions, params = [*conditions, "event_id = ANY(%s)"], [*params, made]
    found = select_acts(tenant, " OR ".join(conditions), params) if conditions else []
    billed = {subscription_of(act) for act in (*acts, *found) if act.type in _BILLS} - {""}
    if billed:
        more = select_acts(
            tenant,
            "subscription = ANY(%s) AND subscription <> '' AND type = ANY(%s)",
            [list(billed), _BEGINS],
            limit=TERMS,
        )
        found = sorted({act.leaf_index: act for act in (*found, *more)}.values(), key=lambda act: act.leaf_index)
    return found


_BILLS = frozenset({"invoice.issued", "invoice.paid", "payment.captured", "payment.settled"})
_BEGINS = ["subscription.started", "subscription.changed", "subscription.renewed"]
TERMS = 1_000  # of the subscriptions that bills name: more than any has had
