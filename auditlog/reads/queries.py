"""All reads of the record. Each takes a tenant, and reads its current generation."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from django.db import connection
from django.db.models import QuerySet

from auditlog import formats
from auditlog.core import party as kinds
from auditlog.core.acts.repeat import TYPES
from auditlog.core.chain.act import ACT_TYPES, Act
from auditlog.core.chain.authority import allows
from auditlog.core.chain.chain import NO_PATH, NO_TOKENS, Chain, Path, build_chain, path_to, tokens_to, with_kinds
from auditlog.core.chain.gates import GateCheck, check_gates
from auditlog.core.chain.organisation import Organisations
from auditlog.core.chain.record import Approval, Owned, Record, invoice_of
from auditlog.core.chain.statement import Grant, Statement, Token, grant_at, grant_of, restated_of, stated_by, token_of
from auditlog.core.chain.use import answers_for, follows_an_act
from auditlog.core.errors import AnswerableError, NotFound
from auditlog.core.event import Gate, GrantObject, Party, Payload, act_chain, moment
from auditlog.core.log import leaf as leaves
from auditlog.core.log.absence import Absence
from auditlog.core.money.limits import Ceiling, LimitFact, Spent, Terms, restated_in_grants
from auditlog.core.money.money import CREDIT_RAIL, minor, whole
from auditlog.core.party import split_party
from auditlog.core.wire.keys import load
from auditlog.ledger.absence import absence_of
from auditlog.ledger.append import EPOCH, OWN, microseconds
from auditlog.models import Charge, Event, Finding, Organisation, OwnedName, ProjectionState, Role, Source, Tenant
from auditlog.reads.access import Viewer
from auditlog.sources.configuration import refuse_if_judgement_differs
from auditlog.sources.sender import sender_of

decode_payload = msgspec.json.Decoder(Payload).decode


def generation_of(tenant: Tenant) -> int:
    """The generation that reads are served from."""
    return ProjectionState.objects.values_list("generation", flat=True).get(tenant=tenant, is_current=True)


# --- acts -----------------------------------------------------------------------------------------------------------

_ACT_COLUMNS = (
    "event_id, leaf_index, type, source, issuer, grade, occurred_at, received_at, outcome, environment, principal,"
    ' principal_claimed, actor, provider, account, target, resource, verb, operation, "grant", token, via_grant, txn,'
    " session, task, project, request_id, idempotency_key, phase, amount_minor, currency, rail, charge, within_remit,"
    " jkt, through, detail"
)


def select_acts(
    tenant: Tenant, where: str, params: Sequence, *, order: str = "leaf_index", limit: int | None = None
) -> list[Act]:
    """Acts by a condition on `projection_event e`, in leaf order, with their grant paths: two queries in all."""
    generation = generation_of(tenant)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_ACT_COLUMNS} FROM projection_event e WHERE tenant_id = %s AND generation = %s AND ({where})"
            f" ORDER BY {order} LIMIT %s",
            [tenant.pk, generation, *params, limit],
        )
        rows = cursor.fetchall()
    book = GrantBook(_histories(tenant, {row[21] for row in rows}))
    return [
        Act(
            str(row[0]),
            *row[1:35],
            payload=decode_payload(bytes(row[36])),
            path=book.path(row[21], at=row[6], known_leaf=row[1]),
            through=str(row[35] or ""),
        )
        for row in rows
    ]


def load_acts(tenant: Tenant, event_ids: Iterable[str | UUID]) -> dict[str, Act]:
    """Projected acts by event id; ids that are unknown or not yet projected are absent."""
    wanted = [UUID(str(event_id)) for event_id in event_ids]
    return {act.event_id: act for act in select_acts(tenant, "event_id = ANY(%s)", [wanted])}


def load_grants(tenant: Tenant, ids: Collection[str]) -> dict[str, Grant]:
    """The grants and all above them, as they stand: one recursive query."""
    resolved = ((grant_id, grant_of(history)) for grant_id, history in _histories(tenant, ids).items())
    return {grant_id: grant for grant_id, grant in resolved if grant is not None}


def _histories(tenant: Tenant, ids: Collection[str]) -> dict[str, bytes]:
    """All that was said of the grants and of all above them: one recursive query."""
    wanted = [grant_id for grant_id in ids if grant_id]
    if not wanted:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_ABOVE, {"tenant": tenant.pk, "generation": generation_of(tenant), "ids": wanted})
        return {grant_id: bytes(history) for grant_id, history in cursor.fetchall()}


class GrantBook:
    """Paths to grants as of an act's time. Grants that were never stated anew, nearly all, have one path for all acts."""

    def __init__(self, histories: Mapping[str, bytes]) -> None:
        self.histories = histories
        self.standing = {
            grant_id: grant for grant_id, history in histories.items() if (grant := grant_of(history)) is not None
        }
        self.restated = {
            grant_id: history for grant_id, raw in histories.items() if (history := restated_of(raw)) is not None
        }
        self.paths: dict[str, Path] = {}

    def path(self, grant_id: str, *, at: datetime, known_leaf: int) -> Path:
        if not grant_id:
            return NO_PATH
        if grant_id not in self.paths:
            self.paths[grant_id] = path_to(grant_id, self.standing)
        path = self.paths[grant_id]
        if not self.restated or not any(grant.id in self.restated for grant in path.grants):
            return path
        return path_to(grant_id, _AsOf(self, at, known_leaf))


