"""Rules about all acts of one key: a credential, an agent, a principal's raises. Each says which acts can change what it
finds, so that a key is read only where something can be found, or was; and of a very large one only so often that it delays
nothing else.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection

from auditlog.core.acts.ties import hashed, holder_ties
from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.database.bulk import upsert_rows
from auditlog.database.dirty import look_again
from auditlog.database.policies import policies_of
from auditlog.detection.findings.keep import keep
from auditlog.detection.grace import is_ripe
from auditlog.detection.ground import limits_around
from auditlog.detectors import (
    ACT_DETECTORS,
    Detector,
    cap_creep,
    orphan_token,
    shared_key,
    token_elsewhere,
)
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.acts import select_acts
from auditlog.reads.chains import load_tokens
from auditlog.reads.parties import kinds_of

COLUMNS = {"principal": "principal", "grant": '"grant"', "token": "token", "actor": "actor", "jkt": "jkt"}
RULES = {rule for rule in (cap_creep.rule, orphan_token.RULE, shared_key.RULE, token_elsewhere.rule)}
BIG = 5_000  # acts of one key
COST = timedelta(milliseconds=1)  # of one act of a large key, many times what it takes


@dataclass
class Asked:
    """What one round has to look at."""

    acts: Sequence[Act]  # new, or changed in what they mean
    ripe: Sequence[Act]  # of those and of others: what rules about absence may look at
    principals: Collection[str]  # whose acts were taken from them, or whose grants have changed
    big: Collection[tuple[str, str]]  # (column, key): of large ones, those whose turn it is
    withdrawn_by: int
    now: datetime
    missing: dict[int, Act] = field(default_factory=dict)  # by leaf: of what something is missing, ripe or not


def judge_keys(tenant: Tenant, asked: Asked) -> None:
    record = Record(tokens=load_tokens(tenant, {act.token for act in (*asked.acts, *asked.ripe)}))
    by_column: dict[str, list[Detector]] = defaultdict(list)
    for detector in ACT_DETECTORS:
        if detector.rule in RULES:
            by_column[detector.partition[0]].append(detector)
    for column, detectors in by_column.items():
        concerned = {detector: _concerned(tenant, detector, asked, record) for detector in detectors}
        forced = {key for name, key in asked.big if name == column}
        sizes = _sizes(tenant, column, concerned, forced)
        for detector, keys in concerned.items():
            late = {key for key in keys if sizes.get(key, 0) > BIG and key not in forced}
            for key in late:
                due_at = asked.now + COST * sizes[key]
                look_again(tenant.pk, "key", json.dumps((column, key)), due_at=due_at)
            _judge(tenant, detector, (keys | forced) - late, asked)


def _judge(tenant: Tenant, detector: Detector, keys: Collection[str], asked: Asked) -> None:
    if not keys:
        return
    [column] = detector.partition
    name = COLUMNS[column]
    acts = select_acts(
        tenant, f"type = ANY(%s) AND {name} = ANY(%s) AND {name} <> ''", [list(detector.types), list(keys)]
    )
    if detector.waits:
        acts = [act for act in acts if is_ripe(act.received_at, asked.now)]
    record = _record(tenant, detector, acts)
    grouped: dict[str, list[Act]] = {}
    for act in acts:
        grouped.setdefault(getattr(act, column), []).append(act)
    found: dict[tuple[str, ...], list[Finding]] = {
        (key,): list(detector.find(grouped[key], record)) if key in grouped else [] for key in sorted(keys)
    }
    keep(tenant, detector, found, withdrawn_by=asked.withdrawn_by, now=asked.now)


def _record(tenant: Tenant, detector: Detector, acts: Sequence[Act]) -> Record:
    """What these rules look at beside the acts."""
    limits = limits_around(tenant, acts) if detector is cap_creep else []
    parties = {act.actor for act in acts} | {limit.set_by for limit in limits}
    for act in acts:
        parties |= {holder for holder, _ in holder_ties(act)}
    return Record(
        policies=policies_of(tenant),
        limits=tuple(limits),
        kinds=kinds_of(tenant, generation_of(tenant), parties - {""}),
        tokens=load_tokens(tenant, {act.token for act in acts}),
    )


def _sizes(tenant: Tenant, column: str, concerned: dict[Detector, set[str]], forced: Collection[str]) -> dict[str, int]:
    """How many acts each key has, of all the types that its rules look at."""
    keys = set().union(*concerned.values()) - set(forced)
    if not keys:
        return {}
    types = frozenset().union(*(detector.types for detector in concerned))
    name = COLUMNS[column]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {name}, count(*) FROM projection_event WHERE tenant_id = %s AND generation = %s AND type = ANY(%s)"
            f" AND {name} = ANY(%s) AND {name} <> '' GROUP BY 1",
            [tenant.pk, generation_of(tenant), list(types), list(keys)],
        )
        return dict(cursor.fetchall())


# --- which keys can have changed --------------------------------------------------------------------------------------


def _concerned(tenant: Tenant, detector: Detector, asked: Asked, record: Record) -> set[str]:
    [column] = detector.partition
    acts = [
        act
        for act in (asked.ripe if detector.waits else asked.acts)
        if act.type in detector.types and getattr(act, column)
    ]
    keys = _with_findings(tenant, detector, {getattr(act, column) for act in acts})
    if column == "principal":
        keys |= {act.principal for act in acts} | (set(asked.principals) - {""})
        return _with_limits_reached(tenant, keys)
    if detector is token_elsewhere:
        return keys | _elsewhere(tenant, acts)
    if detector.rule == orphan_token.RULE:
        young = [act for act in asked.acts if act.type in detector.types and getattr(act, column)]
        missing = {act.leaf_index: act for act in (*acts, *young) if orphan_token.missing(column, act, record)}
        asked.missing |= missing
        return keys | {getattr(act, column) for act in acts if act.leaf_index in missing}
    if column == "jkt":
        return keys | _of_several(tenant, acts)
    return keys | {act.token for act in acts if _is_outsider(act, record)}


def _with_findings(tenant: Tenant, detector: Detector, keys: Iterable[str]) -> set[str]:
    """Those of the keys of which something is found already, and may have lost its ground."""
    asked = {json.dumps((*detector.partition, key)): key for key in keys}
    if not asked:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT partition FROM finding WHERE tenant_id = %s AND rule = %s AND partition = ANY(%s)"
            " AND state IN ('open', 'acknowledged')",
            [tenant.pk, detector.rule, list(asked)],
        )
        return {asked[partition] for (partition,) in cursor.fetchall()}


def _with_limits_reached(tenant: Tenant, principals: Collection[str]) -> set[str]:
    if not principals:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT principal FROM projection_event WHERE tenant_id = %s AND generation = %s AND type = 'limit.reached'"
            " AND principal = ANY(%s)",
            [tenant.pk, generation_of(tenant), list(principals)],
        )
        return {principal for (principal,) in cursor.fetchall()}


def _is_outsider(act: Act, record: Record) -> bool:
    """Whether a token is used by somebody whom it does not name, as far as it is known whom it names."""
    if not isinstance(act.payload.token, str) or not act.actor:
        return False
    tokens = record.token_path(act.token).tokens
    return act.actor not in {party.key for party in tokens[-1].actors} if tokens else True


def _of_several(tenant: Tenant, acts: Iterable[Act]) -> set[str]:
    """Keys that are bound to more than one holder. A step to either side of the holder's own, whatever lies there."""
    bound = {(act.jkt, tie) for act in acts for _, tie in holder_ties(act)}
    if not bound:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT v.jkt FROM unnest(%(keys)s::text[], %(ties)s::uuid[], %(values)s::uuid[]) AS v(jkt, tie, value)"
            " WHERE EXISTS (SELECT 1 FROM projection_tie t WHERE t.tenant_id = %(tenant)s AND t.generation = %(generation)s"
            " AND t.tie = v.tie AND t.value < v.value) OR EXISTS (SELECT 1 FROM projection_tie t WHERE t.tenant_id = %(tenant)s"
            " AND t.generation = %(generation)s AND t.tie = v.tie AND t.value > v.value)",
            {"keys": [key for key, _ in bound], "ties": [tie.tie for _, tie in bound], "values": [tie.value for _, tie in bound],
             "tenant": tenant.pk, "generation": generation_of(tenant)},
        )  # fmt: skip
        return {key for (key,) in cursor.fetchall()}


