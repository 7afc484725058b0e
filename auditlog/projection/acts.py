"""What was done and by whom: events with the chain that answers for each, parties, limits and what was made.

Part of the fold in `project.py`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from operator import itemgetter
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from auditlog.core import party as kinds
from auditlog.core.amount import minor
from auditlog.core.event import (
    GRANTED,
    Actor,
    Event,
    GrantObject,
    Limit,
    Party,
    Payload,
    TokenObject,
    encode_payload,
    moment,
)
from auditlog.core.holding import ENDED_TYPES, KIND_OF, MADE_TYPES, Life, Told, life_at, told_of
from auditlog.core.money.money import RESTORED, book_of, failed_refund, releases
from auditlog.database.bulk import copy_rows, upsert_rows
from auditlog.projection.batch import Batch, Read, speaks_for, stated_grant, stated_token
from auditlog.projection.lives import NAMES, lives_of
from auditlog.projection.payments import COLUMNS, rows_where

EVENT_TYPES = {
    "tenant_id": "int8", "generation": "int4", "leaf_index": "int8", "event_id": "uuid", "source": "varchar",
    "source_event_id": "text", "issuer": "text", "type": "varchar", "occurred_at": "timestamptz",
    "received_at": "timestamptz", "grade": "varchar", "within_remit": "bool", "outcome": "varchar",
    "environment": "varchar", "mode": "varchar", "principal": "text", "principal_claimed": "bool", "actor": "text",
    "actor_kind": "varchar", "claimed_principal": "text", "verb": "text", "provider": "text", "account": "text",
    "target_type": "text", "target": "text", "resource": "text", "operation": "text", "grant": "text", "token": "text",
    "via_grant": "text", "chain_complete": "bool", "chain_proven": "bool", "chain_depth": "int2", "txn": "text",
    "session": "text", "task": "text", "project": "text", "request_id": "text", "trace_id": "text", "ip": "text",
    "ray_id": "text", "idempotency_key": "text", "phase": "varchar", "book": "varchar", "amount_minor": "int8", "amount": "numeric",
    "currency": "varchar", "rail": "text", "charge": "text", "payment": "text", "invoice": "text", "subscription": "text", "period_from": "timestamptz",
    "period_to": "timestamptz", "payee": "text", "payer": "text", "payment_authority": "text", "through": "uuid", "jkt": "text", "detail": "bytea",
}  # fmt: skip
BLOCK = 500  # leaves: what an erasure reads again to know who is still named
MENTION_TYPES = {
    "tenant_id": "int8", "generation": "int4", "key": "text", "block": "int8", "kinds": "int2", "first_at": "timestamptz",
    "last_at": "timestamptz",
}  # fmt: skip
LIMIT_TYPES = {
    "tenant_id": "int8", "generation": "int4", "leaf_index": "int8", "position": "int2", "event_id": "uuid",
    "verb": "varchar", "holder": "text", "grant": "text", "principal": "text", "scope": "varchar", "scope_id": "text",
    "provider": "text", "currency": "varchar", "interval": "varchar", "zone": "text", "max_minor": "int8",
    "enforcement": "varchar", "set_by": "text", "occurred_at": "timestamptz", "limit_id": "text", "session": "text", "task": "text",
    "project": "text", "counts": "bool",
}  # fmt: skip
PARTY_TYPES = {
    "tenant_id": "int8", "generation": "int4", "key": "text", "kinds": "int2", "first_at": "timestamptz",
    "last_at": "timestamptz",
}  # fmt: skip
HOLDING_TYPES = {
    "tenant_id": "int8", "generation": "int4", "provider": "text", "kind": "varchar", "id": "text", "event_id": "uuid",
    "made_at": "timestamptz", "last_made_at": "timestamptz", "how": "varchar", "account": "text", "matched_by": "text",
    "ended_at": "timestamptz", "ended_by": "uuid", "accounts": "text[]",
}  # fmt: skip


@dataclass(slots=True)
class Summary:
    """What an event needs to know of the grant it was done under."""

    principal: str
    complete: bool
    proven: bool
    depth: int
    actor: str


def make_events(batch: Batch) -> None:
    """The rows of the batch's events, with the chains as they now are."""
    vias = _vias(batch)
    summaries = _summaries(batch, {via for via in vias.values() if via})
    batch.events = [
        _event_row(batch, read, vias[read.leaf_index], summaries.get(vias[read.leaf_index])) for read in batch.reads
    ]
    batch.money = [_MONEY(row) for row in batch.events if row[_BOOK]]


def write_events(batch: Batch) -> None:
    copy_rows("projection_event", EVENT_TYPES, batch.events)


_BOOK = list(EVENT_TYPES).index("book")
_MONEY = itemgetter(*(list(EVENT_TYPES).index(name) for name in COLUMNS))