class _AsOf(Mapping[str, Grant]):
    """The grants of a book as they held at one time, as far as `path_to` asks for them."""

    def __init__(self, book: GrantBook, at: datetime, known_leaf: int) -> None:
        self.book, self.at, self.known_leaf = book, at, known_leaf

    def __getitem__(self, grant_id: str) -> Grant:
        history = self.book.restated.get(grant_id)
        if history is None:
            return self.book.standing[grant_id]
        grant = grant_at(self.book.histories[grant_id], *history.as_of(self.at, self.known_leaf))
        if grant is None:
            raise KeyError(grant_id)
        return grant

    def __iter__(self) -> Iterator[str]:
        return iter(self.book.standing)

    def __len__(self) -> int:
        return len(self.book.standing)


_ABOVE = """
    WITH RECURSIVE up AS (
        SELECT unnest(%(ids)s::text[]) AS id
        UNION
        SELECT g.parent FROM projection_grant g JOIN up u ON g.id = u.id
        WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s AND g.parent <> ''
    )
    SELECT g.id, g.history FROM projection_grant g JOIN up USING (id)
    WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s
"""


def paths_to(tenant: Tenant, ids: Collection[str]) -> dict[str, Path]:
    """By grant id: the path from the root to it, as far as the record knows."""
    grants = load_grants(tenant, ids)
    return {grant_id: path_to(grant_id, grants) for grant_id in ids if grant_id}


# --- the record around acts -----------------------------------------------------------------------------------------


def record_around(tenant: Tenant, acts: Sequence[Act], *, with_history: bool = False) -> Record:
    """What a judge of `acts` may look at. A fixed number of queries, whatever the number of acts. `with_history`: also what
    else was done for their principals, for those who do not give all of it themselves.

    Around what they are judged through too: a payment through its act, which may be in nobody's request.
    """
    generation = generation_of(tenant)
    acts, siblings = _with_what_they_pay_for(tenant, acts)
    principals = {act.principal for act in acts} - {""}
    spending = spending_of(tenant, principals)
    answers = _answers(tenant, acts, principals)
    held, others = _held(tenant, acts)
    parties = {key for act in acts for key in (act.principal, act.actor, *act.path.parties)} - {""}
    parties |= {key for spent in spending for key in spent.parties}
    parties |= {a.payload.limit.holder.key for a in acts if a.payload.limit and a.payload.limit.holder}
    grants = {grant.id for act in acts for grant in act.path.grants} | {g for s in spending for g in s.grants}
    limits = limits_bound_to(tenant, parties=parties, grants=grants)
    setters = {party for limit in limits for party in (limit.set_by, limit.holder, limit.actor)} - {""}
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
        ceilings=ceilings_of(
            tenant,
            {spent.authority for spent in spending} | {a.payload.money.authority for a in acts if a.payload.money},
        ),
        **_by_answer(answers),
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
        agent_issuers=_agent_issuers(tenant, {act.issuer for act in acts if act.payload.mode == "direct"}),
        history=tuple(history_of(tenant, principals)) if with_history else (),
    )


def time_of(tenant: Tenant, act: Act) -> datetime:
    """When what this tells of was done: of a statement of money, when the act was that it pays for."""
    if not follows_an_act(act):
        return act.occurred_at
    return answers_for(act, Record(siblings=tuple(_siblings(tenant, [act])))).occurred_at


def _with_what_they_pay_for(tenant: Tenant, acts: Sequence[Act]) -> tuple[list[Act], list[Act]]:
    """The acts with those that they are judged through, and all that either could have something to do with."""
    first = _siblings(tenant, acts)
    around = Record(siblings=tuple(first))
    through = {(done := answers_for(act, around)).leaf_index: done for act in acts if follows_an_act(act)}
    new = [done for leaf, done in through.items() if leaf not in {act.leaf_index for act in acts}]
    siblings = {act.leaf_index: act for act in (*first, *(_siblings(tenant, new) if new else ()))}
    return [*acts, *new], [siblings[leaf] for leaf in sorted(siblings)]


