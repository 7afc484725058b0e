"""Ground: what the rules that judge single acts may look at, each kind loaded once a round for all of them.

Nothing here reads all that a principal ever did. Payments beside an act are loaded where a payment, a gate or a charge of
nobody asks for them; what a principal spent, only where another grant may have had room; limits, only around statements
about limits.
"""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import allows
from auditlog.core.chain.chain import Path
from auditlog.core.chain.record import Record
from auditlog.core.chain.use import follows_an_act
from auditlog.core.event import act_chain
from auditlog.core.money.limits import LimitFact, Spent
from auditlog.database.policies import policies_of
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.acts import select_acts, shared_with
from auditlog.reads.chains import lineage_of, load_tokens
from auditlog.reads.money import ceilings_of, limits_bound_to, spenders_under, spending_in, spending_of
from auditlog.reads.parties import kinds_of, organisations_of, owned_names, remits_of
from auditlog.reads.record import (
    answers_about,
    by_answer,
    grants_beside,
    issuers_of_agents,
    turns_around,
    with_what_they_pay_for,
)

MONEY_TYPES = "(type LIKE 'payment.%%' OR type LIKE 'invoice.%%' OR type LIKE 'dispute.%%' OR through IS NOT NULL)"
ROUNDS = 4  # from statements of a limit to its holder and grant, and to what was said of those


def asks_for_payments(act: Act) -> bool:
    """Whether what shares a key with this act can change how it is judged, whatever it is."""
    return follows_an_act(act) or is_gated(act) or (bool(act.charge) and not is_named(act)) or is_asked_for(act)


def is_asked_for(act: Act) -> bool:
    """Whether a quote or an approval under its request may say which name was meant."""
    return act.type == "domain.registered" and bool(act.request_id)


def is_gated(act: Act) -> bool:
    return any(grant.gates or grant.disputed for grant in act.path.grants)


def is_named(act: Act) -> bool:
    return bool(act.actor or act.grant or act.token)


def ground_of(tenant: Tenant, acts: Sequence[Act]) -> Record:
    """A fixed number of queries, whatever the number of acts."""
    generation = generation_of(tenant)
    held, others = grants_beside(tenant, acts)
    outside = {actor for actor, paths in others.items() if any(g.gates for path in paths for g in path.grants)}
    asking = [act for act in acts if asks_for_payments(act) or act.actor in outside]
    around, siblings = with_what_they_pay_for(tenant, asking) if asking else ([], [])
    acts = list({act.leaf_index: act for act in (*acts, *around)}.values())
    answers = answers_about(tenant, [*acts, *siblings] if asking else acts)
    limits = limits_around(tenant, acts)
    setters = {party for limit in limits for party in (limit.set_by, limit.holder, limit.actor)} - {""}
    granting = {a.payload.money.authority for a in acts if a.type == "payment.authority_granted" and a.payload.money}
    ceilings, spenders = ceilings_of(tenant, granting), spenders_under(tenant, granting)
    setters |= {said.set_by for many in ceilings.values() for said in many} - {""}
    setters |= {actor for actors in spenders.values() for actor in actors}
    lineage, attesters = lineage_of(tenant, setters)
    parties = {key for act in acts for key in (act.principal, act.actor, *act.path.parties)} | setters
    parties |= {party for above in lineage.values() for party in above}
    parties |= {party.key for act in acts if act.payload.actor for party in act_chain(act.payload.actor)}
    parties |= {act.payload.gate.by.key for act in (*acts, *siblings) if act.payload.gate and act.payload.gate.by}
    parties |= {
        path.grants[0].subject.key
        for paths in (*held.values(), *others.values())
        for path in paths
        if path.grants and path.grants[0].subject
    }
    return Record(
        limits=tuple(limits),
        ceilings=ceilings,
        spenders=spenders,
        spending=tuple(_spending(tenant, acts, others)),
        **by_answer(answers),
        siblings=tuple(siblings),
        kinds=kinds_of(tenant, generation, (parties | {answer.by for answer in answers}) - {""}),
        tokens=load_tokens(tenant, {act.token for act in (*acts, *siblings)}),
        owned=owned_names(tenant),
        held=held,
        others=others,
        lineage=lineage,
        attesters=attesters,
        policies=policies_of(tenant),
        organisations=organisations_of(tenant),
        remits=remits_of(tenant),
        turns=turns_around(tenant, acts),
        agent_issuers=issuers_of_agents(tenant, {act.issuer for act in acts if act.payload.mode == "direct"}),
    )


