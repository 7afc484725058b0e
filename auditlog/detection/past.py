"""What was bought twice, called again and again, or cost more than was asked for: judged from the acts around those that changed.

The rules are those of a whole principal (core.acts.repeat, core.acts.task); what is read is no more than what can meet in one
of their findings. From the acts that changed it goes to what tells of the same taking, was taken for the same thing, is the
same call in one run, or is part of the same task, until nothing more is reached. Acts that meet no other are not judged: each
of these findings has more than one, or a stated intent.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from auditlog.core.acts.repeat import FORGET, LOOP_TYPES, TYPES
from auditlog.core.acts.ties import Tie, ties_of
from auditlog.core.chain.act import Act
from auditlog.core.chain.intent import Stated, stated_intent
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.limits import Spent
from auditlog.database.bulk import copy_rows
from auditlog.database.dirty import look_at_leaves
from auditlog.detection.keep import keep_among, standing_with
from auditlog.detectors import duplicate_charge, price_exceeded, quantity_exceeded, retry_loop
from auditlog.detectors.base import Detector
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.acts import select_acts
from auditlog.reads.chains import load_tokens
from auditlog.reads.money import spending_in, spending_where

RULES: tuple[Detector, ...] = (retry_loop, duplicate_charge, price_exceeded, quantity_exceeded)
ROUNDS = 12  # of going on from what was reached
SHARED = 1_000  # acts that one id leads to, the earliest by leaf: what more states it names nothing
TIED = 20_000  # of one thing or call, in time
BETWEEN = 2_000  # calls between those of one run that are read whole; of more, only those that decide
BIG = 5_000  # acts: what is larger is judged again only so often that it delays nothing else
COST = timedelta(milliseconds=1)  # of one act of a large one, many times what it takes
RUN = 4  # calls below which no run is a loop


class Call(NamedTuple):
    """A call by its tie: where it went, what was called, when."""

    tie: UUID
    value: UUID
    at: datetime


class Ties:
    """Ties of the acts of a round: worked out once."""

    def __init__(self) -> None:
        self.known: dict[int, list[Tie]] = {}

    def of(self, act: Act) -> list[Tie]:
        found = self.known.get(act.leaf_index)
        if found is None:
            found = self.known[act.leaf_index] = ties_of(act)
        return found

    def call_of(self, act: Act) -> Tie | None:
        """The tie of a charged call; a key's, which has a value too, is of another kind of event."""
        if act.type not in LOOP_TYPES:
            return None
        return next((t for t in self.of(act) if t.value is not None), None)


@dataclass
class Around:
    """What was reached. `targets` are there with all that can be in one finding with them; `context` decides what follows what."""

    acts: dict[int, Act] = field(default_factory=dict)
    targets: set[int] = field(default_factory=set)
    context: set[int] = field(default_factory=set)
    standing: set[int] = field(default_factory=set)  # findings that rest on any of them
    spending: dict[tuple, Spent] = field(default_factory=dict)
    tasks: set[tuple[str, ...]] = field(default_factory=set)


def tie(
    tenant: Tenant, acts: Sequence[Act], known: Collection[int], memory: Ties
) -> list[tuple[UUID, UUID | None, datetime]]:
    """Write the ties of these acts, of which `known` had some before. Returns the ties that are no longer."""
    generation, lost = generation_of(tenant), []
    rows = {(act.leaf_index, t.tie): (t.value, act.occurred_at) for act in acts for t in memory.of(act)}
    if known:
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM projection_tie WHERE tenant_id = %s AND generation = %s AND leaf_index = ANY(%s)"
                " RETURNING leaf_index, tie, value, at",
                [tenant.pk, generation, list(known)],
            )
            lost = [(tie, value, at) for leaf, tie, value, at in cursor.fetchall() if (leaf, tie) not in rows]
    types = {
        "tenant_id": "int8",
        "generation": "int4",
        "leaf_index": "int8",
        "tie": "uuid",
        "value": "uuid",
        "at": "timestamptz",
    }
    if rows:
        copy_rows("projection_tie", types, ((tenant.pk, generation, *key, *row) for key, row in rows.items()))
    return lost