def _agent_issuers(tenant: Tenant, issuers: Collection[str]) -> frozenset[str]:
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


def spending_of(tenant: Tenant, principals: Collection[str]) -> list[Spent]:
    """Every line of the books in the principals' names, with the parties and grants it counts against, in time order."""
    if not principals:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT lead, leaf_index, at, provider, currency, spent, at_most, held, held_from, held_until, returned_at, returned_parts, rail,"
            ' principal, actor, payee, authority, "grant", session, task, project, events, book, charge FROM projection_charge'
            # A refund of what nobody told of was never spent: it fills no limit, and gives no room.
            " WHERE tenant_id = %s AND generation = %s AND principal = ANY(%s) AND book <> 'returned' ORDER BY at, leaf_index",
            [tenant.pk, generation_of(tenant), list(principals)],
        )
        rows = cursor.fetchall()
    paths = paths_to(tenant, {row[17] for row in rows})
    spent = []
    for (lead, leaf, at, provider, currency, low, most, held, held_from, held_until, back_at, back, rail, principal, actor, payee, authority,
         grant, *scope, events, book, unit) in rows:  # fmt: skip
        path = paths.get(grant, NO_PATH)
        spent.append(
            Spent(str(lead), leaf, at, provider, currency, whole(low), whole(held), rail, frozenset({principal, actor, *path.parties} - {""}),
                  frozenset(g.id for g in path.grants), *scope, frozenset(map(str, events)), whole(most),
                  tuple(zip(back_at, map(whole, back), strict=True)), held_from, held_until, payee, authority, book,
                  "" if unit.startswith("event:") else unit)
        )  # fmt: skip
    return spent


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


def limits_bound_to(tenant: Tenant, *, parties: Collection[str], grants: Collection[str]) -> list[LimitFact]:
    """What was said of limits that these parties hold, or that these grants carry, by sources that may say so or not."""
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT l.leaf_index, l.event_id, l.verb, l.holder, l."grant", l.scope, l.scope_id, l.provider, l.currency,'
            ' l."interval", l.zone, l.max_minor, l.enforcement, l.set_by, l.occurred_at, l.limit_id, l.session, l.task, l.project, l.counts,'
            " coalesce(e.issuer, ''), coalesce(e.actor, '')"
            " FROM projection_limit l LEFT JOIN projection_event e ON e.tenant_id = l.tenant_id AND e.generation = l.generation"
            " AND e.event_id = l.event_id"
            ' WHERE l.tenant_id = %s AND l.generation = %s AND (l.holder = ANY(%s) OR (l."grant" = ANY(%s) AND l."grant" <> \'\'))'
            " ORDER BY l.leaf_index, l.position",
            [tenant.pk, generation_of(tenant), list(parties), list(grants)],
        )
        facts = [LimitFact(row[0], str(row[1]), *row[2:]) for row in cursor.fetchall()]
    in_grants = [fact for fact in facts if fact.verb == "grant"]
    wanted = {fact.grant for fact in in_grants}
    stated = {
        grant_id: stated_by(history) for grant_id, history in _histories(tenant, wanted).items() if grant_id in wanted
    }
    versions, rivals = ({grant_id: [_terms(s) for s in said[n]] for grant_id, said in stated.items()} for n in (0, 1))
    return [*(fact for fact in facts if fact.verb != "grant"), *restated_in_grants(in_grants, versions, rivals)]


def _terms(statement: Statement[GrantObject]) -> Terms:
    return Terms(statement.event_id, statement.leaf_index, statement.at, statement.said.limits is not None)


def lines_with(tenant: Tenant, events: Collection[UUID]) -> list[Charge]:
    """Lines of the books in which any of these statements is counted, in order of time."""
    lines = Charge.objects.filter(tenant=tenant, generation=generation_of(tenant))
    found = {line.pk: line for line in lines.filter(lead__in=events)}
    found |= {line.pk: line for line in lines.filter(is_joined=True, events__overlap=list(events))}
    return sorted(found.values(), key=lambda line: (line.at, line.leaf_index, line.pk))


