"""What was bought twice, called again and again, or cost more than was asked for: judged from the acts around those that changed.

The rules are those of a whole principal (core.acts.repeat, core.acts.task); what is read is no more than what can meet in one
of their findings. From the acts that changed it goes to what tells of the same taking, was taken for the same thing, is the
same call in one run, or is part of the same task, until nothing more is reached. Acts that meet no other are not judged: each
of these findings has more than one, or a stated intent.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from auditlog.core.acts.loop import FORGET, LOOP_TYPES, NEAR
from auditlog.core.acts.refused import REFUSED_TYPES, is_refused
from auditlog.core.acts.repeat import TYPES
from auditlog.core.acts.ties import Tie, ties_of
from auditlog.core.chain.act import Act
from auditlog.core.chain.gates import assent_to, assent_to_task
from auditlog.core.chain.intent import Stated, stated_intent
from auditlog.core.chain.record import Approval, Record
from auditlog.core.finding import Finding
from auditlog.core.money.limits import Spent
from auditlog.database.bulk import copy_rows
from auditlog.database.dirty import look_at_leaves
from auditlog.database.policies import policies_of
from auditlog.detection.findings.keep import keep_among, standing_with
from auditlog.detectors import declined_storm, duplicate_charge, price_exceeded, quantity_exceeded, retry_loop
from auditlog.detectors.base import Detector
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.acts import select_acts
from auditlog.reads.chains import load_tokens
from auditlog.reads.money import spending_in, spending_where
from auditlog.reads.record import answered, answers_about

RULES: tuple[Detector, ...] = (retry_loop, duplicate_charge, price_exceeded, quantity_exceeded, declined_storm)
LOADED = TYPES | REFUSED_TYPES
ROUNDS = 12  # of going on from what was reached
SHARED = 1_000  # acts that one id leads to, the earliest by leaf: what more states it names nothing
TIED = 20_000  # of one thing or call, in time
REACH = 3 * NEAR  # calls of one place between two that are the same, where one may be told by several statements
BESIDE = 8  # statements between two runs that may be one loop
EDGE = 4 * REACH  # calls read on either side at first
BIG = 5_000  # acts: what is larger is judged again only so often that it delays nothing else
COST = timedelta(milliseconds=1)  # of one act of a large one, many times what it takes


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
        """The tie of a charged call or a refused attempt; a key's, which has a value too, is of another kind of event."""
        if act.type not in LOOP_TYPES and not is_refused(act):
            return None
        return next((t for t in self.of(act) if t.value is not None), None)


