"""Threads: a session, task or transaction across all sources and orchestrators, with one exposure figure. Reads only.

A thread has the events that name it; what other sources said of the same acts (core.story); what carries a `txn` that is
this thread's alone; and what was done under a grant by which an agent of one issuer handed work to an agent of another
within it: that is how a session at one orchestrator goes on at the next. Any platform can be the orchestrator.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet

from auditlog.core.chain.act import Act
from auditlog.core.event import GRANTED, GrantObject
from auditlog.core.money.books import Line, books
from auditlog.core.money.exposure import exposure_at
from auditlog.core.money.money import CREDIT_RAIL, minor
from auditlog.models import Event, Holding, Role
from auditlog.projection.generation import generation_of
from auditlog.projection.payments import payments_around, rows_where
from auditlog.reads.access import Viewer
from auditlog.reads.acts import select_acts
from auditlog.reads.money import lines_with
from auditlog.reads.sight import visible_events
from auditlog.reads.stories import stories_around

KINDS = ("session", "task", "txn")
READ = 2_000  # events of a thread whose joins are followed
MOST = 2_000  # events that a thread takes in from elsewhere


@dataclass(frozen=True, slots=True)
class Thread:
    kind: str  # of KINDS
    value: str


@dataclass(slots=True)
class Linked:
    """By leaf: why an event that does not name the thread belongs to it. `more`: how many further ones are left out."""

    why: dict[int, str] = field(default_factory=dict)
    more: int = 0
    is_long: bool = False  # only the joins of its first READ events were followed
    is_cut: bool = False  # joins lead further than they were followed

    @property
    def is_partial(self) -> bool:
        """Whether something may belong to the thread that is not in it, so that what it comes to is at least that."""
        return bool(self.more or self.is_long or self.is_cut)


def linked_to(viewer: Viewer, thread: Thread) -> Linked:
    """What belongs to a thread without naming it. A bounded number of queries."""
    tenant = viewer.tenant
    own = select_acts(tenant, f"{thread.kind} = %s AND {thread.kind} <> ''", [thread.value], limit=READ + 1)
    why: dict[int, str] = {}
    if thread.kind != "txn":
        for leaf, txn in _by_txn(viewer, thread, sorted({act.txn for act in own[:READ]} - {""})):
            why[leaf] = f"carries the transaction {txn}, which is this {thread.kind}'s alone"
    handed = {act.payload.grant.id: act for act in own[:READ] if is_handing_over(act)}
    for leaf, grant in _under(viewer, list(handed)):
        why.setdefault(
            leaf, f"done under grant {grant}, by which this {thread.kind} handed work to another orchestrator's agent"
        )
    named = {act.leaf_index for act in own}
    beyond = select_acts(tenant, "leaf_index = ANY(%s)", [sorted(set(why) - named)[:READ]])
    told = stories_around(tenant, [*own[:READ], *beyond])
    for story in told.stories:
        for act in story.acts:
            if act.leaf_index not in named and act.leaf_index not in why:
                keys = [
                    shared.key.words for shared in story.shared if act.source in (*shared.sources, *shared.claimed_by)
                ]
                why[act.leaf_index] = (
                    "claims" if act.event_id in story.claimed else "tells of"
                ) + f" the same act, by {keys[0] if keys else 'a shared key'}"
    extra = sorted(set(why) - named)
    return Linked({leaf: why[leaf] for leaf in extra[:MOST]}, max(0, len(extra) - MOST), len(own) > READ, told.is_cut)


def is_handing_over(act: Act) -> bool:
    """Whether an agent of one issuer lets an agent of another act: another orchestrator goes on from here."""
    grant = act.payload.grant
    if act.type not in GRANTED or act.outcome != "success" or not isinstance(grant, GrantObject):
        return False
    giver, taker = grant.subject, grant.actor
    return bool(giver and taker and giver.kind != "human" and giver.iss != taker.iss)


def _by_txn(viewer: Viewer, thread: Thread, txns: Sequence[str]) -> list[tuple[int, str]]:
    """Events of the transactions that no source tells under two threads of this kind: those are contexts of many."""
    if not txns:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH own AS (
                SELECT txn FROM (
                    SELECT txn, source, count(DISTINCT nullif({thread.kind}, '')) AS threads FROM projection_event
                    WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND txn = ANY(%(txns)s) AND txn <> '' GROUP BY 1, 2
                ) told GROUP BY txn HAVING max(threads) <= 1
            )
            SELECT e.leaf_index, e.txn FROM projection_event e JOIN own USING (txn)
            WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.txn <> '' ORDER BY 1 LIMIT %(most)s
            """,
            {
                "tenant": viewer.tenant.pk,
                "generation": generation_of(viewer.tenant),
                "txns": list(txns),
                "most": READ + MOST,
            },
        )
        return cursor.fetchall()