def ceilings_of(tenant: Tenant, authorities: Collection[str]) -> dict[str, tuple[Ceiling, ...]]:
    """By payment authority: its ceilings and its end, as sources say that may say so."""
    wanted = [authority for authority in authorities if authority]
    if not wanted:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT payment_authority, event_id, leaf_index, occurred_at, amount, currency, type, provider, detail FROM projection_event"
            " WHERE tenant_id = %s AND generation = %s AND payment_authority = ANY(%s) AND payment_authority <> '' AND within_remit"
            " AND environment = 'live' AND outcome = 'success' AND type IN ('payment.authority_granted', 'payment.authority_ended')"
            " ORDER BY occurred_at, leaf_index",
            [tenant.pk, generation_of(tenant), wanted],
        )
        rows = cursor.fetchall()
    found: dict[str, list[Ceiling]] = {}
    for authority, event_id, leaf, at, amount, currency, kind, provider, detail in rows:
        ended = kind.endswith("ended")
        limit = decode_payload(bytes(detail)).limit
        found.setdefault(authority, []).append(
            Ceiling(authority, str(event_id), leaf, at, None if ended or amount is None else whole(amount), currency, ended,
                    limit.interval if limit else "once", provider)
        )  # fmt: skip
    return {authority: tuple(said) for authority, said in found.items()}


def paths_held_by(tenant: Tenant, parties: Collection[str]) -> dict[str, list[Path]]:
    """By party: the paths to every grant that lets it act, in the order of their ids."""
    if not parties:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT actor, id FROM projection_grant WHERE tenant_id = %s AND generation = %s AND actor = ANY(%s) ORDER BY id",
            [tenant.pk, generation_of(tenant), list(parties)],
        )
        rows = cursor.fetchall()
    paths = paths_to(tenant, {grant_id for _, grant_id in rows})
    held: dict[str, list[Path]] = {}
    for actor, grant_id in rows:
        held.setdefault(actor, []).append(paths[grant_id])
    return held


def lineage_of(tenant: Tenant, parties: Collection[str]) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
    """By party: everybody who stands above it on any path that leads to it, and the issuers that state those paths."""
    held = paths_held_by(tenant, parties).items()
    return (
        {actor: frozenset(key for path in paths for key in path.parties[:-1]) - {actor} for actor, paths in held},
        {
            actor: frozenset(g.attester for path in paths for g in path.grants if g.standing == "proven")
            for actor, paths in held
        },
    )


def _held(tenant: Tenant, acts: Sequence[Act]) -> tuple[dict[str, tuple[Path, ...]], dict[str, tuple[Path, ...]]]:
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


def kinds_of(tenant: Tenant, generation: int, parties: Collection[str]) -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT key, kinds FROM projection_party WHERE tenant_id = %s AND generation = %s AND key = ANY(%s)",
            [tenant.pk, generation, list(parties)],
        )
        return {key: kinds.kind_of(mask) for key, mask in cursor.fetchall()}


def owned_names(tenant: Tenant) -> tuple[Owned, ...]:
    rows = OwnedName.objects.filter(tenant=tenant).select_related("organisation").order_by("name")
    return tuple(
        Owned(row.name, row.organisation.name, frozenset(row.organisation.issuers), frozenset(row.organisation.parties))
        for row in rows
    )


def organisations_of(tenant: Tenant) -> Organisations:
    """Who answers for whom, as configured. Where two organisations claim one issuer, the first by name has it. Raises
    ConfigurationDiffers where that is not what the log states.
    """
    refuse_if_judgement_differs(tenant)
    rows = list(Organisation.objects.filter(tenant=tenant).order_by("-name").values_list("name", "issuers", "parties"))
    sources = list(Source.objects.filter(tenant=tenant).values_list("issuer", "provider", "organisation__name"))
    speakers: dict[str, set[str]] = {}
    for issuer, provider, _ in sources:
        if provider:
            speakers.setdefault(provider, set()).add(issuer)
    return Organisations(
        {issuer: name for issuer, _, name in sources if name}
        | {issuer: name for name, issuers, _ in rows for issuer in issuers},
        {key: name for name, _, parties in rows for key in parties},
        {provider: frozenset(issuers) for provider, issuers in speakers.items()},
    )


def remits_of(tenant: Tenant) -> dict[str, frozenset[str]]:
    """By source: the issuers that it is confined to."""
    rows = Source.objects.filter(tenant=tenant).exclude(speaks_for=[]).values_list("name", "speaks_for")
    return {name: frozenset(issuers) for name, issuers in rows}


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
    acts, siblings = _with_what_they_pay_for(tenant, [act])
    answers = _answers(tenant, acts, {each.principal for each in acts} - {""})
    keepers = {each.payload.gate.by.key for each in (*acts, *siblings) if each.payload.gate and each.payload.gate.by}
    around = Record(
        siblings=tuple(siblings), kinds=kinds_of(tenant, generation_of(tenant), keepers), organisations=organisations_of(tenant),
        remits=remits_of(tenant),
        tokens=load_tokens(tenant, {each.token for each in (*acts, *siblings)}), **_by_answer(answers),
    )  # fmt: skip
    return check_gates(act, around)


def _by_answer(answers: Iterable[Approval]) -> dict[str, tuple[Approval, ...]]:
    given = [a for a in answers if a.answer == "approved"]
    return {"approvals": tuple(given), "refusals": tuple(a for a in answers if a.answer != "approved")}