def _bound_key(payload: Payload) -> str:
    """The key that this event's grant or token object is bound to; of an act, the one that it was done with."""
    is_object = False
    for said in (payload.token, payload.grant):
        if isinstance(said, (TokenObject, GrantObject)):
            is_object = True
            if said.cnf and said.cnf.jkt:
                return said.cnf.jkt
    shown = payload.attestation
    return shown.digest if shown and shown.type == "jkt" and not is_object else ""


def _vias(batch: Batch) -> dict[int, str]:
    """By leaf: the grant that answers for the event, as stated or through its token."""
    by_token = {stated_token(read.event.payload) for read in batch.reads if not stated_grant(read.event.payload)} - {""}
    found: dict[str, str] = {}
    if by_token:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT jti, via_grant FROM projection_token WHERE tenant_id = %s AND generation = %s AND jti = ANY(%s)",
                [*batch.scope, list(by_token)],
            )
            found = dict(cursor.fetchall())
    return {
        read.leaf_index: stated_grant(read.event.payload) or found.get(stated_token(read.event.payload), "")
        for read in batch.reads
    }


def _summaries(batch: Batch, ids: set[str]) -> dict[str, Summary]:
    if not ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, principal, complete, proven, depth, actor FROM projection_grant"
            " WHERE tenant_id = %s AND generation = %s AND id = ANY(%s)",
            [*batch.scope, list(ids)],
        )
        return {grant_id: Summary(*row) for grant_id, *row in cursor.fetchall()}


def claimed_principal(event: Event) -> str:
    """Whose act the sender says it was: `sub_id`, else the human at the far end of its `act` claim."""
    return event.principal_claim.key if event.principal_claim is not None else principal_of_chain(event.payload)


_STATING = ("delegation.", "mandate.", "token.")


def cites_anothers(event_type: str, claimed: str, actor: str, root: str, holder: str) -> bool:
    """Whether an act names a grant that is not its actor's, and says that it was done for somebody else than the grant's
    root: then it is of whom it says, claimed. Whoever names another's grant does not spend her money by it.
    """
    if event_type.startswith(_STATING):
        return False
    return bool(claimed and actor and holder) and claimed != root and actor != holder


def principal_of_chain(payload: Payload) -> str:
    """The human at the far end of an `act` claim."""
    oldest = payload.actor
    while oldest is not None and oldest.act is not None:
        oldest = oldest.act
    return oldest.key if oldest is not None and oldest.kind == "human" else ""


def _event_row(batch: Batch, read: Read, via: str, summary: Summary | None) -> tuple:
    event, payload = read.event, read.event.payload
    action, money, actor = payload.action, payload.money, payload.actor
    claimed = claimed_principal(event)
    rooted = (
        summary is not None
        and summary.principal != ""
        and not cites_anothers(event.type, claimed, actor.key if actor else "", summary.principal, summary.actor)
    )
    target = action.target if action else None
    amount = money.exact if money else None
    may_count = payload.environment == "live" and read.within_remit
    phase = (money.phase or "") if money else ""
    if not money or not may_count:
        book = ""
    elif money.charge and releases(event.type, payload.outcome):
        book = "returned"
    elif payload.outcome == "success":
        book = book_of(event.type, phase)
    elif failed_refund(event.type, payload.outcome, phase):
        book, phase = "returned", RESTORED
    else:
        book = ""
    period = money.period if money else None
    return (
        *batch.scope,
        read.leaf_index,
        read.event_id,
        read.source.name,
        event.source_event_id,
        event.issuer,
        event.type,
        event.occurred_at,
        read.received_at,
        read.grade,
        read.within_remit,
        payload.outcome,
        payload.environment,
        payload.mode,
        summary.principal if rooted else claimed,
        not rooted,
        actor.key if actor else "",
        actor.kind if actor else "unknown",
        claimed,
        action.verb if action else "",
        (action.provider if action else "") or read.source.provider,
        action.account if action else "",
        target.type if target else "",
        target.id if target else "",
        action.resource if action else "",
        payload.call.operation if payload.call else "",
        stated_grant(payload),
        stated_token(payload),
        via,
        summary.complete if summary else False,
        summary.proven if summary else False,
        summary.depth if summary else 0,
        event.txn,
        payload.session,
        payload.task,
        payload.project,
        payload.request_id,
        payload.trace_id,
        payload.client.ip if payload.client else "",
        payload.client.ray_id if payload.client else "",
        payload.call.idempotency_key if payload.call else "",
        phase,
        book if amount is not None or event.type in ("invoice.voided", "payment.failed") else "",
        None if amount is None else minor(amount),
        None if amount is None else Decimal(amount),
        money.currency.upper() if money else "",
        money.rail if money else "",
        money.charge if money else "",
        money.payment if money else "",
        money.invoice if money else "",
        money.subscription if money else "",
        moment(period.begins) if period else None,
        moment(period.ends) if period else None,
        money.payee if money else "",
        money.payer if money else "",
        money.authority if money else "",
        None,  # through: see attribute_through_things
        _bound_key(payload),
        encode_payload(payload),
    )