def judge_past(
    tenant: Tenant, changed: Sequence[Act], lost: Sequence[tuple[UUID, UUID | None, datetime]], *, withdrawn_by: int, now: datetime,
    memory: Ties, big: Collection[int] = (),
) -> None:  # fmt: skip
    """Judge what these acts, and acts that had these ties, can have changed. `big`: of large ones, those whose turn it is."""
    around = _around(tenant, changed, lost, memory)
    if len(around.targets) <= BIG:
        _judge(tenant, around, withdrawn_by=withdrawn_by, now=now)
        return
    # Nobody waits for what is large but those in whose name it is.
    sizes = Counter(around.acts[leaf].principal for leaf in around.targets if leaf in around.acts)
    large = {principal for principal, size in sizes.items() if size > BIG}
    rest = [act for act in changed if act.principal not in large]
    if rest or lost:
        _judge(tenant, _around(tenant, rest, lost, memory), withdrawn_by=withdrawn_by, now=now)
    for principal in large:
        acts = [act for act in changed if act.principal == principal]
        mine = _around(tenant, acts, [], memory)
        if len(mine.targets) <= BIG or any(act.leaf_index in big for act in acts):
            _judge(tenant, mine, withdrawn_by=withdrawn_by, now=now)
        else:
            due_at = now + COST * len(mine.targets)
            look_at_leaves(tenant.pk, "big", [(act.leaf_index, due_at) for act in acts])


def _judge(tenant: Tenant, around: Around, *, withdrawn_by: int, now: datetime) -> None:
    if not around.acts and not around.standing:
        return
    record = Record(
        spending=tuple(sorted(around.spending.values(), key=lambda s: (s.at, s.leaf_index))),
        tokens=load_tokens(tenant, {act.token for act in around.acts.values()}),
    )
    by_principal: dict[str, list[Act]] = defaultdict(list)
    for leaf in sorted(around.acts):
        if around.acts[leaf].principal:
            by_principal[around.acts[leaf].principal].append(around.acts[leaf])
    found: list[tuple[Detector, Finding]] = []
    for acts in by_principal.values():
        for detector in RULES:
            found += [(detector, f) for f in detector.find(acts, record) if around.targets.issuperset(f.leaves)]
    keep_among(tenant, RULES, found, around.standing, withdrawn_by=withdrawn_by, now=now)


def _around(
    tenant: Tenant, changed: Sequence[Act], lost: Sequence[tuple[UUID, UUID | None, datetime]], memory: Ties
) -> Around:
    seeds = {act.leaf_index: act for act in changed if act.type in TYPES and act.environment == "live"}
    around = Around()
    standing = standing_with(tenant, [d.rule for d in RULES], [act.leaf_index for act in changed])
    around.standing |= standing.keys()
    reached = {leaf for leaves in standing.values() for leaf in leaves}
    reached |= _tied(tenant, {t for t, value, _ in lost if value is None}, at_least=1)
    moved = [Call(t, value, at) for t, value, at in lost if value is not None]
    asked: set[tuple[str, str]] = set()
    step: Mapping[int, Act] = seeds
    for _ in range(ROUNDS):
        if step or moved:
            reached |= _sharing(tenant, step.values(), asked)
            reached |= _tied(tenant, {t.tie for act in step.values() for t in memory.of(act) if t.value is None})
            runs, between = _runs(tenant, step.values(), moved, memory)
            reached |= runs
            around.context |= between
            reached |= _tasks(tenant, step.values(), around)
            moved = []
        around.targets |= reached
        new = reached - around.acts.keys()
        if not new:
            break
        step = _load(tenant, new, seeds)
        around.acts |= step
        standing = standing_with(tenant, [d.rule for d in RULES], step.keys())
        around.standing |= standing.keys()
        reached |= {leaf for leaves in standing.values() for leaf in leaves}
    around.acts |= _load(tenant, around.context - around.acts.keys(), seeds)
    lines = spending_in(tenant, [UUID(act.event_id) for act in around.acts.values()])
    around.spending |= {_line(spent): spent for spent in lines}
    return around


def _load(tenant: Tenant, leaves: Collection[int], known: Mapping[int, Act]) -> dict[int, Act]:
    found = {leaf: known[leaf] for leaf in leaves if leaf in known}
    if rest := [leaf for leaf in leaves if leaf not in known]:
        acts = select_acts(
            tenant, "leaf_index = ANY(%s) AND type = ANY(%s) AND environment = 'live'", [rest, list(TYPES)]
        )
        found |= {act.leaf_index: act for act in acts}
    return found


