"""Names, accounts and other things that were set up together: what new ones can change, and no more (core.names.cluster).

Each that counts is kept as a row of its own, so that a look around it costs a range of an index and not the acts. From the
principal, agent and key of what is new or changed, only the rows within reach are read; from what is found there, those of
whoever else has a part in it. A key with more rows within reach than `MOST` is looked at again only so often that it delays
nothing else.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connection

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.names.cluster import DAY, LEVELS, REACH, Cluster, Finder, Named, Run, campaigns_of, joined, runs_of
from auditlog.database.bulk import copy_rows, fetch_rows
from auditlog.database.dirty import look_again
from auditlog.detection.findings.keep import keep_among, standing_with
from auditlog.detectors import bulk_provisioning, bulk_registration, campaign
from auditlog.detectors.base import Detector
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.parties import owned_names

TYPES = bulk_registration.types | bulk_provisioning.types
MOST = 5_000
COST = timedelta(milliseconds=1)  # of one row of a large key, many times what it takes
ROUNDS = 24  # from what was found to whoever else has a part in it
NEAR = 30 * DAY  # the longest window: what a new row can put into a cluster, or out of one
DEFERRED = "names"  # how a key that waits is named among those that are large

Key = tuple[str, str]  # level and value
Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class _Rule:
    detector: Detector
    find: Finder
    finding_of: Callable[[Cluster], Finding]


_OF_DOMAINS = (
    _Rule(bulk_registration, runs_of, bulk_registration.finding_of),
    _Rule(campaign, campaigns_of, campaign.finding_of),
)
_OF_OTHERS = (_Rule(bulk_provisioning, runs_of, bulk_provisioning.finding_of),)


def judge_names(
    tenant: Tenant, acts: Sequence[Act], big: Collection[tuple[str, str]], *, withdrawn_by: int, now: datetime
) -> None:
    """Judge what these acts, which are new or changed, can have changed. `big`: of large keys, those whose turn it is."""
    seeds: dict[str, dict[Key, Span]] = defaultdict(dict)
    leaves: dict[str, set[int]] = defaultdict(set)
    for row in _keep_rows(tenant, [act for act in acts if act.type in TYPES]):
        leaves[row.what].add(row.leaf_index)
        for key in _keys_of(row):
            seeds[row.what][key] = _wider(seeds[row.what].get(key), (row.at, row.at))
    for what, keys in seeds.items():
        _judge(tenant, what, keys, leaves[what], withdrawn_by=withdrawn_by, now=now)
    turns: dict[str, dict[Key, Span]] = defaultdict(dict)
    for name, told in big:
        if name == DEFERRED:
            what, level, value, first, last = json.loads(told)
            span = datetime.fromisoformat(first), datetime.fromisoformat(last)
            turns[what][level, value] = _wider(turns[what].get((level, value)), span)
    for what, keys in turns.items():
        _judge(tenant, what, keys, set(), withdrawn_by=withdrawn_by, now=now, is_turn=True)


def look_at_names(tenant: Tenant, acts: Sequence[Act], *, now: datetime) -> None:
    """Judge the names of these acts as their rows are, which are not written (for a back-test)."""
    for what in ("domain", *bulk_provisioning.KINDS):
        rows = _by_leaf(tenant, what, {act.leaf_index for act in acts if act.type in TYPES})
        if rows:
            _judge(tenant, what, _spans_of(rows), {row.leaf_index for row in rows}, withdrawn_by=0, now=now)


def _judge(
    tenant: Tenant,
    what: str,
    keys: Mapping[Key, Span],
    leaves: set[int],
    *,
    withdrawn_by: int,
    now: datetime,
    is_turn: bool = False,
) -> None:
    rules = _OF_DOMAINS if what == "domain" else _OF_OTHERS
    look = _Look(tenant, what, rules, leaves, is_turn, now)
    look.go(keys)
    found = []
    for rule in rules:
        for cluster in joined(look.in_play[rule.detector.rule]):
            if look.is_late(cluster.rows):
                look.wait_with(cluster.rows)
            else:
                found.append((rule.detector, rule.finding_of(cluster)))
    detectors = [rule.detector for rule in rules]
    keep_among(tenant, detectors, found, look.standing, withdrawn_by=withdrawn_by, now=now)


def _keys_of(row: Named) -> list[Key]:
    return [(level, value) for level in LEVELS if (value := getattr(row, level))]


def _spans_of(rows: Iterable[Named]) -> dict[Key, Span]:
    found: dict[Key, Span] = {}
    for row in rows:
        for key in _keys_of(row):
            found[key] = _wider(found.get(key), (row.at, row.at))
    return found


def _wider(known: Span | None, span: Span) -> Span:
    return span if known is None else (min(known[0], span[0]), max(known[1], span[1]))


@dataclass
class _Look:
    """A look around some keys: their rows within reach, and what is found among them that the look is about."""

    tenant: Tenant
    what: str
    rules: Sequence[_Rule]
    changed: set[int]  # leaves
    is_turn: bool  # of what is large: all of it is read
    now: datetime
    about: dict[Key, Span] = field(default_factory=dict)
    rows: dict[Key, list[Named]] = field(default_factory=dict)
    read: dict[Key, Span] = field(default_factory=dict)
    runs: dict[tuple[str, Key], list[Run]] = field(default_factory=dict)
    late: set[Key] = field(default_factory=set)  # too large, and not their turn
    standing: set[int] = field(default_factory=set)
    in_play: dict[str, list[Run]] = field(default_factory=dict)

    def go(self, keys: Mapping[Key, Span]) -> None:
        wanted = dict(keys)
        for _ in range(ROUNDS):
            while wanted:
                self._read(wanted)
                wanted = self._wanted_by_runs()
            wanted = self._wanted_by_findings()
            if not wanted:
                break
        self.in_play = {rule.detector.rule: list(self._in_play(rule)) for rule in self.rules}

    def is_late(self, rows: Iterable[Named]) -> bool:
        return bool(self.late) and any(key in self.late for row in rows for key in _keys_of(row))

    def _read(self, wanted: Mapping[Key, Span]) -> None:
        spans: dict[Key, Span] = {}
        for key, span in wanted.items():
            self.about[key] = _wider(self.about.get(key), span)
            if key not in self.late:
                first, last = self.about[key]
                spans[key] = self.read[key] = first - REACH, last + REACH
        found = _load(self.tenant, self.what, spans, None if self.is_turn else MOST + 1)
        for key in spans:
            rows = found.get(key, [])
            if len(rows) > MOST and not self.is_turn:
                self.late.add(key)
                self._wait(key, self.about[key])
                rows = []
            self.rows[key] = rows
            for rule in self.rules:
                self.runs[rule.detector.rule, key] = rule.find(rows, key[0]) if rows else []

    def wait_with(self, rows: Iterable[Named]) -> None:
        """What has a part in something large waits with it: perhaps only there it is seen that it has."""
        for key, span in _spans_of(rows).items():
            self._wait(key, span)

    def _wait(self, key: Key, span: Span) -> None:
        """Until it is its turn. By whole days, so that the next that comes asks for the same."""
        first, last = (at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) for at in span)
        told = json.dumps((self.what, *key, first.isoformat(), (last + DAY).isoformat()))
        look_again(self.tenant.pk, "key", json.dumps((DEFERRED, told)), due_at=self.now + COST * MOST)

    def _is_about(self, key: Key, row: Named) -> bool:
        first, last = self.about[key]
        return first - NEAR <= row.at <= last + NEAR

    def _in_play(self, rule: _Rule) -> Iterable[Run]:
        for (name, key), runs in self.runs.items():
            if name == rule.detector.rule:
                yield from (run for run in runs if any(self._is_about(key, row) for row in run[0]))

    def _wanted_by_runs(self) -> dict[Key, Span]:
        """Keys of whoever has a part in what was found, and of what reaches to the edge of what was read."""
        wanted = _spans_of(row for rule in self.rules for rows, _ in self._in_play(rule) for row in rows)
        return {key: span for key, span in wanted.items() if self._is_new(key, span)}

    def _is_new(self, key: Key, span: Span) -> bool:
        known = self.about.get(key)
        return key not in self.late and (known is None or span[0] < known[0] or span[1] > known[1])

    def _wanted_by_findings(self) -> dict[Key, Span]:
        """Keys of all that stands in findings which may have lost their ground."""
        leaves = set(self.changed)
        for key, rows in self.rows.items():
            leaves |= {row.leaf_index for row in rows if self._is_about(key, row)}
        standing = standing_with(self.tenant, [rule.detector.rule for rule in self.rules], leaves)
        members = {leaf for many in standing.values() for leaf in many}
        told = {row.leaf_index: row for row in _by_leaf(self.tenant, self.what, members)}
        late = {leaf for leaf, row in told.items() if self.is_late([row])}
        self.standing = {pk for pk, many in standing.items() if not late.intersection(many)}
        wanted = {key: span for key, span in _spans_of(told.values()).items() if self._is_new(key, span)}
        if not wanted:
            for pk in standing.keys() - self.standing:
                self.wait_with(told[leaf] for leaf in standing[pk] if leaf in told)
        return wanted


# --- rows -------------------------------------------------------------------------------------------------------------

_TYPES = {
    "tenant_id": "int8", "generation": "int4", "leaf_index": "int8", "event_id": "uuid", "at": "timestamptz", "what": "text",
    "name": "text", "label": "text", "brand": "text", "principal": "text", "actor": "text", "jkt": "text", "grant": "text",
    "provider": "text", "amount_minor": "numeric", "currency": "text",
}  # fmt: skip
_COLUMNS = ", ".join(f'n."{column}"' for column in list(_TYPES)[2:])


def _row(told: tuple) -> Named:
    leaf_index, event_id, at, what, name, label, brand, principal, actor, jkt, grant, provider, amount, currency = told
    return Named(str(event_id), leaf_index, at, what, name, label, brand, principal, actor, jkt, grant, provider,
                 None if amount is None else int(amount), currency)  # fmt: skip


def _keep_rows(tenant: Tenant, acts: Sequence[Act]) -> list[Named]:
    """Write the rows of these acts anew. Returns those that there are and those that there were."""
    if not acts:
        return []
    generation = generation_of(tenant)
    record = Record(owned=owned_names(tenant))
    rows: list[Named] = []
    for act in acts:
        named_of = bulk_registration.named_of if act.type in bulk_registration.types else bulk_provisioning.named_of
        if (row := named_of(act, record)) is not None:
            rows.append(row)
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM projection_name n WHERE n.tenant_id = %s AND n.generation = %s AND n.leaf_index = ANY(%s)"
            f" RETURNING {_COLUMNS}",
            [tenant.pk, generation, [act.leaf_index for act in acts]],
        )
        before = [_row(told) for told in cursor.fetchall()]
    if rows:
        copy_rows("projection_name", _TYPES, (
            (tenant.pk, generation, row.leaf_index, UUID(row.event_id), row.at, row.what, row.name, row.label, row.brand, row.principal,
             row.actor, row.jkt, row.grant, row.provider, row.amount_minor, row.currency) for row in rows
        ))  # fmt: skip
    return [*before, *rows]


def _load(tenant: Tenant, what: str, spans: Mapping[Key, Span], most: int | None) -> dict[Key, list[Named]]:
    """The rows of each key within its span, in order of time; no more of one than `most`."""
    found: dict[Key, list[Named]] = defaultdict(list)
    for level in LEVELS:
        if not (keys := [key for key in spans if key[0] == level]):
            continue
        rows = fetch_rows(
            f"SELECT v.value, {_COLUMNS} FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS v(value, first, last)"
            " CROSS JOIN LATERAL (SELECT * FROM projection_name o WHERE o.tenant_id = %s AND o.generation = %s AND o.what = %s"
            f" AND o.{level} = v.value AND o.{level} <> '' AND o.at BETWEEN v.first AND v.last ORDER BY o.at LIMIT %s) n",
            [
                [value for _, value in keys],
                [spans[key][0] for key in keys],
                [spans[key][1] for key in keys],
                tenant.pk,
                generation_of(tenant),
                what,
                most,
            ],
        )
        for value, *told in rows:
            found[level, value].append(_row(tuple(told)))
    for rows in found.values():
        rows.sort(key=lambda row: row.place)
    return found


def _by_leaf(tenant: Tenant, what: str, leaves: Collection[int]) -> list[Named]:
    if not leaves:
        return []
    rows = fetch_rows(
        f"SELECT {_COLUMNS} FROM projection_name n WHERE n.tenant_id = %s AND n.generation = %s AND n.what = %s"
        " AND n.leaf_index = ANY(%s)",
        [tenant.pk, generation_of(tenant), what, list(leaves)],
    )
    return [_row(told) for told in rows]