def reattribute(batch: Batch, grants: set[str], tokens: set[str]) -> None:
    """Give older events the chain that this batch completed or changed, in two statements, and have them looked at."""
    scope = {"tenant": batch.tenant.pk, "generation": batch.generation}
    if tokens:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE projection_event e SET via_grant = t.via_grant FROM projection_token t"
                " WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.token = ANY(%(tokens)s) AND e.token <> ''"
                " AND e.\"grant\" = '' AND t.tenant_id = e.tenant_id AND t.generation = e.generation"
                " AND t.jti = e.token AND e.via_grant <> t.via_grant RETURNING t.via_grant, e.token",
                scope | {"tokens": list(tokens)},
            )
            moved = cursor.fetchall()
            cursor.execute(_ADRIFT, scope | {"tokens": list(tokens)})
        grants = grants | {via for via, _ in moved}
        batch.dirty |= {("token", token) for token in tokens}
    if not grants:
        return
    with connection.cursor() as cursor:
        cursor.execute(_REATTRIBUTE, scope | {"ids": list(grants)})
        batch.dirty |= {("principal", principal) for (principal,) in cursor.fetchall()}
    batch.dirty |= {("grant", grant_id) for grant_id in grants}


# What was erased can have been all that led from a token to a grant.
_ADRIFT = """
    UPDATE projection_event e SET principal = claimed_principal, principal_claimed = true, chain_complete = false, chain_proven = false,
           chain_depth = 0
    WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.token = ANY(%(tokens)s) AND e.token <> '' AND e."grant" = ''
      AND e.via_grant = '' AND NOT (e.principal_claimed AND e.principal = e.claimed_principal AND e.chain_depth = 0)
"""
# Returns the principals that events were taken from: what was found of those must be looked at again.
_REATTRIBUTE = """
    WITH moving AS (
        SELECT e.leaf_index, e.principal AS before, w.principal, w.claimed, g.complete, g.proven, g.depth
        FROM projection_event e JOIN projection_grant g
          ON g.tenant_id = e.tenant_id AND g.generation = e.generation AND g.id = e.via_grant
        -- As `cites_anothers` has it.
        CROSS JOIN LATERAL (SELECT g.principal = '' OR (e.claimed_principal <> '' AND e.actor <> '' AND g.actor <> ''
            AND e.claimed_principal <> g.principal AND e.actor <> g.actor AND e.type !~ '^(delegation|mandate|token)[.]') AS claimed) c
        CROSS JOIN LATERAL (SELECT c.claimed, CASE WHEN c.claimed THEN e.claimed_principal ELSE g.principal END AS principal) w
        WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.via_grant = ANY(%(ids)s) AND e.via_grant <> ''
          AND (e.principal, e.principal_claimed, e.chain_complete, e.chain_proven, e.chain_depth) IS DISTINCT FROM
              (w.principal, w.claimed, g.complete, g.proven, g.depth)
    ), moved AS (
        UPDATE projection_event e SET principal = m.principal, principal_claimed = m.claimed,
               chain_complete = m.complete, chain_proven = m.proven, chain_depth = m.depth
        FROM moving m WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.leaf_index = m.leaf_index
    )
    SELECT DISTINCT before FROM moving WHERE before <> principal
"""


# --- through things -------------------------------------------------------------------------------------------------

# What billers say of a thing, naming nobody: it is attributed through whoever made the thing (`DESIGN.md` 4.3).
BILLED_TYPES = frozenset(
    "usage.metered invoice.issued invoice.paid invoice.failed invoice.voided invoice.credited payment.captured payment.settled "
    "payment.refunded subscription.renewed domain.renewed".split()
)
_COLUMN = {name: place for place, name in enumerate(EVENT_TYPES)}
BEFORE = timedelta(
    days=1
)  # a biller's line may be dated so much before its thing was made: by the day, or by another clock


def attribute_through_things(batch: Batch) -> None:
    """Events that name nobody and a thing that an agent made get that agent's principal and grant. In either order of arrival."""
    _attribute_new(batch)
    _attribute_older(batch)


def _names_nobody(row: tuple) -> bool:
    return row[_COLUMN["type"]] in BILLED_TYPES and not (
        row[_COLUMN["actor"]] or row[_COLUMN["via_grant"]] or row[_COLUMN["token"]]
    )


def _starts(row: tuple) -> bool:
    """Whether an agent says that it started a subscription, which it names (as `_STARTED` asks)."""
    kind, subscription, actor, *stated = _STARTS(row)
    return kind == "subscription.started" and bool(subscription and actor) and stated == ["success", "live", True]


_STARTS = itemgetter(
    *(_COLUMN[name] for name in ("type", "subscription", "actor", "outcome", "environment", "within_remit"))
)


class _Thing(NamedTuple):
    """What a line names. `place` says where the id means something: a provider, or `rail:` and a rail."""

    place: str
    id: str
    kind: str  # subscription | account | "": whatever an agent can make