def _sharing(tenant: Tenant, acts: Iterable[Act], asked: set[tuple[str, str]]) -> set[int]:
    """Leaves of what shares a charge, key, request or line of the books with these acts: more than one of each."""
    wanted: dict[str, set[str]] = {"charge": set(), "idempotency_key": set(), "request_id": set()}
    events = []
    for act in acts:
        events.append(UUID(act.event_id))
        for column, values in wanted.items():
            value = getattr(act, column)
            if value and (column, value) not in asked:
                asked.add((column, value))
                values.add(value)
    found: set[int] = set()
    with connection.cursor() as cursor:
        for column, values in wanted.items():
            if values:
                cursor.execute(
                    _SHARING.format(column=column),
                    {
                        "tenant": tenant.pk,
                        "generation": generation_of(tenant),
                        "values": list(values),
                        "types": list(TYPES),
                        "most": SHARED,
                    },
                )
                found |= {leaf for (leaves,) in cursor.fetchall() for leaf in leaves}
        if events:
            cursor.execute(
                "SELECT e.leaf_index FROM projection_charge c CROSS JOIN LATERAL unnest(c.events) AS told(event_id)"
                " JOIN projection_event e ON e.tenant_id = c.tenant_id AND e.generation = c.generation AND e.event_id = told.event_id"
                " WHERE c.tenant_id = %s AND c.generation = %s AND c.is_joined AND c.events && %s",
                [tenant.pk, generation_of(tenant), events],
            )
            found |= {leaf for (leaf,) in cursor.fetchall()}
    return found


_SHARING = """
    SELECT array_agg(o.leaf_index) FROM unnest(%(values)s::text[]) AS v(value) CROSS JOIN LATERAL (
        SELECT e.leaf_index FROM projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s
          AND e.{column} = v.value AND e.{column} <> '' AND e.type = ANY(%(types)s) ORDER BY e.leaf_index LIMIT %(most)s
    ) o GROUP BY v.value HAVING count(*) > 1
"""


def _tied(tenant: Tenant, ties: Collection[UUID], *, at_least: int = 2) -> set[int]:
    """Leaves of what was taken for the same things, where there are so many of one."""
    if not ties:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT array_agg(o.leaf_index) FROM unnest(%s::uuid[]) AS v(tie) CROSS JOIN LATERAL ("
            "SELECT t.leaf_index FROM projection_tie t WHERE t.tenant_id = %s AND t.generation = %s AND t.tie = v.tie"
            " ORDER BY t.at, t.leaf_index LIMIT %s) o GROUP BY v.tie HAVING count(*) >= %s",
            [list(ties), tenant.pk, generation_of(tenant), TIED, at_least],
        )
        return {leaf for (leaves,) in cursor.fetchall() for leaf in leaves}


# --- runs of the same call --------------------------------------------------------------------------------------------


def _runs(tenant: Tenant, acts: Iterable[Act], moved: Sequence[Call], memory: Ties) -> tuple[set[int], set[int]]:
    """Leaves of the runs that these calls are in or come between, and of what decides there what follows what."""
    calls = [
        Call(t.tie, t.value, act.occurred_at) for act in acts if (t := memory.call_of(act)) is not None and t.value
    ]
    calls += moved
    if not calls:
        return set(), set()
    values = {(call.tie, call.value) for call in calls}
    spans = _spans(calls)
    values |= _beside(tenant, spans)
    times: dict[UUID, list[datetime]] = defaultdict(list)
    for call in calls:
        times[call.tie].append(call.at)
    inside: set[int] = set()
    between: set[int] = set()
    for where, run in _long_runs(tenant, values):
        first, last = run[0][0] - FORGET, run[-1][0] + FORGET
        if any(first <= at <= last for at in times[where]):
            inside |= {leaf for _, leaf in run}
            between |= _between(tenant, where, run)
    return inside, between


def _spans(calls: Iterable[Call]) -> dict[UUID, tuple[datetime, datetime]]:
    found: dict[UUID, tuple[datetime, datetime]] = {}
    for call in calls:
        first, last = found.get(call.tie, (call.at, call.at))
        found[call.tie] = min(first, call.at), max(last, call.at)
    return found