def _spending(tenant: Tenant, acts: Sequence[Act], others: Mapping[str, Sequence[Path]]) -> list[Spent]:
    """The lines that hold a payment of nobody; and all of a principal where another grant may have had room for an act."""
    roomy = {
        act.principal
        for act in acts
        if act.principal and any(_may_have_room(path, act) for path in others.get(act.actor, ()))
    }
    nobodys = [UUID(act.event_id) for act in acts if follows_an_act(act) and not is_named(act)]
    found = spending_of(tenant, roomy) if roomy else []
    known = {spent.event_id for spent in found}
    return [*found, *(s for s in (spending_in(tenant, nobodys) if nobodys else ()) if s.event_id not in known)]


def _may_have_room(path: Path, act: Act) -> bool:
    """Whether another grant allows the act but for its limits: only then is it asked what was spent under those."""
    if not path.grants or not act.path.grants or path.grants[-1].id == act.path.grants[-1].id:
        return False
    return any(grant.limits for grant in path.grants) and allows(path, act, surely=True)


def limits_around(tenant: Tenant, acts: Sequence[Act]) -> list[LimitFact]:
    """All that was said of the limits that these acts speak of, and of those that may be the same."""
    said = [act for act in acts if act.type.startswith("limit.") and act.payload.limit]
    if not said:
        return []
    parties = {act.payload.limit.holder.key for act in said if act.payload.limit and act.payload.limit.holder}
    grants = {act.via_grant for act in said} - {""}
    facts: list[LimitFact] = []
    for _ in range(ROUNDS):
        facts = limits_bound_to(tenant, parties=parties, grants=grants)
        more = {fact.holder for fact in facts} - {""}, {fact.grant for fact in facts} - {""}
        if more[0] <= parties and more[1] <= grants:
            break
        parties, grants = parties | more[0], grants | more[1]
    return facts


def judged_with(tenant: Tenant, acts: Sequence[Act], types: Collection[str]) -> list[Act]:
    """Other acts of these types whose judgement these may change: what they pay for or are paid by, what shares an approval
    with them, and what nobody is named in.
    """
    known = [act.leaf_index for act in acts]
    found: dict[int, Act] = {}

    def take(conditions: list[str], params: list, only: str = "true") -> None:
        if conditions:
            found.update(
                (act.leaf_index, act)
                for act in select_acts(
                    tenant,
                    f"({' OR '.join(conditions)}) AND type = ANY(%s) AND {only} AND leaf_index <> ALL(%s)",
                    [*params, list(types), known],
                )
            )

    asking = [act for act in acts if follows_an_act(act) or is_gated(act)]
    asking_leaves = {act.leaf_index for act in asking}
    take(*shared_with(asking))
    others = [act for act in acts if act.leaf_index not in asking_leaves]
    take(*shared_with(others), only=f"({MONEY_TYPES} OR (actor = '' AND \"grant\" = '' AND token = ''))")
    if answered := {act.request_id for act in others if act.type.startswith("approval.")} - {""}:
        take(["(request_id = ANY(%s) AND request_id <> '')"], [list(answered)], only="type = 'domain.registered'")
    if tasks := {act.task for act in others if act.type.startswith("approval.")} - {""}:
        take(["(task = ANY(%s) AND task <> '')"], [list(tasks)], only="type = 'domain.registered'")
    # A session that is told late to have ended, or begun again, says what later charges that name it were for.
    turns = [act for act in acts if act.type in ("session.started", "session.ended")]
    named = {name: list({getattr(act, name) for act in turns} - {""}) for name in ("session", "task")}
    if any(named.values()):
        conditions = [f"({name} = ANY(%s) AND {name} <> '' AND occurred_at >= %s)" for name in named]
        first = min(act.occurred_at for act in turns)
        params = [value for names in named.values() for value in (names, first)]
        take(conditions, params, only="type IN ('usage.metered', 'subscription.renewed')")
    gated = [act for act in acts if is_gated(act) and act.target and act.principal]
    if gated:
        take(["(target = ANY(%s) AND target <> '' AND principal = ANY(%s))"],
             [list({act.target for act in gated}), list({act.principal for act in gated})])  # fmt: skip
    return [found[leaf] for leaf in sorted(found)]
