"""Detect: judge what can have changed, and keep what the detectors say (fifth step of the road).

A round takes the next leaves from a position, and from `projection_dirty` older acts whose meaning has changed or that waited.
What an act costs does not hang on how much is there already: rules of single acts look at a bounded ground (judge_acts.py);
repeats, loops and tasks at what can meet the act in one finding (past.py); limits at balances that the projection keeps,
and at lines only where one can have been passed (caps.py); names and accounts at those within reach (names.py); a credential,
an agent or a principal's raises only where the act can change what is found of them (keys.py). What is large is judged again less often, and what changes the meaning
of many acts is followed in rounds. Position, dirty rows and findings move in one transaction.

Judging the whole record at once gives the same, whatever came in which batches and order (tests/whole_record.py). People's
triage stays, and a finding that is no longer found is withdrawn, naming the leaf that took its ground away.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connection, transaction

from auditlog.core.chain.act import Act
from auditlog.core.event import GRANTED, GrantObject
from auditlog.core.finding import Finding
from auditlog.database import published
from auditlog.database.dirty import AT_ONCE, look_again, look_at_leaves
from auditlog.database.policies import following, policies_of
from auditlog.detection import past
from auditlog.detection.caps import judge_caps
from auditlog.detection.findings.keep import keep_keys
from auditlog.detection.grace import GRACE, is_ripe
from auditlog.detection.judge_acts import judge_acts
from auditlog.detection.keys import Asked, judge_keys
from auditlog.detection.names import judge_names
from auditlog.detection.rates import judge_rates
from auditlog.detection.uncapped import judge_uncapped
from auditlog.detection.unforeseen import judge_unforeseen
from auditlog.detectors import (
    STORY_DETECTORS,
    SourceDetector,
    clock_skew,
    integrity,
    source_gap,
    source_silent,
)
from auditlog.ledger.append import EPOCH, identity
from auditlog.models import ProjectionState, RefusalCount, Tenant
from auditlog.models.ledger import KIND_NUMBERS
from auditlog.projection.generation import generation_of, reading
from auditlog.reads.acts import select_acts
from auditlog.reads.source_facts import clock_facts, gap_facts, silence_of
from auditlog.reads.stories import stories_around
from auditlog.sources import configuration

BATCH = 2_000
PUT_OFF = timedelta(seconds=1)  # a publisher signs that often


@dataclass(slots=True)
class Work:
    """What one round of detection looks at."""

    acts: list[Act]
    graced: list[Act] = field(default_factory=list)  # seen before; now absence around them means something
    waiting: dict[int, Act] = field(default_factory=dict)  # by leaf: to come again when their grace is over
    principals: set[str] = field(default_factory=set)
    refusals: set[str] = field(default_factory=set)
    heard: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)  # keys of the rules about sources, by kind
    big: set[int] = field(default_factory=set)  # leaves of what is large, and waited for its turn
    big_keys: set[tuple[str, str]] = field(default_factory=set)  # (column, key), likewise
    big_caps: set[str] = field(default_factory=set)  # principals with very many lines, likewise
    upto: int = 0  # the leaf that withdrawals name

    @property
    def is_empty(self) -> bool:
        return not (self.acts or self.graced or self.principals or self.refusals or self.big_keys)


def detect(tenant: Tenant, *, now: datetime, limit: int = BATCH) -> int:
    """Run one round. Returns how many leaves and dirty rows it took up; 0 when there is nothing to look at."""
    with transaction.atomic():
        state = (
            ProjectionState.objects.select_for_update(skip_locked=True).filter(tenant=tenant, is_current=True).first()
        )
        if state is None:
            return 0
        with connection.cursor() as cursor:
            # What a crash takes of a round it takes with the position, and it is judged again.
            cursor.execute("SET LOCAL synchronous_commit TO off")
        is_settled = published.is_settled(tenant.pk)  # before anything is read that may bind by now
        with reading(tenant, state.generation), following(tenant, policies_of(tenant)):
            return _round(tenant, state, now=now, limit=limit, is_settled=is_settled)


def _round(tenant: Tenant, state: ProjectionState, *, now: datetime, limit: int, is_settled: bool) -> int:
    upto = min(state.position, state.detected + limit)
    dirty = _take_dirty(tenant, now=now, limit=limit)
    if not is_settled:
        dirty = _put_off(tenant, dirty, now=now)
    elif any(kind == "all" for kind, _ in dirty):
        configuration.read_anew()
    taken = upto - state.detected + len(dirty)
    if not taken:
        return 0
    work = _work(tenant, state.detected, upto, dirty)
    work.upto = max(0, state.position - 1)
    _judge_leaves(tenant, state.detected, upto, now=now)
    _judge_refusals(tenant, work.refusals, now=now)
    _judge_sources(tenant, work, now=now)
    if not work.is_empty:
        work.waiting |= judge_acts(tenant, work.acts, work.graced, withdrawn_by=work.upto, now=now)
        _judge_past(tenant, work, start=state.detected, now=now)
        judge_unforeseen(tenant, work.acts, withdrawn_by=work.upto, now=now)
        judge_names(tenant, work.acts, work.big_keys, withdrawn_by=work.upto, now=now)
        judge_caps(tenant, work.acts, work.principals, withdrawn_by=work.upto, now=now, big=work.big_caps)
        judge_uncapped(tenant, work.acts, work.principals, withdrawn_by=work.upto, now=now)
        judge_rates(tenant, work.acts, withdrawn_by=work.upto, now=now)
        asked = Asked(work.acts, _ripe(work, now), work.principals, work.big_keys, work.upto, now)
        judge_keys(tenant, asked)
        work.waiting |= {leaf: act for leaf, act in asked.missing.items() if not is_ripe(act.received_at, now)}
        _judge_stories(tenant, work, now=now)
        waiting = work.waiting.values()
        look_at_leaves(tenant.pk, "grace", [(act.leaf_index, min(act.received_at, now) + GRACE) for act in waiting])
    ProjectionState.objects.filter(tenant=tenant, generation=state.generation).update(detected=upto)
    return taken


def _take_dirty(tenant: Tenant, *, now: datetime, limit: int) -> list[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM projection_dirty WHERE id IN (SELECT id FROM projection_dirty"
            " WHERE tenant_id = %s AND due_at <= %s ORDER BY due_at, id LIMIT %s FOR UPDATE) RETURNING kind, key",
            [tenant.pk, now, limit],
        )
        return cursor.fetchall()


def _put_off(tenant: Tenant, dirty: Sequence[tuple[str, str]], *, now: datetime) -> list[tuple[str, str]]:
    """The whole record is judged anew because of what is configured: once a published checkpoint covers that, and not
    before.
    """
    for key in {key for kind, key in dirty if kind == "all"}:
        look_again(tenant.pk, "all", key, due_at=now + PUT_OFF)
    return [(kind, key) for kind, key in dirty if kind != "all"]


def _work(tenant: Tenant, start: int, end: int, dirty: Sequence[tuple[str, str]]) -> Work:
    keys: dict[str, set[str]] = {}
    for kind, key in dirty:
        keys.setdefault(kind, set()).add(key)
    grants, tokens = list(keys.get("grant", ())), list(keys.get("token", ()))
    big = set(map(int, keys.get("big", ())))
    changed_leaves = {int(leaf) for leaf in keys.get("event", ())} | big
    changed_leaves |= _under(tenant, grants, tokens, list(keys.get("party", ())), after=-1)
    for told in map(json.loads, keys.get("under", ())):
        changed_leaves |= _under(tenant, told["grants"], told["tokens"], told["actors"], after=told["after"])
    if after := [int(leaf) for leaf in keys.get("all", ())]:
        changed_leaves |= _next(tenant, min(after), end)
    acts = select_acts(
        tenant,
        # What lies beyond this round is looked at when it comes, whatever changed it meanwhile.
        "leaf_index < %s AND (leaf_index >= %s OR leaf_index = ANY(%s))",
        [end, start, [*map(int, keys.get("grace", ())), *changed_leaves]],
    )
    changed, graced = [], []
    for act in acts:
        (changed if act.leaf_index >= start or act.leaf_index in changed_leaves else graced).append(act)
    known = {act.leaf_index for act in changed}
    principals = (keys.get("principal", set()) | keys.get("caps", set())) - {""}
    if grants:
        parties, above = _parties_of(tenant, grants)
        principals |= above
    else:
        parties = set()
    parties |= keys.get("party", set())
    again = [*_limits_again(tenant, changed, parties), *_authorities_again(tenant, changed)]
    changed += {a.leaf_index: a for a in again if a.leaf_index not in known and a.leaf_index < end}.values()
    heard = {
        kind: [tuple(json.loads(key)) for key in sorted(keys.get(kind, ()))]
        for kind in ("sequence", "silence", "clock")
    }
    return Work(
        changed,
        graced,
        principals=principals,
        refusals=keys.get("refusal", set()),
        heard=heard,
        big=big,
        big_caps=keys.get("caps", set()),
        big_keys={tuple(json.loads(key)) for key in keys.get("key", ())},
    )


def _next(tenant: Tenant, after: int, end: int) -> set[int]:
    """Leaves of the next acts of the whole record, which is judged anew; the rest are looked at in later rounds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT leaf_index FROM projection_event WHERE tenant_id = %s AND generation = %s AND leaf_index > %s AND leaf_index < %s"
            " ORDER BY leaf_index LIMIT %s",
            [tenant.pk, generation_of(tenant), after, end, BATCH],
        )
        leaves = [leaf for (leaf,) in cursor.fetchall()]
    if len(leaves) == BATCH:
        look_again(tenant.pk, "all", str(leaves[-1]), due_at=AT_ONCE)
    return set(leaves)