def _beside(tenant: Tenant, spans: Mapping[UUID, tuple[datetime, datetime]]) -> set[tuple[UUID, UUID]]:
    """What was called more than once around these times: a call that comes late can part what followed each other."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT v.tie, o.value FROM unnest(%s::uuid[], %s::timestamptz[], %s::timestamptz[]) AS v(tie, first, last)"
            " CROSS JOIN LATERAL (SELECT t.value FROM projection_tie t WHERE t.tenant_id = %s AND t.generation = %s AND t.tie = v.tie"
            " AND t.at BETWEEN v.first AND v.last AND t.value IS NOT NULL ORDER BY t.at LIMIT %s) o GROUP BY 1, 2 HAVING count(*) > 1",
            [
                list(spans),
                [first - FORGET for first, _ in spans.values()],
                [last + FORGET for _, last in spans.values()],
                tenant.pk,
                generation_of(tenant),
                TIED,
            ],
        )
        return set(cursor.fetchall())


def _long_runs(
    tenant: Tenant, values: Collection[tuple[UUID, UUID]]
) -> Iterable[tuple[UUID, list[tuple[datetime, int]]]]:
    """The runs of these calls that are long enough to be a loop: (where, its (time, leaf) in order of time)."""
    with connection.cursor() as cursor:
        cursor.execute(
            # Joined by both, and in no order: a plan that walks all calls to one place in time would do so for each of them.
            "SELECT t.tie, array_agg(t.at ORDER BY t.at, t.leaf_index), array_agg(t.leaf_index ORDER BY t.at, t.leaf_index)"
            " FROM unnest(%s::uuid[], %s::uuid[]) AS v(tie, value) JOIN projection_tie t ON t.tie = v.tie AND t.value = v.value"
            " AND t.value IS NOT NULL WHERE t.tenant_id = %s AND t.generation = %s GROUP BY t.tie, t.value HAVING count(*) >= %s",
            [[t for t, _ in values], [v for _, v in values], tenant.pk, generation_of(tenant), RUN],
        )
        rows = cursor.fetchall()
    for where, times, leaves in rows:
        run: list[tuple[datetime, int]] = []
        for at, leaf in zip(times, leaves, strict=True):
            if run and at - run[-1][0] > FORGET:
                if len(run) >= RUN:
                    yield where, run
                run = []
            run.append((at, leaf))
        if len(run) >= RUN:
            yield where, run


def _between(tenant: Tenant, where: UUID, run: Sequence[tuple[datetime, int]]) -> set[int]:
    """Leaves of the other calls between those of a run; where there are very many, of those just before each of its own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT at, leaf_index, value FROM projection_tie WHERE tenant_id = %s AND generation = %s AND tie = %s"
            " AND at BETWEEN %s AND %s AND value IS NOT NULL ORDER BY at, leaf_index",
            [tenant.pk, generation_of(tenant), where, run[0][0], run[-1][0]],
        )
        rows = cursor.fetchall()
    own = {leaf for _, leaf in run}
    others = {leaf for _, leaf, _ in rows} - own
    if len(others) <= BETWEEN:
        return others
    found: set[int] = set()
    last_of: dict[UUID, int] = {}  # what was called since the last of the run: its last call
    for _, leaf, value in rows:
        if leaf in own:
            found |= set(list(last_of.values())[-16:])
            last_of = {}
        else:
            last_of.pop(value, None)
            last_of[value] = leaf
    return found


# --- tasks ------------------------------------------------------------------------------------------------------------


def _tasks(tenant: Tenant, acts: Iterable[Act], around: Around) -> set[int]:
    """Leaves of all that belongs to the tasks of these acts, where a price or a number was stated."""
    found: set[int] = set()
    for act in acts:
        stated = stated_intent(act)
        if stated is None or (stated.intent.max_price_minor is None and stated.intent.quantity is None):
            continue
        key = _task_of(act, stated)
        if key in around.tasks:
            continue
        around.tasks.add(key)
        found.add(act.leaf_index)
        if stated.grant is not None:
            below = _below(tenant, stated.grant)
            found |= _leaves(tenant, "via_grant = ANY(%s) AND via_grant <> ''", [below])
            lines = spending_where(tenant, "\"grant\" = ANY(%s) AND \"grant\" <> '' AND principal <> ''", [below])
            around.spending |= {_line(spent): spent for spent in lines}
        else:
            column = next((c for c in ("task", "session", "txn", "via_grant") if getattr(act, c)), None)
            if column is not None:
                found |= _leaves(
                    tenant,
                    f"{column} = %s AND {column} <> '' AND principal = %s",
                    [getattr(act, column), act.principal],
                )
    return found


def _task_of(act: Act, stated: Stated) -> tuple[str, ...]:
    """What tells its task from others, as far as reading goes: all under the grant, or all of one thread."""
    if stated.grant is not None:
        return ("grant", stated.grant)
    return ("own", act.principal, act.task or act.session or act.txn or act.via_grant or act.event_id)


def _line(spent: Spent) -> tuple:
    return (spent.event_id, spent.book, spent.currency, spent.unit)


def _below(tenant: Tenant, grant: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE down AS (SELECT %(grant)s::text AS id UNION SELECT g.id FROM projection_grant g JOIN down d ON g.parent = d.id"
            " WHERE g.tenant_id = %(tenant)s AND g.generation = %(generation)s AND g.parent <> '') SELECT id FROM down",
            {"grant": grant, "tenant": tenant.pk, "generation": generation_of(tenant)},
        )
        return [row[0] for row in cursor.fetchall()]


def _leaves(tenant: Tenant, condition: str, params: list) -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT leaf_index FROM projection_event e WHERE tenant_id = %s AND generation = %s AND type = ANY(%s)"
            f" AND environment = 'live' AND ({condition})",
            [tenant.pk, generation_of(tenant), list(TYPES), *params],
        )
        return {leaf for (leaf,) in cursor.fetchall()}