def _under(viewer: Viewer, grants: Sequence[str]) -> list[tuple[int, str]]:
    """Events done under these grants or any below them, each with the grant of ours that it is under."""
    if not grants:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH RECURSIVE below AS (
                SELECT id, id AS top FROM unnest(%(grants)s::text[]) AS seed(id)
                UNION
                SELECT g.id, above.top FROM below above JOIN projection_grant g ON g.parent = above.id
                WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s AND g.parent <> ''
            )
            SELECT e.leaf_index, min(below.top) FROM below JOIN projection_event e ON e.via_grant = below.id
            WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.via_grant <> '' GROUP BY 1 ORDER BY 1 LIMIT %(most)s
            """,
            {
                "tenant": viewer.tenant.pk,
                "generation": generation_of(viewer.tenant),
                "grants": list(grants),
                "most": READ + MOST,
            },
        )
        return cursor.fetchall()


def timeline(viewer: Viewer, thread: Thread, linked: Linked) -> QuerySet[Event]:
    """Every event of the thread, whoever tells it, in the order in which it happened."""
    belongs = Q(**{thread.kind: thread.value}) | Q(leaf_index__in=list(linked.why))
    return visible_events(viewer).filter(belongs).order_by("occurred_at", "leaf_index")


def thread_exposure(viewer: Viewer, thread: Thread, linked: Linked, *, at: datetime) -> dict[str, Any]:
    """One figure a currency over all rails, providers and orchestrators of the thread; currencies are never added.

    `spent_minor` counts money once, however many sources tell of it. `exposure_minor` is per payment authority the larger
    of its unused ceiling and its open authorizations. What recurs is unknown where nobody states a price and an interval.
    """
    scope = [viewer.tenant.pk, generation_of(viewer.tenant)]
    mine = f"(e.{thread.kind} = %(thread)s OR e.leaf_index = ANY(%(leaves)s))"
    params: dict[str, Any] = {"thread": thread.value, "leaves": list(linked.why)}
    if viewer.role == Role.ABUSE:
        mine += " AND e.provider = %(provider)s"
        params["provider"] = viewer.provider
    given = rows_where(scope, mine, params)
    asked = [row[0] for row in given]
    lines = _own_lines(viewer, scope, given) if viewer.role == Role.ABUSE else lines_with(viewer.tenant, asked)
    with connection.cursor() as cursor:
        ceilings, uses, _ = _authorities(cursor, scope, mine, params)
    holds = [
        (line.authority, line.currency, minor(line.held), line.held_from, line.held_until)
        for line in lines
        if line.held and line.held_from
    ]
    exposed = exposure_at(at, ceilings, uses, holds)
    unused, in_flight = exposure_at(at, ceilings, uses, []), exposure_at(at, [], [], holds)
    spent: dict[str, Decimal] = {}
    credits: dict[str, Decimal] = {}
    for line in lines:
        if line.has_spend and line.at <= at:
            into = credits if line.rail == CREDIT_RAIL else spent
            into[line.currency] = into.get(line.currency, Decimal(0)) + line.spent
    named = Event.objects.filter(tenant=viewer.tenant, generation=scope[1]).filter(
        Q(**{thread.kind: thread.value}) | Q(leaf_index__in=list(linked.why))
    )
    live = Holding.objects.filter(
        tenant=viewer.tenant,
        generation=scope[1],
        kind="subscription",
        event_id__in=named.filter(type="subscription.started").values("event_id"),
    )
    if viewer.role == Role.ABUSE:
        live = live.filter(provider=viewer.provider)
    recurring = sum(1 for row in live if row.is_live)
    return {
        "at": at,
        "currencies": [
            {"currency": currency, "spent_minor": minor(spent.get(currency, 0)), "credits_minor": minor(credits.get(currency, 0)),
             "in_flight_minor": in_flight.get(currency, 0), "unused_ceilings_minor": unused.get(currency, 0),
             "exposure_minor": exposed.get(currency, 0)}
            for currency in sorted({*spent, *credits, *in_flight, *unused, *exposed})
        ],
        "payments": len(lines),
        "told_by_several": sum(1 for line in lines if len(line.events) > 1),
        # No sender states what a subscription costs and when it is due: with a live one the amount is unknown, not zero.
        "recurring_due": [] if not recurring else None,
        "live_subscriptions": recurring,
    }  # fmt: skip


def _own_lines(viewer: Viewer, scope: list[int], given: list[tuple]) -> list[Line]:
    """The books as an abuse desk can make them: what others say of the same money is theirs."""
    told = payments_around(scope, given)
    asked = {str(row[0]) for row in given}
    return [
        line
        for line in books(f for f in told.facts.values() if f.provider == viewer.provider)
        if asked.intersection(line.events)
    ]


def _authorities(cursor, scope, mine, params) -> tuple[list[tuple], list[tuple], dict[str, str]]:
    """Ceilings granted in the thread, all uses of them wherever told, and by event the authority that it names."""
    values = {"tenant": scope[0], "generation": scope[1], **params}
    base = "FROM projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s"
    live = " AND e.environment = 'live' AND e.outcome = 'success'"
    cursor.execute(f"SELECT e.event_id, e.payment_authority {base} AND e.payment_authority <> '' AND {mine}", values)
    authority_of = {str(event_id): authority for event_id, authority in cursor.fetchall()}
    values["authorities"] = sorted(set(authority_of.values()))
    if not values["authorities"]:
        return [], [], {}
    cursor.execute(
        "SELECT e.payment_authority, e.currency, max(e.amount_minor), min(e.occurred_at), (SELECT min(o.occurred_at) FROM projection_event o"
        " WHERE o.tenant_id = %(tenant)s AND o.generation = %(generation)s AND o.type = 'payment.authority_ended' AND o.outcome = 'success'"
        f" AND o.payment_authority = e.payment_authority) {base}{live} AND e.type = 'payment.authority_granted'"
        f" AND e.amount_minor IS NOT NULL AND e.payment_authority <> '' AND {mine} GROUP BY 1, 2",
        values,
    )
    ceilings = cursor.fetchall()
    cursor.execute(
        f"SELECT e.payment_authority, e.currency, max(e.amount_minor), min(e.occurred_at) {base}{live}"
        " AND e.payment_authority = ANY(%(authorities)s) AND e.payment_authority <> '' AND e.book = 'paid'"
        " GROUP BY e.payment_authority, e.currency, e.rail, CASE WHEN e.charge = '' THEN e.event_id::text ELSE e.charge END",
        values,
    )
    return ceilings, cursor.fetchall(), authority_of


def threads_page(viewer: Viewer, kind: str, *, beginning: str, before: int | None, size: int) -> list[dict[str, Any]]:
    """Threads of a kind, whose last event was told last first, each with what there is of it. `before`: the `last_leaf` to
    go on from.

    Walked from the newest event back, and an event is a thread's last or it is not. Where the newest WALKED hold too
    few (threads are long then, or rare, so there are few of them), and where the name begins with something, all names
    are looked through instead, a step each.
    """
    assert kind in KINDS
    desk = viewer.role == Role.ABUSE
    params = {"tenant": viewer.tenant.pk, "generation": generation_of(viewer.tenant), "before": before, "size": size,
              "from": beginning, "to": beginning + "\U0010ffff" if beginning else "", "provider": viewer.provider}  # fmt: skip
    said = {
        "kind": kind,
        "own": "AND e.provider = %(provider)s" if desk else "",
        "later": "AND l.provider = %(provider)s" if desk else "",
    }
    with connection.cursor() as cursor:
        found: list[tuple[str, int]] = []
        for walked in () if beginning else WALKED:
            if len(found) < size:
                cursor.execute(_NEWEST.format(**said), params | {"walked": walked})
                found = cursor.fetchall()
        if len(found) < size:
            cursor.execute(_NAMED.format(**said), params)
            found = cursor.fetchall()
        cursor.execute(_FACTS.format(**said), params | {"names": [name for name, _ in found]})
        facts = {name: rest for name, *rest in cursor.fetchall()}
    rows = []
    for name, last_leaf in found:
        if name not in facts:  # a rebuild was swapped in just now
            continue
        events, first, last, sources, providers = facts[name]
        rows.append({"value": name, "last_leaf": last_leaf, "events": events, "first_at": first, "last_at": last, "sources": sources,
                     "providers": providers or []})  # fmt: skip
    return rows


WALKED = (1_000, 20_000)  # events; the second where the first were not enough
# A step to the index for each event, whatever the planner thinks of it: a join of all would cost more than the page.
_NEWEST = """
    SELECT e.{kind}, e.leaf_index FROM (
        SELECT e.{kind}, e.leaf_index FROM projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s {own}
            AND (%(before)s::bigint IS NULL OR e.leaf_index < %(before)s) ORDER BY e.leaf_index DESC LIMIT %(walked)s
    ) e LEFT JOIN LATERAL (
        SELECT l.leaf_index FROM projection_event l WHERE l.tenant_id = %(tenant)s AND l.generation = %(generation)s AND l.{kind} = e.{kind}
            AND l.{kind} <> '' AND l.leaf_index > e.leaf_index {later} LIMIT 1
    ) later ON true
    WHERE e.{kind} <> '' AND later.leaf_index IS NULL ORDER BY e.leaf_index DESC LIMIT %(size)s