_NAMED = ("provider", "rail", "subscription", "target", "resource", "account")  # in this order in `_things_of`


def _things_of(provider: str, rail: str, subscription: str, target: str, resource: str, account: str) -> list[_Thing]:
    """The things that an event names, the nearest first. A bank knows the subscription that it collects for by its rail."""
    found = [_Thing(at, subscription, "subscription") for at in (provider, f"rail:{rail}" if rail else "")]
    found += [_Thing(provider, subscription, ""), _Thing(provider, target, ""), _Thing(provider, resource, "")]
    return [thing for thing in (*found, _Thing(provider, account, "account")) if thing.place and thing.id]


_NAMES = itemgetter(*(_COLUMN[name] for name in _NAMED))


def _attribute_new(batch: Batch) -> None:
    naming = {
        place: things
        for place, row in enumerate(batch.events)
        if _names_nobody(row) and (things := _things_of(*_NAMES(row)))
    }
    if not naming:
        return
    makers = _makers(batch, {thing for things in naming.values() for thing in things})
    for place, things in naming.items():
        row = batch.events[place]
        where, when = row[_COLUMN["account"]], row[_COLUMN["occurred_at"]]
        maker = next((makers[thing].at(when, where) for thing in things if thing in makers), None)
        if maker is None or not maker.may_be_of(row[_COLUMN["principal"]], row[_COLUMN["occurred_at"]]):
            continue
        changed = list(row)
        for name, value in (("principal", maker.principal), ("principal_claimed", maker.claimed), ("via_grant", maker.via),
                            ("through", maker.event_id), ("chain_complete", maker.complete), ("chain_proven", maker.proven), ("chain_depth", maker.depth)):  # fmt: skip
            changed[_COLUMN[name]] = value
        batch.events[place] = tuple(changed)
    batch.money = [_MONEY(row) for row in batch.events if row[_BOOK]]


@dataclass(frozen=True, slots=True)
class _Maker:
    """The event that made a thing, with what it says of who did it for whom."""

    event_id: UUID
    at: datetime
    principal: str
    claimed: bool
    via: str
    complete: bool
    proven: bool
    depth: int

    def may_be_of(self, principal: str, at: datetime) -> bool:
        """Whether a line in this name, or nobody's, can be for the thing: not before the day on which it was made."""
        return principal in ("", self.principal) and at >= self.at - BEFORE


class _Made(NamedTuple):
    """Who made a thing; where it was given up and made again, passed on, or made in several accounts, who made it each time."""

    first: _Maker
    by_account: Mapping[str, Sequence[Life]] = {}
    makers: Mapping[UUID, _Maker] = {}

    def at(self, at: datetime, account: str) -> _Maker | None:
        """Who had made it by then, in that account; None where that making names nobody, or nobody says which it was."""
        if not self.by_account:
            return self.first
        if "" in self.by_account or account in self.by_account:
            return self._of(self.by_account.get(account) or self.by_account[""], at)
        if account:
            return None
        found = [maker for lives in self.by_account.values() if (maker := self._of(lives, at)) is not None]
        return min(found, key=lambda maker: maker.at) if len({maker.principal for maker in found}) == 1 else None

    def _of(self, lives: Sequence[Life], at: datetime) -> _Maker | None:
        life = life_at(lives, at, before=BEFORE)
        return self.makers.get(life.made_by) if life is not None else None


def _makers(batch: Batch, wanted: set[_Thing]) -> dict[_Thing, _Made]:
    """The first making of each thing by somebody whom its event names, and of what was given up and made again each of them.
    Of a subscription that two principals' agents say they started nobody knows whose it is.
    """
    found: dict[_Thing, _Made] = {}
    held = {thing for thing in wanted if thing.kind != "subscription"}
    with connection.cursor() as cursor:
        cursor.execute(_MADE, {"tenant": batch.scope[0], "generation": batch.scope[1],
                               "providers": [t.place for t in held], "things": [t.id for t in held]})  # fmt: skip
        made = [
            (_Thing(place, id, "account" if kind == "account" else ""), kind, by)
            for place, id, kind, by in cursor.fetchall()
        ]
        named = list({t.id for t in wanted - held})
        if named:
            cursor.execute(_STARTED, [*batch.scope, named])
        started = cursor.fetchall() if named else []
    started += [_BEGUN(row) for row in batch.events if _starts(row)]
    begun: dict[_Thing, set[UUID]] = {}
    for _, event_id, provider, rail, subscription in sorted(started, key=lambda row: row[:2], reverse=True):
        for place in (provider, f"rail:{rail}" if rail else ""):
            if (thing := _Thing(place, subscription, "subscription")) in wanted:
                begun.setdefault(thing, set()).add(event_id)
                made.append((thing, "", event_id))
    again = _lives(batch, [(thing.place, thing.id) for thing, kind, _ in made if kind])
    said = {row[_COLUMN["event_id"]]: _maker(row) for row in batch.events if row[_COLUMN["actor"]]}
    makings = [*(event_id for _, _, event_id in made), *_made_by(again)]
    older = [event_id for event_id in makings if event_id not in said]
    if older:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT event_id, occurred_at, principal, principal_claimed, via_grant, chain_complete, chain_proven, chain_depth"
                " FROM projection_event"
                " WHERE tenant_id = %s AND generation = %s AND event_id = ANY(%s) AND actor <> ''",
                [*batch.scope, older],
            )
            said |= {row[0]: _Maker(*row) for row in cursor.fetchall()}
    for thing, kind, event_id in made:
        if event_id in said and len({said[one].principal for one in begun.get(thing, ()) if one in said}) < 2:
            found[thing] = _Made(said[event_id], again.get((thing.place, kind, thing.id), {}), said)
    return found