_PLACES = {"tenant_id": "int8", "generation": "int4", "actor": "text", "place": "uuid", "first_at": "timestamptz"}


def _elsewhere(tenant: Tenant, acts: Iterable[Act]) -> set[str]:
    """Agents with an act that brings a sign which nobody had seen of them by then, or that comes before one that did: only
    those can be somewhere else, or say that another was not.
    """
    first: dict[tuple[str, UUID], datetime] = {}
    earliest: dict[str, datetime] = {}
    for act in acts:
        if act.happened and act.environment == "live":
            for name, value in token_elsewhere.signs_of(act).items():
                key = (act.actor, hashed(name, value))
                first[key] = min(first.get(key, act.occurred_at), act.occurred_at)
                earliest[act.actor] = min(earliest.get(act.actor, act.occurred_at), act.occurred_at)
    if not first:
        return set()
    scope = [tenant.pk, generation_of(tenant)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT p.actor, p.place, p.first_at FROM unnest(%s::text[], %s::uuid[]) AS v(actor, place)"
            " JOIN projection_place p ON p.actor = v.actor AND p.place = v.place WHERE p.tenant_id = %s AND p.generation = %s",
            [[actor for actor, _ in first], [place for _, place in first], *scope],
        )
        known = {(actor, place): at for actor, place, at in cursor.fetchall()}
        cursor.execute(
            "SELECT v.actor FROM unnest(%s::text[], %s::timestamptz[]) AS v(actor, at) WHERE EXISTS (SELECT 1 FROM projection_place p"
            " WHERE p.tenant_id = %s AND p.generation = %s AND p.actor = v.actor AND p.first_at > v.at)",
            [list(earliest), list(earliest.values()), *scope],
        )
        found = {actor for (actor,) in cursor.fetchall()}
    new = {key: at for key, at in first.items() if key not in known or at < known[key]}
    upsert_rows(
        "projection_place", _PLACES, [(*scope, *key, at) for key, at in sorted(new.items())],
        key=("tenant_id", "generation", "actor", "place"), merge={"first_at": "least(t.first_at, excluded.first_at)"},
    )  # fmt: skip
    return found | {actor for actor, _ in new}