def _answers(tenant: Tenant, acts: Sequence[Act], principals: set[str]) -> list[Approval]:
    """Approvals asked for, given or refused that could join these acts: by request id, or in the name of one of their
    principals.
    """
    requests = {act.request_id for act in acts} - {""}
    deciding = select_acts(
        tenant,
        "type IN ('approval.decided', 'approval.requested') AND ((request_id = ANY(%s) AND request_id <> '')"
        " OR (principal = ANY(%s) AND principal <> ''))",
        [list(requests), list(principals)],
    )
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
        )
        for act, gate, answer, by in gated
    ]


def _siblings(tenant: Tenant, acts: Sequence[Act]) -> list[Act]:
    """What shares a charge, an idempotency key, an invoice or a request with these, or did the same to the same target."""
    conditions, params = shared_with(acts, target={act.target for act in acts if any(g.gates for g in act.path.grants)})
    if made := [UUID(act.through) for act in acts if act.through]:
        conditions, params = [*conditions, "event_id = ANY(%s)"], [*params, made]
    return select_acts(tenant, " OR ".join(conditions), params) if conditions else []


def shared_with(acts: Sequence[Act], **more: set[str]) -> tuple[list[str], list]:
    """Conditions, of which one is to hold, and their parameters: what shares a charge, a request, an idempotency key or an
    invoice with these acts, or one of the values of `more` in the column of that name.
    """
    shared = {
        "charge": {act.charge for act in acts},
        "request_id": {act.request_id for act in acts},
        "idempotency_key": {act.idempotency_key for act in acts},
        "invoice": {invoice_of(act) for act in acts},
        **more,
    }
    stated = {column: list(values - {""}) for column, values in shared.items() if values - {""}}
    return [f"({column} = ANY(%s) AND {column} <> '')" for column in stated], list(stated.values())


def load_tokens(tenant: Tenant, jtis: Collection[str]) -> dict[str, Token]:
    """The tokens and all that they were exchanged from, as they stand: one recursive query."""
    wanted = [jti for jti in jtis if jti]
    if not wanted:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_EXCHANGED_FROM, {"tenant": tenant.pk, "generation": generation_of(tenant), "jtis": wanted})
        return {jti: token_of(jti, bytes(history)) for jti, history in cursor.fetchall()}


_EXCHANGED_FROM = """
    WITH RECURSIVE up AS (
        SELECT unnest(%(jtis)s::text[]) AS jti
        UNION
        SELECT t.parent_jti FROM projection_token t JOIN up u ON t.jti = u.jti
        WHERE t.tenant_id = %(tenant)s AND t.generation = %(generation)s AND t.parent_jti <> ''
    )
    SELECT t.jti, t.history FROM projection_token t JOIN up USING (jti)
    WHERE t.tenant_id = %(tenant)s AND t.generation = %(generation)s
"""


# --- integrity of single leaves -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LeafCheck:
    """Whether an event's stored bytes are what its leaf commits to and what its source signed."""

    leaf_index: int
    commitment_ok: bool
    signature_ok: bool | None  # None: the format's check needs what we do not keep, or the payload is erased
    checkpoint_size: int | None  # of the newest signed checkpoint that covers the leaf
    grade: str
    reason: str