def _lives(batch: Batch, named: Collection[tuple[str, str]]) -> dict[tuple[str, str, str], dict[str, list[Life]]]:
    """The lives of things, by provider, kind and id (projection.lives)."""
    return lives_of(batch.scope, named, [_LIVED(row) for row in batch.events if row[_COLUMN["type"]] in KIND_OF])


def _made_by(found: Mapping[tuple[str, str, str], Mapping[str, Sequence[Life]]]) -> set[UUID]:
    return {life.made_by for by_account in found.values() for lives in by_account.values() for life in lives}


def _maker(row: tuple) -> _Maker:
    return _Maker(
        *(
            row[_COLUMN[name]]
            for name in (
                "event_id",
                "occurred_at",
                "principal",
                "principal_claimed",
                "via_grant",
                "chain_complete",
                "chain_proven",
                "chain_depth",
            )
        )
    )


_LIVED = itemgetter(*(_COLUMN[name] for name in NAMES))
# Made, not linked: what was there before an agent linked it is no agent's making.
_BEGUN = itemgetter(*(_COLUMN[name] for name in ("occurred_at", "event_id", "provider", "rail", "subscription")))
_STARTED = """
    SELECT e.occurred_at, e.event_id, e.provider, e.rail, e.subscription FROM projection_event e
    WHERE e.tenant_id = %s AND e.generation = %s AND e.subscription = ANY(%s) AND e.subscription <> ''
      AND e.type = 'subscription.started' AND e.outcome = 'success' AND e.environment = 'live'
      AND e.within_remit AND e.actor <> ''
"""
_MADE = """
    SELECT h.provider, h.id, h.kind, h.event_id FROM projection_holding h
    JOIN unnest(%(providers)s::text[], %(things)s::text[]) AS w(provider, id) ON h.provider = w.provider AND h.id = w.id
    WHERE h.tenant_id = %(tenant)s AND h.generation = %(generation)s AND h.how = 'created' AND h.event_id IS NOT NULL
      AND h.kind IN ('account', 'resource', 'domain', 'subscription', 'project')
    ORDER BY h.made_at DESC, h.event_id DESC
"""


def _attribute_older(batch: Batch) -> None:
    """What was told before its thing's making arrived."""
    _attribute_lives_anew(batch)
    making = [
        row
        for row in batch.events
        if row[_COLUMN["type"]] in MADE_TYPES and row[_COLUMN["actor"]] and row[_COLUMN["outcome"]] == "success"
    ]
    things = {thing for row in making for thing in _things_of(*_NAMES(row))}
    if not things:
        return
    places = {thing.place for thing in things}
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, {"tenant": batch.scope[0], "generation": batch.scope[1], "types": sorted(BILLED_TYPES),
                                  "things": sorted({thing.id for thing in things}), "providers": sorted(places),
                                  "rails": sorted(place[5:] for place in places if place.startswith("rail:"))})  # fmt: skip
        waiting = [row for row in cursor.fetchall() if not things.isdisjoint(_things_of(*row[3:]))]
        # A second word on who started a subscription: what the first one was given is asked anew.
        begun = {row[_COLUMN["event_id"]]: row[_COLUMN["subscription"]] for row in making if _starts(row)}
        if begun:
            cursor.execute(_STARTED, [*batch.scope, sorted(set(begun.values()))])
        others = {row[1] for row in cursor.fetchall()} - begun.keys() if begun else set()
    _attribute(batch, waiting)
    if others:
        attribute_anew(batch, others)


def _attribute_lives_anew(batch: Batch) -> None:
    """What a making or an end of this batch parts from others: lines about a thing that is not its first maker's alone."""
    telling = [row for row in batch.events if row[_COLUMN["type"]] in KIND_OF and row[_COLUMN["outcome"]] == "success"]
    named = {
        (thing.place, thing.id) for row in telling for thing in _things_of(*_NAMES(row)) if thing.kind != "subscription"
    }
    made = _made_by(_lives(batch, named))
    if made:
        attribute_anew(batch, made)