def _under(tenant: Tenant, grants: list[str], tokens: list[str], actors: list[str], *, after: int) -> set[int]:
    """Leaves of the next acts under these grants and tokens or by these parties, whose meaning has changed; the rest are looked
    at in later rounds.
    """
    if not grants and not tokens and not actors:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            _UNDER,
            {
                "tenant": tenant.pk,
                "generation": generation_of(tenant),
                "grants": grants,
                "tokens": tokens,
                "actors": actors,
                "after": after,
                "most": BATCH + 1,
            },
        )
        leaves = [leaf for (leaf,) in cursor.fetchall()]
    if len(leaves) <= BATCH:
        return set(leaves)
    leaves = leaves[:BATCH]
    look_again(
        tenant.pk,
        "under",
        json.dumps({"grants": grants, "tokens": tokens, "actors": actors, "after": leaves[-1]}),
        due_at=AT_ONCE,
    )
    return set(leaves)


_UNDER = """
    SELECT leaf_index FROM (
        SELECT e.leaf_index FROM unnest(%(grants)s::text[]) AS v(id) CROSS JOIN LATERAL (
            SELECT leaf_index FROM projection_event WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND via_grant = v.id
              AND via_grant <> '' AND leaf_index > %(after)s ORDER BY leaf_index LIMIT %(most)s) e
        UNION
        SELECT e.leaf_index FROM unnest(%(tokens)s::text[]) AS v(id) CROSS JOIN LATERAL (
            SELECT leaf_index FROM projection_event WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND token = v.id
              AND token <> '' AND leaf_index > %(after)s ORDER BY leaf_index LIMIT %(most)s) e
        UNION
        SELECT e.leaf_index FROM unnest(%(actors)s::text[]) AS v(id) CROSS JOIN LATERAL (
            SELECT leaf_index FROM projection_event WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND actor = v.id
              AND actor <> '' AND leaf_index > %(after)s ORDER BY leaf_index LIMIT %(most)s) e
    ) found ORDER BY leaf_index LIMIT %(most)s
"""