@dataclass
class Around:
    """What was reached. `targets` are there with all that can be in one finding with them."""

    acts: dict[int, Act] = field(default_factory=dict)
    targets: set[int] = field(default_factory=set)
    standing: set[int] = field(default_factory=set)  # findings that rest on any of them
    spending: dict[tuple, Spent] = field(default_factory=dict)
    tasks: set[tuple[str, ...]] = field(default_factory=set)
    answers: dict[tuple[str, str], Approval] = field(default_factory=dict)  # about any of them


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
    acts = [around.acts[leaf] for leaf in sorted(around.acts)]
    record = Record(
        policies=policies_of(tenant),
        spending=tuple(sorted(around.spending.values(), key=lambda s: (s.at, s.leaf_index))),
        tokens=load_tokens(tenant, {act.token for act in acts}),
        **answered(tenant, acts, list(around.answers.values())),
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
    seeds = {act.leaf_index: act for act in changed if act.type in LOADED and act.environment == "live"}
    around = Around()
    standing = standing_with(tenant, [d.rule for d in RULES], [act.leaf_index for act in changed])
    around.standing |= standing.keys()
    reached = {leaf for leaves in standing.values() for leaf in leaves}
    reached |= _tied(tenant, {t for t, value, _ in lost if value is None}, at_least=1)
    reached |= leaves_answered(tenant, [act for act in changed if act.type == "approval.decided"])
    moved = [Call(t, value, at) for t, value, at in lost if value is not None]
    asked: set[tuple[str, str]] = set()
    step: Mapping[int, Act] = seeds
    for _ in range(ROUNDS):
        if step or moved:
            reached |= _sharing(tenant, step.values(), asked)
            reached |= _tied(tenant, {t.tie for act in step.values() for t in memory.of(act) if t.value is None})
            reached |= _runs(tenant, step.values(), moved, memory)
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
    lines = spending_in(tenant, [UUID(act.event_id) for act in around.acts.values()])
    around.spending |= {_line(spent): spent for spent in lines}
    return around


def _load(tenant: Tenant, leaves: Collection[int], known: Mapping[int, Act]) -> dict[int, Act]:
    found = {leaf: known[leaf] for leaf in leaves if leaf in known}
    if rest := [leaf for leaf in leaves if leaf not in known]:
        acts = select_acts(
            tenant, "leaf_index = ANY(%s) AND type = ANY(%s) AND environment = 'live'", [rest, list(LOADED)]
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


def _runs(tenant: Tenant, acts: Iterable[Act], moved: Sequence[Call], memory: Ties) -> set[int]:
    """Leaves of the calls that these can have made or ended a loop with: of each place they went to, those that are linked with
    them, or just beside them, by calls that are the same and near each other.
    """
    calls = [
        Call(t.tie, t.value, act.occurred_at) for act in acts if (t := memory.call_of(act)) is not None and t.value
    ]
    calls += moved
    found: set[int] = set()
    times: dict[UUID, list[datetime]] = defaultdict(list)
    for call in calls:
        times[call.tie].append(call.at)
    asked = [(where, group) for where, many in times.items() for group in _groups(many)]
    edge = EDGE
    while asked:
        again = []
        for (where, group), (rows, begins, ends) in zip(asked, _windows(tenant, asked, edge), strict=True):
            reached, is_cut = _linked(rows, group, begins, ends)
            if is_cut and edge < TIED:
                again.append((where, group))
            else:
                found |= reached
        asked, edge = again, edge * 8
    return found


def _groups(times: Iterable[datetime]) -> Iterable[list[datetime]]:
    """Times that can be read as one stretch."""
    group: list[datetime] = []
    for at in sorted(times):
        if group and at - group[-1] > FORGET:
            yield group
            group = []
        group.append(at)
    if group:
        yield group


def _windows(
    tenant: Tenant, asked: Sequence[tuple[UUID, list[datetime]]], edge: int
) -> Iterable[tuple[list[tuple[datetime, int, UUID]], bool, bool]]:
    """For each: the calls between its times and `edge` more on either side, and whether there is nothing before and after."""
    with connection.cursor() as cursor:
        cursor.execute(
            _WINDOWS,
            {
                "ties": [where for where, _ in asked],
                "first": [group[0] for _, group in asked],
                "last": [group[-1] for _, group in asked],
                "tenant": tenant.pk,
                "generation": generation_of(tenant),
                "edge": edge,
                "most": TIED,
            },
        )
        rows = cursor.fetchall()
    parts: dict[int, list[tuple[int, datetime, int, UUID]]] = defaultdict(list)
    for number, part, at, leaf, value in rows:
        parts[number].append((part, at, leaf, value))
    for number in range(1, len(asked) + 1):
        mine = parts[number]
        before, after = (sum(row[0] == part for row in mine) for part in (0, 2))
        yield sorted(row[1:] for row in mine), before < edge, after < edge


_WINDOWS = """
    SELECT v.n, o.part, o.at, o.leaf_index, o.value
    FROM unnest(%(ties)s::uuid[], %(first)s::timestamptz[], %(last)s::timestamptz[]) WITH ORDINALITY AS v(tie, first, last, n)
    CROSS JOIN LATERAL (
        (SELECT 0 AS part, t.at, t.leaf_index, t.value FROM projection_tie t WHERE t.tenant_id = %(tenant)s
           AND t.generation = %(generation)s AND t.tie = v.tie AND t.at < v.first ORDER BY t.at DESC, t.leaf_index DESC LIMIT %(edge)s)
        UNION ALL
        (SELECT 1, t.at, t.leaf_index, t.value FROM projection_tie t WHERE t.tenant_id = %(tenant)s
           AND t.generation = %(generation)s AND t.tie = v.tie AND t.at BETWEEN v.first AND v.last
         ORDER BY t.at, t.leaf_index LIMIT %(most)s)
        UNION ALL
        (SELECT 2, t.at, t.leaf_index, t.value FROM projection_tie t WHERE t.tenant_id = %(tenant)s
           AND t.generation = %(generation)s AND t.tie = v.tie AND t.at > v.last ORDER BY t.at, t.leaf_index LIMIT %(edge)s)
    ) o
"""


def _linked(
    rows: Sequence[tuple[datetime, int, UUID]], times: Sequence[datetime], begins: bool, ends: bool
) -> tuple[set[int], bool]:
    """Leaves of the stretches of calls that one of these times lies in or beside, and whether one may go on past what was
    read. A stretch holds calls that are the same, within REACH calls and FORGET of each other, with all between them.
    """
    last: dict[UUID, int] = {}
    stretches: list[list[int]] = []  # first and last place
    for place, (at, _, value) in enumerate(rows):
        before = last.get(value)
        last[value] = place
        if before is None or place - before > REACH or at - rows[before][0] > FORGET:
            continue
        first = before
        while stretches and stretches[-1][1] >= first - BESIDE:
            first = min(first, stretches.pop()[0])
        stretches.append([first, place])
    found: set[int] = set()
    is_cut = False
    for first, end in stretches:
        # A call that comes late can part what followed each other, and it need not be linked itself.
        low, high = rows[max(0, first - REACH)][0], rows[min(len(rows) - 1, end + REACH)][0]
        if times[bisect_left(times, low) :][:1] and times[bisect_left(times, low)] <= high:
            found |= {leaf for _, leaf, _ in rows[first : end + 1]}
            is_cut |= (first <= 2 * REACH and not begins) or (end >= len(rows) - 1 - 2 * REACH and not ends)
    return found, is_cut


# --- tasks ------------------------------------------------------------------------------------------------------------


def _tasks(tenant: Tenant, acts: Iterable[Act], around: Around) -> set[int]:
    """Leaves of all that belongs to the tasks of these acts, where a price or a number was stated, or approved."""
    found: set[int] = set()
    acts = list(acts)
    answers = answers_about(tenant, acts)
    around.answers |= {(each.event_id, each.answer): each for each in answers}
    record = Record(**answered(tenant, acts, answers))
    for act in acts if record.approvals else ():
        if (yes := assent_to(act, record)) is not None and yes.max_minor is not None:
            found.add(act.leaf_index)  # what else is under the same request is reached by that
        if assent_to_task(act, record) is not None:
            found |= _leaves(tenant, "task = %s AND task <> '' AND principal = %s", [act.task, act.principal])
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


ANSWERED = 1_000  # acts that an answer naming neither request nor thing may be about, the first after it


def leaves_answered(tenant: Tenant, answers: Sequence[Act], *, types: Collection[str] = TYPES) -> set[int]:
    """Leaves of the acts that these answers, which may come late, can be about: under their request or task, of their thing,
    and, where a digest alone binds one, of their principal afterwards.
    """
    found: set[int] = set()
    requests = {answer.request_id for answer in answers} - {""}
    if requests:
        found |= _leaves(tenant, "request_id = ANY(%s) AND request_id <> ''", [list(requests)], types)
    for answer in answers:
        thing = answer.target or answer.resource
        if thing and answer.principal:
            found |= _leaves(tenant, "principal = %s AND %s IN (target, resource)", [answer.principal, thing], types)
        elif answer.task and answer.principal:
            found |= _leaves(tenant, "task = %s AND principal = %s", [answer.task, answer.principal], types)
        elif answer.principal and answer.payload.gate and answer.payload.gate.over:
            found |= _leaves(
                tenant,
                "leaf_index IN (SELECT leaf_index FROM projection_event WHERE tenant_id = e.tenant_id AND generation = e.generation"
                " AND principal = %s AND occurred_at >= %s AND type = ANY(%s) ORDER BY occurred_at, leaf_index LIMIT %s)",
                [answer.principal, answer.occurred_at, list(types), ANSWERED],
                types,
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


def _leaves(tenant: Tenant, condition: str, params: list, types: Collection[str] = TYPES) -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT leaf_index FROM projection_event e WHERE tenant_id = %s AND generation = %s AND type = ANY(%s)"
            f" AND environment = 'live' AND ({condition})",
            [tenant.pk, generation_of(tenant), list(types), *params],
        )
        return {leaf for (leaf,) in cursor.fetchall()}