def _attribute(batch: Batch, waiting: Sequence[tuple]) -> set[int]:
    """Rows of (leaf, principal, time) and what `_things_of` takes, that name nobody: to whoever made a thing. Returns the
    leaves that somebody got.
    """
    if not waiting:
        return set()
    makers = _makers(batch, {thing for row in waiting for thing in _things_of(*row[3:])})
    changed = []
    for leaf, principal, at, *named in waiting:
        maker = next((makers[thing].at(at, named[-1]) for thing in _things_of(*named) if thing in makers), None)
        if maker is not None and maker.may_be_of(principal, at):
            changed.append((leaf, maker))
    if not changed:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(_ATTRIBUTE, {
            "tenant": batch.scope[0], "generation": batch.scope[1], "leaves": [leaf for leaf, _ in changed],
            **{name: [getattr(maker, name) for _, maker in changed] for name in ("event_id", "principal", "claimed", "via", "complete", "proven", "depth")},
        })  # fmt: skip
    batch.dirty |= {("principal", maker.principal) for _, maker in changed if maker.principal}
    leaves = [leaf for leaf, _ in changed]
    _count_anew(batch, leaves)
    return set(leaves)


def _count_anew(batch: Batch, leaves: Sequence[int]) -> None:
    """Older rows that changed hands: their money is folded again, and they are judged again."""
    batch.attributed += rows_where(batch.scope, "e.leaf_index = ANY(%(leaves)s)", {"leaves": leaves})
    batch.dirty |= {("event", str(leaf)) for leaf in leaves}


def attribute_anew(batch: Batch, events: Collection[UUID]) -> None:
    """What was attributed through a thing that one of these events made, and through whose making it is now, if anybody's."""
    with connection.cursor() as cursor:
        cursor.execute(_DETACH, [*batch.scope, list(events)])
        detached = cursor.fetchall()
        cursor.execute(_PRINCIPALS, [*batch.scope, list(events)])
        batch.dirty |= {("principal", principal) for (principal,) in cursor.fetchall()}
    given = _attribute(batch, detached)
    if nobodys := [leaf for leaf, *_ in detached if leaf not in given]:
        _count_anew(batch, nobodys)


_DETACH = """
    UPDATE projection_event e SET principal = claimed_principal, principal_claimed = true, via_grant = '', through = NULL,
           chain_complete = false, chain_proven = false, chain_depth = 0
    WHERE e.tenant_id = %s AND e.generation = %s AND e.through = ANY(%s) AND e.through IS NOT NULL
    RETURNING e.leaf_index, e.principal, e.occurred_at, e.provider, e.rail, e.subscription, e.target, e.resource, e.account
"""
_PRINCIPALS = """
    SELECT DISTINCT principal FROM projection_event WHERE tenant_id = %s AND generation = %s AND event_id = ANY(%s) AND principal <> ''
"""
_WAITING = """
    SELECT e.leaf_index, e.principal, e.occurred_at, e.provider, e.rail, e.subscription, e.target, e.resource, e.account
    FROM projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.type = ANY(%(types)s) AND e.actor = '' AND e.via_grant = ''
      AND e.token = '' AND (e.provider = ANY(%(providers)s) OR e.rail = ANY(%(rails)s))
      AND ((e.target = ANY(%(things)s) AND e.target <> '') OR (e.account = ANY(%(things)s) AND e.account <> '')
           OR (e.subscription = ANY(%(things)s) AND e.subscription <> ''))
"""
_ATTRIBUTE = """
    UPDATE projection_event e SET principal = m.principal, principal_claimed = m.claimed, via_grant = m.via, through = m.event_id,
           chain_complete = m.complete, chain_proven = m.proven, chain_depth = m.depth
    FROM unnest(%(leaves)s::bigint[], %(event_id)s::uuid[], %(principal)s::text[], %(claimed)s::bool[], %(via)s::text[], %(complete)s::bool[],
                %(proven)s::bool[], %(depth)s::int[]) AS m(leaf_index, event_id, principal, claimed, via, complete, proven, depth)
    WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.leaf_index = m.leaf_index
"""


# --- parties, limits, charges ---------------------------------------------------------------------------------------


def write_parties(batch: Batch) -> None:
    """What is said of each party, by block of leaves and altogether: a block can be told anew when something in it is erased."""
    blocks = _mentions(batch.reads)
    parties: dict[str, list] = {}
    for (key, _), (mask, first, last) in blocks.items():
        known = parties.setdefault(key, [0, first, last])
        known[:] = known[0] | mask, min(known[1], first), max(known[2], last)
    batch.dirty |= {
        ("party", key) for key in _of_another_kind(batch, {key: facts[0] for key, facts in parties.items()})
    }
    upsert_rows(
        "projection_mention", MENTION_TYPES, [(*batch.scope, *key, *facts) for key, facts in sorted(blocks.items())],
        key=("tenant_id", "generation", "key", "block"), merge=_MERGE_PARTIES,
    )  # fmt: skip
    upsert_rows(
        "projection_party", PARTY_TYPES, [(*batch.scope, key, *facts) for key, facts in sorted(parties.items())],
        key=("tenant_id", "generation", "key"), merge=_MERGE_PARTIES,
    )  # fmt: skip