def _parties_of(tenant: Tenant, grants: list[str]) -> tuple[set[str], set[str]]:
    """Who gives and who holds these grants, and whose they are in the end."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT subject, actor, principal FROM projection_grant WHERE tenant_id = %s AND generation = %s AND id = ANY(%s)",
            [tenant.pk, generation_of(tenant), grants],
        )
        rows = cursor.fetchall()
    return {key for row in rows for key in row[:2]} - {""}, {row[2] for row in rows} - {""}


def _limits_again(tenant: Tenant, acts: Sequence[Act], parties: set[str]) -> list[Act]:
    """Statements about limits that others of this round may judge otherwise: of the same holder or grant, or of parties whose
    grants have changed, since who stands above whom says whether a raise counts.
    """
    said = [act for act in acts if act.type.startswith("limit.") or act.type in GRANTED]
    holders = {act.payload.limit.holder.key for act in said if act.payload.limit and act.payload.limit.holder}
    grants = {act.via_grant or act.grant for act in said} - {""}
    for act in said:
        if isinstance(act.payload.grant, GrantObject) and act.payload.grant.limits:
            own = [limit.holder or act.payload.grant.actor for limit in act.payload.grant.limits]
            holders |= {holder.key for holder in own if holder}
    if not (holders or grants or parties):
        return []
    return select_acts(
        tenant,
        "type IN ('limit.set', 'limit.raised') AND (actor = ANY(%s) OR event_id IN (SELECT l.event_id FROM projection_limit l"
        " WHERE l.tenant_id = e.tenant_id AND l.generation = e.generation AND l.verb IN ('set', 'raised')"
        ' AND (l.holder = ANY(%s) OR l.set_by = ANY(%s) OR (l."grant" = ANY(%s) AND l."grant" <> \'\'))))',
        [list(parties), list(holders | parties), list(parties), list(grants)],
    )


MOST_STATED = 200  # statements of the payment authorities of one round


def _authorities_again(tenant: Tenant, acts: Sequence[Act]) -> list[Act]:
    """Statements of payment authorities under which others of this round spend: whose raise counts hangs on who does."""
    named = {act.payload.money.authority for act in acts if act.payload.money} - {""}
    if not named:
        return []
    return select_acts(
        tenant,
        "payment_authority = ANY(%s) AND payment_authority <> '' AND type = 'payment.authority_granted'",
        [list(named)],
        limit=MOST_STATED,
    )


def _ripe(work: Work, now: datetime) -> list[Act]:
    return [act for act in (*work.acts, *work.graced) if is_ripe(act.received_at, now)]


def _judge_past(tenant: Tenant, work: Work, *, start: int, now: datetime) -> None:
    known = [act.leaf_index for act in work.acts if act.leaf_index < start]
    memory = past.Ties()
    lost = past.tie(tenant, work.acts, known, memory)
    past.judge_past(tenant, work.acts, lost, memory=memory, withdrawn_by=work.upto, now=now, big=work.big)


def _judge_stories(tenant: Tenant, work: Work, *, now: datetime) -> None:
    """What sources say of one act together. A story is kept under its first statement; whatever stood under the others,
    from when they were stories of their own, has lost its ground.
    """
    told = stories_around(tenant, work.acts, of_several=True).stories
    for detector in STORY_DETECTORS:
        found: dict[tuple[str, ...], list[Finding]] = {(act.event_id,): [] for story in told for act in story.acts}
        found |= {(story.anchor,): list(detector.find([story])) for story in told}
        named = {(*detector.partition, *key): findings for key, findings in found.items()}
        keep_keys(tenant, detector.rule, detector.version, named, withdrawn_by=work.upto, now=now)


# --- what the road itself saw ---------------------------------------------------------------------------------------


def _judge_leaves(tenant: Tenant, start: int, end: int, *, now: datetime) -> None:
    """Conflict leaves in the range, judged with all others of the same source, key and hour."""
    with connection.cursor() as cursor:
        cursor.execute(_CONFLICTS, {"tenant": tenant.pk, "epoch": EPOCH, "kind": KIND_NUMBERS["conflict"],
                                    "start": start, "end": end})  # fmt: skip
        rows = cursor.fetchall()
        originals = [identity(bytes(tenant.pepper), source, given) for _, source, _, _, given in rows]
        cursor.execute(
            "SELECT event_id, leaf_index FROM ledger_leaf WHERE tenant_id = %s AND event_id = ANY(%s)",
            [tenant.pk, originals],
        )
        leaf_of = dict(cursor.fetchall())
    facts = [
        integrity.ConflictFact(leaf, source, key, received_at, str(original), leaf_of.get(original))
        for (leaf, source, key, received_at, _), original in zip(rows, originals, strict=True)
    ]
    if facts:
        found = {(finding.anchor,): [finding] for finding in integrity.conflict_findings(facts)}
        keep_keys(tenant, integrity.DUPLICATE_CONFLICT, integrity.VERSION, found, withdrawn_by=end - 1, now=now)


_CONFLICTS = """
    WITH touched AS (
        SELECT DISTINCT source_id, key, date_trunc('hour', received_at, 'UTC') AS hour FROM ledger_leaf
        WHERE tenant_id = %(tenant)s AND epoch = %(epoch)s AND kind = %(kind)s
          AND leaf_index >= %(start)s AND leaf_index < %(end)s
    )
    SELECT l.leaf_index, s.name, l.key, l.received_at, p.source_event_id
    FROM ledger_leaf l JOIN touched t ON t.source_id = l.source_id AND t.key = l.key
      AND date_trunc('hour', l.received_at, 'UTC') = t.hour
    JOIN auditlog_source s ON s.id = l.source_id
    JOIN ledger_payload p ON p.tenant_id = l.tenant_id AND p.epoch = l.epoch AND p.leaf_index = l.leaf_index
    WHERE l.tenant_id = %(tenant)s AND l.epoch = %(epoch)s AND l.kind = %(kind)s AND l.leaf_index < %(end)s
    ORDER BY l.leaf_index