"""
_NAMED = """
    WITH RECURSIVE names AS (
        (SELECT e.{kind} AS name FROM projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s
            AND e.{kind} <> '' AND e.{kind} >= %(from)s AND (%(to)s = '' OR e.{kind} < %(to)s) ORDER BY e.{kind} LIMIT 1)
        UNION ALL
        SELECT (SELECT e.{kind} FROM projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s
            AND e.{kind} <> '' AND (%(to)s = '' OR e.{kind} < %(to)s) AND e.{kind} > n.name ORDER BY e.{kind} LIMIT 1)
        FROM names n WHERE n.name IS NOT NULL
    )
    SELECT n.name, last.leaf_index FROM names n JOIN LATERAL (
        SELECT e.leaf_index FROM projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.{kind} = n.name
            AND e.{kind} <> '' {own} ORDER BY e.leaf_index DESC LIMIT 1
    ) last ON true
    WHERE %(before)s::bigint IS NULL OR last.leaf_index < %(before)s ORDER BY last.leaf_index DESC LIMIT %(size)s
"""
_FACTS = """
    SELECT e.{kind}, count(*), min(e.occurred_at), max(e.occurred_at), array_agg(DISTINCT e.source),
           array_agg(DISTINCT e.provider) FILTER (WHERE e.provider <> '')
    FROM projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.{kind} = ANY(%(names)s) AND e.{kind} <> '' {own}
    GROUP BY 1
"""