def _of_another_kind(batch: Batch, said: Mapping[str, int]) -> set[str]:
    """Of parties that were named before, those that are of another kind with what is said now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT key, kinds FROM projection_party WHERE tenant_id = %s AND generation = %s AND key = ANY(%s)",
            [*batch.scope, list(said)],
        )
        return {key for key, mask in cursor.fetchall() if kinds.kind_of(mask) != kinds.kind_of(mask | said[key])}


_MERGE_PARTIES = {
    "kinds": "t.kinds | excluded.kinds",
    "first_at": "least(t.first_at, excluded.first_at)",
    "last_at": "greatest(t.last_at, excluded.last_at)",
}


def _mentions(reads: Iterable[Read]) -> dict[tuple[str, int], list]:
    """(kinds as a bit mask, first, last) by party key and block."""
    said: dict[tuple[str, bool, int, str, str, str], list[datetime]] = {}  # many name the same few
    sources = {}
    for read in reads:
        sources[read.source.name] = read.source
        source, within, at, block = (
            read.source.name,
            read.within_remit,
            read.event.occurred_at,
            read.leaf_index // BLOCK,
        )
        for party in _parties_in(read.event):
            said.setdefault((source, within, block, party.iss, party.sub, party.kind), []).append(at)
    seen: dict[tuple[str, int], list] = {}
    for (source, within, block, *who), times in said.items():
        party = Party(*who)
        known = seen.setdefault((party.key, block), [0, times[0], times[0]])
        mask = kinds.said(party.kind, proven=within and speaks_for(sources[source], party))
        known[:] = known[0] | mask, min(known[1], *times), max(known[2], *times)
    return seen


def parties_of(reads: Iterable[Read]) -> set[str]:
    """Keys of the parties that these events name."""
    return {party.key for read in reads for party in _parties_in(read.event)}


def tell_parties_anew(batch: Batch, keys: Collection[str], blocks: Collection[int]) -> None:
    """Write these parties anew, where `batch` holds all that is left of these blocks."""
    rows = [(*batch.scope, *key, *facts) for key, facts in sorted(_mentions(batch.reads).items()) if key[0] in keys]
    params = {"tenant": batch.scope[0], "generation": batch.scope[1], "keys": list(keys), "blocks": list(blocks)}
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM projection_mention WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND key = ANY(%(keys)s)"
            " AND block = ANY(%(blocks)s)",
            params,
        )
        copy_rows("projection_mention", MENTION_TYPES, rows)
        cursor.execute(
            "DELETE FROM projection_party WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND key = ANY(%(keys)s)",
            params,
        )
        cursor.execute(
            "INSERT INTO projection_party (tenant_id, generation, key, kinds, first_at, last_at)"
            " SELECT tenant_id, generation, key, bit_or(kinds), min(first_at), max(last_at) FROM projection_mention"
            " WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND key = ANY(%(keys)s) GROUP BY 1, 2, 3",
            params,
        )


def _parties_in(event: Event) -> Iterable[Party | Actor]:
    payload = event.payload
    if event.principal_claim:
        yield event.principal_claim
    actor = payload.actor
    while actor is not None:
        yield actor
        actor = actor.act
    if isinstance(payload.grant, GrantObject):
        yield from filter(None, (payload.grant.subject, payload.grant.actor))
    if isinstance(payload.token, TokenObject):
        yield from filter(None, (payload.token.subject, payload.token.actor))
    if payload.limit:
        yield from filter(None, (payload.limit.holder, payload.limit.set_by))
    if payload.gate and payload.gate.by:
        yield payload.gate.by


def write_limits(batch: Batch) -> None:
    rows = []
    for read in batch.reads:
        event, payload = read.event, read.event.payload
        if event.type.startswith("limit.") and payload.limit:
            setter = payload.limit.set_by or payload.actor
            rows.append(
                _limit_row(batch, read, 0, event.type.removeprefix("limit."), payload.limit, payload.limit.holder,
                           setter.key if setter else "", "", counts=read.within_remit)
            )  # fmt: skip
        elif event.type in GRANTED and isinstance(payload.grant, GrantObject):
            for position, limit in enumerate(payload.grant.limits or ()):
                giver = payload.grant.subject
                rows.append(
                    _limit_row(batch, read, position, "grant", limit, limit.holder or payload.grant.actor,
                               giver.key if giver else "", payload.grant.id, counts=read.within_remit and speaks_for(read.source, giver))
                )  # fmt: skip
    if rows:
        copy_rows("projection_limit", LIMIT_TYPES, rows)


def _limit_row(
    batch: Batch,
    read: Read,
    position: int,
    verb: str,
    limit: Limit,
    holder: Party | None,
    set_by: str,
    grant: str,
    *,
    counts: bool,
) -> tuple:
    payload = read.event.payload
    return (
        *batch.scope,
        read.leaf_index,
        position,
        read.event_id,
        verb,
        holder.key if holder else "",
        grant or stated_grant(payload),
        "",
        limit.scope,
        {"session": payload.session, "task": payload.task, "project": payload.project}.get(limit.scope, ""),
        limit.provider,
        limit.currency.upper(),
        limit.interval,
        limit.zone,
        limit.max_minor,
        limit.enforcement,
        set_by,
        read.event.occurred_at,
        limit.id,
        payload.session,
        payload.task,
        payload.project,
        counts,
    )


def told_of_things(reads: Iterable[Read]) -> dict[tuple[str, str, str], list[tuple[Told, UUID]]]:
    """What these events tell of holdings, by provider, kind and id."""
    told: dict[tuple[str, str, str], list[tuple[Told, UUID]]] = {}
    for read in reads:
        action = read.event.payload.action
        said = told_of(read.event, (action.provider if action else "") or read.source.provider)
        if said is not None:
            told.setdefault((said.provider, said.kind, said.id), []).append((said, read.event_id))
    return told


def leaves_about(batch: Batch, things: Collection[tuple[str, str, str]]) -> list[int]:
    """Leaves whose events may tell of these holdings (provider, kind, id)."""
    with connection.cursor() as cursor:
        cursor.execute(_ABOUT, {"tenant": batch.scope[0], "generation": batch.scope[1], "types": sorted(MADE_TYPES | ENDED_TYPES),
                                "providers": [provider for provider, _, _ in things], "ids": list({id for _, _, id in things})})  # fmt: skip
        return [leaf for (leaf,) in cursor.fetchall()]


_ABOUT = " UNION ".join(
    f"""SELECT leaf_index FROM projection_event WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND type = ANY(%(types)s)
    AND provider = ANY(%(providers)s) AND {column} = ANY(%(ids)s) AND {column} <> ''"""
    for column in ("target", "account", "resource", "payment_authority")
)


def tell_holdings_anew(batch: Batch, things: Collection[tuple[str, str, str]]) -> None:
    """Write these holdings anew, where `batch` holds all that is left about them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM projection_holding WHERE tenant_id = %s AND generation = %s AND (provider, kind, id) IN"
            " (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]))",
            [*batch.scope, *map(list, zip(*things, strict=True))],
        )
    _write_holdings(batch, {key: told for key, told in told_of_things(batch.reads).items() if key in things})