"""


def _judge_refusals(tenant: Tenant, sources: set[str], *, now: datetime) -> None:
    rows = RefusalCount.objects.filter(tenant=tenant, source__in=sources).order_by("id")
    facts = [
        integrity.RefusalFact(r.source, r.key, r.err, r.hour, r.count, r.first_at, r.last_at, r.sample) for r in rows
    ]
    found = {(finding.anchor,): [finding] for finding in integrity.signature_findings(facts)}
    keep_keys(tenant, integrity.SIGNATURE_FAILED, integrity.VERSION, found, withdrawn_by=0, now=now)


def _judge_sources(tenant: Tenant, work: Work, *, now: datetime) -> None:
    """Gaps, silence and clocks of the sources that were heard from, or whose time has come."""
    for source, stream in work.heard["sequence"]:
        facts = gap_facts(tenant, source, stream)
        ripe, young = [], []
        for fact in facts:
            (ripe if is_ripe(fact.gap.revealed_at, now, _grace(fact)) else young).append(fact)
        _keep_of(tenant, source_gap, {(source, stream): ripe}, work, now=now)
        if young:
            due_at = min(min(fact.gap.revealed_at, now) + _grace(fact) for fact in young)
            look_again(tenant.pk, "sequence", json.dumps((source, stream)), due_at=due_at)
    for (source,) in work.heard["silence"]:
        fact = silence_of(tenant, source)
        due_at = fact.since + fact.every + GRACE if fact else now
        _keep_of(tenant, source_silent, {(source,): [fact] if fact and due_at <= now else []}, work, now=now)
        if due_at > now:
            look_again(tenant.pk, "silence", json.dumps((source,)), due_at=due_at)
    if hours := work.heard["clock"]:
        by_key: dict[tuple[str, ...], list[clock_skew.Fact]] = {key: [] for key in hours}
        for fact in clock_facts(tenant, hours):
            by_key[fact.source, fact.key, fact.hour.isoformat()].append(fact)
        _keep_of(tenant, clock_skew, by_key, work, now=now)


def _grace(fact: source_gap.Fact) -> timedelta:
    return source_gap.LINKED_GRACE if fact.gap.is_linked else GRACE


def _keep_of(
    tenant: Tenant, detector: SourceDetector, facts: dict[tuple[str, ...], list], work: Work, *, now: datetime
) -> None:
    found = {key: list(detector.find(many)) for key, many in facts.items()}
    keep_keys(tenant, detector.rule, detector.version, found, withdrawn_by=work.upto, now=now)