def integrity_of(tenant: Tenant, acts: Sequence[Act]) -> dict[str, LeafCheck]:
    """Check each act's bytes against its leaf and its source's key, by event id. Three queries."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.event_id, l.leaf_index, l.source_id, l.grade, l.key, l.commitment, p.salt, p.source_event_id,"
            " p.headers, p.raw FROM ledger_leaf l LEFT JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.leaf_index = ANY(%s)",
            [tenant.pk, EPOCH, [act.leaf_index for act in acts]],
        )
        rows = cursor.fetchall()
        cursor.execute(
            "SELECT max(size) FROM ledger_checkpoint WHERE tenant_id = %s AND epoch = %s", [tenant.pk, EPOCH]
        )
        [signed] = cursor.fetchone()
    sources = {s.pk: s for s in Source.objects.select_related("tenant").prefetch_related("keys").filter(tenant=tenant)}
    checks = {}
    for event_id, index, source_id, grade, key, committed, salt, source_event_id, headers, raw in rows:
        covered = signed if signed is not None and signed > index else None
        if raw is None:
            absence = absence_of(tenant, index)
            checks[str(event_id)] = LeafCheck(index, absence.is_authorised, None, covered, grade, absence.words())
            continue
        commitment = leaves.commitment(bytes(salt), source_event_id.encode(), bytes(headers), bytes(raw))
        signature_ok, reason = _signature(sources[source_id], key, bytes(raw), bytes(headers))
        checks[str(event_id)] = LeafCheck(index, commitment == bytes(committed), signature_ok, covered, grade, reason)
    return checks


def _signature(source: Source, stamp: str, raw: bytes, headers: bytes) -> tuple[bool | None, str]:
    """Check a stored signature again, under the very key that the leaf names, retired or not."""
    if stamp == OWN:
        return None, "no key signed these bytes"
    keys = {key.kid: load(key.jwk, key.kid) for key in source.keys.all() if key.thumbprint == stamp}
    signed_headers: Mapping[str, str] = msgspec.json.decode(headers) if headers else {}
    module = formats.named(source.format)
    try:
        if hasattr(module, "check_stored"):
            module.check_stored(raw, headers, sender_of(source, keys))
        else:
            module.receive(formats.Delivery(raw, module.CONTENT_TYPES[0], signed_headers), sender_of(source, keys))
    except AnswerableError as error:
        if source.secret_env and not keys:
            return None, f"the shared secret cannot confirm it now: {error}"
        return False, str(error)
    return True, f"signature and commitment hold, key {stamp}"


def leaf_bytes_of(kind: str, source: str, received_at: datetime, grade: str, key: str, committed: bytes) -> bytes:
    return leaves.leaf_bytes(
        kind=kind, source=source, received_us=microseconds(received_at), grade=grade, key=key, committed=committed
    )


# --- lists ----------------------------------------------------------------------------------------------------------


def visible_events(viewer: Viewer) -> QuerySet[Event]:
    """The events a caller may see, newest leaf first: its tenant's; of the abuse role, its own provider's only."""
    events = Event.objects.filter(tenant=viewer.tenant, generation=generation_of(viewer.tenant)).order_by("-leaf_index")
    return events.filter(provider=viewer.provider) if viewer.role == Role.ABUSE else events


def under_grant(viewer: Viewer, events: QuerySet[Event], grant_id: str) -> QuerySet[Event]:
    """Those that this grant answers for; of an abuse desk, those that state it themselves: that a token leads to it is
    not the desk's to find out.
    """
    events = events.filter(via_grant=grant_id)
    return events.filter(grant=grant_id) if viewer.role == Role.ABUSE else events


def visible_findings(viewer: Viewer) -> QuerySet[Finding]:
    """The findings a caller may see, newest first."""
    findings = Finding.objects.filter(tenant=viewer.tenant).order_by("-id")
    return findings.filter(provider=viewer.provider) if viewer.role == Role.ABUSE else findings


@dataclass(frozen=True, slots=True)
class Raw:
    """An event's exact bytes, and its place in the log."""

    leaf_index: int
    source: str
    format: str
    received_at: datetime
    grade: str
    key: str
    commitment: bytes
    source_event_id: str
    headers: bytes
    raw: bytes | None  # None: gone, and `absence` says how
    salt: bytes | None
    absence: Absence | None = None

    def encoded_leaf(self) -> bytes:
        """The leaf's canonical bytes (core.leaf)."""
        return leaf_bytes_of("event", self.source, self.received_at, self.grade, self.key, self.commitment)