ACCOUNTS = 4  # in which things of one name were made, as kept: two say that the name alone says nothing


def fold_holdings(batch: Batch) -> None:
    """What was made and what ended. The first making gives the row its event, whatever arrives first."""
    told = told_of_things(batch.reads)
    _write_holdings(batch, told)


def _write_holdings(batch: Batch, told: Mapping[tuple[str, str, str], Sequence[tuple[Told, UUID]]]) -> None:
    rows = []
    for key, many in sorted(told.items()):
        made = sorted(((t.at, event_id, t) for t, event_id in many if t.how), key=lambda each: each[:2])
        ended = sorted((t.at, event_id) for t, event_id in many if not t.how)
        first = made[0] if made else None
        rows.append(
            (*batch.scope, *key, first[1] if first else None, first[0] if first else None, made[-1][0] if made else None,
             first[2].how if first else "", first[2].account if first else "", first[2].matched_by if first else "",
             ended[-1][0] if ended else None, ended[-1][1] if ended else None,
             sorted({t.account for _, _, t in made} - {""})[:ACCOUNTS])
        )  # fmt: skip
    # Row comparison with NULL is NULL, so each side that knows nothing is asked for first.
    earlier = "t.made_at IS NULL OR (excluded.made_at IS NOT NULL AND (excluded.made_at, excluded.event_id) < (t.made_at, t.event_id))"
    later = "t.ended_at IS NULL OR (excluded.ended_at IS NOT NULL AND (excluded.ended_at, excluded.ended_by) > (t.ended_at, t.ended_by))"
    firsts = {
        c: f"CASE WHEN {earlier} THEN excluded.{c} ELSE t.{c} END"
        for c in ("event_id", "made_at", "how", "account", "matched_by")
    }
    lasts = {c: f"CASE WHEN {later} THEN excluded.{c} ELSE t.{c} END" for c in ("ended_at", "ended_by")}
    upsert_rows(
        "projection_holding", HOLDING_TYPES, rows, key=("tenant_id", "generation", "provider", "kind", "id"),
        merge=firsts | lasts | {
            "last_made_at": "greatest(t.last_made_at, excluded.last_made_at)",
            "accounts": "(SELECT coalesce(array_agg(DISTINCT a ORDER BY a), '{}') FROM unnest(t.accounts || excluded.accounts) AS a"
                        f" )[:{ACCOUNTS}]",
        },
    )  # fmt: skip