def raw_event(viewer: Viewer, event_id: UUID) -> Raw:
    """The bytes behind an event, projected or not. Raises NotFound, also for what the caller may not see."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.leaf_index, s.name, s.format, l.received_at, l.grade, l.key, l.commitment, p.source_event_id,"
            " p.headers, p.raw, p.salt FROM ledger_leaf l JOIN auditlog_source s ON s.id = l.source_id"
            " LEFT JOIN ledger_payload p ON p.tenant_id = l.tenant_id AND p.epoch = l.epoch AND p.leaf_index = l.leaf_index"
            " WHERE l.tenant_id = %s AND l.event_id = %s",
            [viewer.tenant.pk, event_id],
        )
        row = cursor.fetchone()
    if row is None or (viewer.role == Role.ABUSE and not visible_events(viewer).filter(event_id=event_id).exists()):
        raise NotFound(f"there is no event {event_id}")
    index, source, fmt, received_at, grade, key, committed, given, headers, raw, salt = row
    return Raw(
        index, source, fmt, received_at, grade, key, bytes(committed), given or "", bytes(headers or b""),
        bytes(raw) if raw is not None else None, bytes(salt) if salt is not None else None,
        absence_of(viewer.tenant, index) if raw is None else None,
    )  # fmt: skip


def chain_of(tenant: Tenant, act: Act) -> Chain:
    """The chain behind an act: its grant path, its tokens, and the actors it names, kinds as the record knows them."""
    return chains_of(tenant, [act])[act.event_id]


def chains_of(tenant: Tenant, acts: Sequence[Act]) -> dict[str, Chain]:
    """By event id: the chains behind acts, in three queries."""
    tokens = load_tokens(tenant, {act.token for act in acts})
    chains = {act.event_id: _chain(act, tokens) for act in acts}
    known = kinds_of(tenant, generation_of(tenant), {hop.party.key for chain in chains.values() for hop in chain.hops})
    return {event_id: with_kinds(chain, known) for event_id, chain in chains.items()}


def _chain(act: Act, tokens: Mapping[str, Token]) -> Chain:
    actor = act.payload.actor
    claimed = act.principal if act.principal_claimed or not act.path.grants else ""
    return build_chain(
        path=act.path,
        tokens=tokens_to(act.token, tokens) if act.token else NO_TOKENS,
        acting=act_chain(actor) if actor else (),
        claimed_principal=Party.of(claimed) if claimed else None,
        grade=act.grade,
        mode=act.payload.mode,
    )


SPEND_KEYS = {
    "agent": "actor",
    "provider": "provider",
    "principal": "principal",
    "rail": "rail",
    "session": "session",
    "task": "task",
    "project": "project",
    "grant": '"grant"',
    "day": "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "month": "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM')",
}


def spend_by(
    viewer: Viewer, keys: Sequence[str], *, since: datetime | None = None, until: datetime | None = None
) -> list[dict]:
    """Spend grouped by `keys` (of SPEND_KEYS), one row a currency: currencies are never added up. Credits apart.

    `spent_minor` is what is certain; `at_most_minor` is more where two statements are perhaps of the same money.
    """
    columns = ", ".join(f"{SPEND_KEYS[key]} AS k{number}" for number, key in enumerate(keys))
    grouping = ", ".join(str(number + 1) for number in range(len(keys) + 2))
    conditions = ["tenant_id = %s", "generation = %s", "has_spend"]
    params: list = [viewer.tenant.pk, generation_of(viewer.tenant)]
    for condition, value in (("at >= %s", since), ("at < %s", until)):
        if value is not None:
            conditions.append(condition)
            params.append(value)
    if viewer.role == Role.ABUSE:
        conditions.append("provider = %s")
        params.append(viewer.provider)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns + ', ' if columns else ''}currency, rail = '{CREDIT_RAIL}', sum(spent), sum(at_most), sum(returned), count(*)"
            f" FROM projection_charge WHERE {' AND '.join(conditions)} GROUP BY {grouping} ORDER BY {grouping}",
            params,
        )
        rows = cursor.fetchall()
    return [
        dict(zip(keys, row[: len(keys)], strict=True))
        | {
            "currency": row[-6],
            "credits": row[-5],
            "spent_minor": minor(row[-4]),
            "at_most_minor": minor(row[-3]),
            "returned_minor": minor(row[-2]),
            "charges": row[-1],
        }
        for row in rows
    ]


def exposure_facts(viewer: Viewer) -> tuple[list[tuple], list[tuple], list[tuple]]:
    """What exposure over time is made of: ceilings (authority, currency, amount, at, ended), uses of them (authority,
    currency, amount, at), holds (authority, currency, amount, opened, closed: as the books have them). Live and successful
    statements only.
    """
    only = " AND provider = %(provider)s" if viewer.role == Role.ABUSE else ""
    params = {
        "tenant": viewer.tenant.pk,
        "generation": generation_of(viewer.tenant),
        "provider": viewer.provider,
    }
    base = (
        "FROM projection_event WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND environment = 'live'"
        f" AND outcome = 'success'{only}"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH ended AS (SELECT payment_authority, min(occurred_at) AS at"
            f" {base} AND type = 'payment.authority_ended' AND payment_authority <> '' GROUP BY 1)"
            " SELECT g.payment_authority, g.currency, g.amount_minor, g.occurred_at, ended.at FROM"
            " (SELECT payment_authority, upper(currency) AS currency, max(amount_minor) AS amount_minor,"
            f" min(occurred_at) AS occurred_at {base} AND type = 'payment.authority_granted'"
            " AND amount_minor IS NOT NULL GROUP BY 1, 2) g LEFT JOIN ended USING (payment_authority)",
            params,
        )
        ceilings = cursor.fetchall()
        cursor.execute(
            "SELECT payment_authority, upper(currency), max(amount_minor), min(occurred_at)"
            f" {base} AND payment_authority = ANY(%(authorities)s) AND phase IN ('captured', 'settled')"
            " AND payment_authority <> '' GROUP BY payment_authority, upper(currency), rail,"
            " CASE WHEN charge = '' THEN event_id::text ELSE charge END",
            params | {"authorities": [row[0] for row in ceilings]},
        )
        uses = cursor.fetchall()
        cursor.execute(
            "SELECT authority, currency, held, held_from, held_until FROM projection_charge"
            f" WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND held > 0 AND held_from IS NOT NULL{only}",
            params,
        )
        holds = [
            (authority, currency, minor(held), opened, closed)
            for authority, currency, held, opened, closed in cursor.fetchall()
        ]
    return ceilings, uses, holds


def _page(sql: str, params: Sequence) -> list[dict]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def parties_page(tenant: Tenant, *, after: str, size: int) -> list[dict]:
    rows = _page(
        "SELECT key AS cursor, kinds, first_at, last_at FROM projection_party"
        " WHERE tenant_id = %s AND generation = %s AND key > %s ORDER BY key LIMIT %s",
        [tenant.pk, generation_of(tenant), after, size],
    )
    return [
        {"cursor": r["cursor"], **split_party(r["cursor"]), "kind": kinds.kind_of(r["kinds"]),
         "first_at": r["first_at"], "last_at": r["last_at"]}
        for r in rows
    ]  # fmt: skip


def grants_page(tenant: Tenant, *, after: str, size: int) -> list[dict]:
    """Grants with what stands of them; the whole statement lies in the event that `event` names."""
    rows = _page(
        "SELECT id AS cursor, id, nullif(parent, '') AS parent, stated, subject, actor, principal, complete, proven, depth,"
        " granted_at, expires_at, revoked_at, leaf_index, history FROM projection_grant"
        " WHERE tenant_id = %s AND generation = %s AND id > %s ORDER BY id LIMIT %s",
        [tenant.pk, generation_of(tenant), after, size],
    )
    for row in rows:
        grant = grant_of(bytes(row.pop("history")))
        for name in ("subject", "actor", "principal"):
            row[name] = split_party(row[name])
        row |= {
            "authorization_details": msgspec.to_builtins(grant.details) if grant else None,
            "limits": msgspec.to_builtins(grant.limits) if grant else None,
            "gates": list(grant.gates) if grant and grant.gates else [],
            "standing": grant.standing if grant else "unknown",
            "attester": grant.attester if grant else None,
            "event": grant.event_id if grant else None,
            "conflicts": list(grant.conflicts) if grant else [],
        }
    return rows


def tokens_page(tenant: Tenant, *, after: str, size: int) -> list[dict]:
    rows = _page(
        "SELECT jti AS cursor, jti, nullif(parent_jti, '') AS parent_jti, stated, nullif(via_grant, '') AS \"grant\","
        " subject, actor, issued_at, expires_at, revoked_at, leaf_index FROM projection_token"
        " WHERE tenant_id = %s AND generation = %s AND jti > %s ORDER BY jti LIMIT %s",
        [tenant.pk, generation_of(tenant), after, size],
    )
    for row in rows:
        row |= {"subject": split_party(row["subject"]), "actor": split_party(row["actor"])}
    return rows


def limits_page(tenant: Tenant, *, after: str, size: int) -> list[dict]:
    """What was said of limits, oldest first. The cursor is `leaf-position`."""
    leaf, _, position = (after or "-1-0").rpartition("-")
    rows = _page(
        "SELECT leaf_index || '-' || position AS cursor, leaf_index, event_id AS event, verb, holder, nullif(\"grant\", '')"
        " AS \"grant\", scope, nullif(scope_id, '') AS scope_id, nullif(provider, '') AS provider, currency, \"interval\","
        " nullif(zone, '') AS zone, max_minor, enforcement, set_by, occurred_at FROM projection_limit"
        " WHERE tenant_id = %s AND generation = %s AND (leaf_index, position) > (%s, %s)"
        " ORDER BY leaf_index, position LIMIT %s",
        [tenant.pk, generation_of(tenant), _number(leaf), _number(position), size],
    )
    for row in rows:
        row |= {"holder": split_party(row["holder"]), "set_by": split_party(row["set_by"])}
    return rows


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return -1


def sources_page(tenant: Tenant) -> list[dict]:
    """Every source, what it may speak for, its keys, and when it was last heard."""
    rows = _page(
        "SELECT s.name, s.format, s.issuer, nullif(s.provider, '') AS provider, s.layers, s.speaks_for, s.state, s.heartbeat_seconds,"
        " (SELECT array_agg(k.kid ORDER BY k.id) FROM auditlog_sourcekey k WHERE k.source_id = s.id AND k.retired_at IS NULL)"
        " AS keys, (SELECT a.received_at FROM projection_source a WHERE a.tenant_id = s.tenant_id AND a.generation = %s"
        " AND a.source = s.name) AS last_received_at"
        " FROM auditlog_source s WHERE s.tenant_id = %s ORDER BY s.name",
        [generation_of(tenant), tenant.pk],
    )
    return [row | {"keys": row["keys"] or []} for row in rows]
