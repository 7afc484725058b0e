"""Tune: set how a rule works for a tenant, and see beforehand what that would have raised.

A back-test judges the acts of the last days anew under the policy that is tried and under the one in force, keeps nothing,
and gives the difference. What is too large to be judged at once is left out, and counted. A policy that is set is applied
to the whole record by the rounds of detection, like any other change of what is known.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from auditlog.core.chain.act import Act
from auditlog.core.errors import AnswerableError, ConfigurationError, NotFound, NotPossible
from auditlog.core.finding import Finding
from auditlog.core.policy import Policy, read_policy
from auditlog.database.dirty import look_again, only_looking
from auditlog.database.policies import following, policies_of, settings_of
from auditlog.detection import caps, keys, past
from auditlog.detection.findings.keep import collecting, keep_keys
from auditlog.detection.grace import is_ripe
from auditlog.detection.judge_acts import judge_acts
from auditlog.detection.names import look_at_names
from auditlog.detection.rates import judge_rates
from auditlog.detection.uncapped import judge_uncapped
from auditlog.detection.unforeseen import judge_kept
from auditlog.detectors import STORY_DETECTORS, detectors_of, integrity
from auditlog.ledger.append import append_note
from auditlog.models import Backtest, RulePolicy, Tenant
from auditlog.models import Finding as FindingRow
from auditlog.projection.generation import generation_of
from auditlog.reads.access import WHOLE, Viewer, person_of
from auditlog.reads.acts import select_acts
from auditlog.reads.stories import stories_around
from auditlog.sources.pull import alone

STEP = 500  # acts judged at once
LONGEST = 366  # days
SHOWN = 200  # findings of each kind in a result
MOST_OPEN = 5  # back-tests of a tenant that wait or run
# What the road or the silence of a source shows is counted where it happens: there are no acts to judge anew.
NOT_TRIED = frozenset({"integrity.source_gap", "integrity.source_silent", "integrity.clock_skew", "spend.forecast_breach"}) | {
    each.rule for each in integrity.ROAD_RULES
}  # fmt: skip


@transaction.atomic
def set_policy(tenant: Tenant, rule: str, said: Any, *, reason: str, who: str, person: str, now: datetime) -> Policy:
    """A new version of a rule's policy, stated by a leaf. Raises ConfigurationError, and NotPossible where one of its own
    tests fails.
    """
    policy = read_policy(rule, said, settings_of(rule))
    if not reason.strip():
        raise ConfigurationError("reason: somebody will ask why the rule was changed")
    if policy.least_minor and any(getattr(detector, "gathers", False) for detector in detectors_of(rule)):
        raise ConfigurationError(
            "least_minor: this rule adds up single acts; an amount of each says nothing of their sum"
        )
    if failed := failing(tenant, policy, now=now):
        raise NotPossible(f"the policy fails its own tests: {'; '.join(failed[:5])}")
    Tenant.objects.select_for_update().get(pk=tenant.pk)  # two who set one rule take turns
    version = RulePolicy.objects.filter(tenant=tenant, rule=rule).count() + 1
    data = policy.as_json()
    said = {"change": "rule policy.set", "rule": rule, "version": version, "by": who, "reason": reason.strip()[:4_000],
            "policy": json.dumps(data, sort_keys=True)}  # fmt: skip
    look_again(tenant.pk, "all", "-1")
    leaf = append_note(tenant, "config", said, now=now)
    row = RulePolicy.objects.create(
        tenant=tenant, rule=rule, version=version, data=data, reason=reason.strip()[:4_000], set_by=who, person=person,
        at=now, leaf_index=leaf,
    )  # fmt: skip
    return read_policy(rule, data, settings_of(rule), version=row.version, leaf_index=leaf)


def set_by(viewer: Viewer, rule: str, said: Any, *, reason: str, now: datetime) -> Policy:
    """The same by a person. Raises NotPermitted."""
    viewer.must("configure")
    return set_policy(viewer.tenant, rule, said, reason=reason, who=viewer.name, person=person_of(viewer), now=now)


def failing(tenant: Tenant, policy: Policy, *, now: datetime) -> list[str]:
    """The policy's own tests that fail: what it makes silent and should not, or leaves and should not. By the findings as
    they were found; what other settings would find, a back-test says.
    """
    rows = {
        row.pk: row
        for row in FindingRow.objects.filter(
            tenant=tenant, rule=policy.rule, pk__in=[case.finding for case in policy.tests]
        )
    }
    found = []
    for case in policy.tests:
        row = rows.get(case.finding)
        if row is None:
            found.append(f"there is no finding {case.finding} of this rule")
        elif bool(policy.kept([_as_found(row)], now=now)) != case.raised:
            found.append(f"finding {case.finding} is {'silent' if case.raised else 'raised'}")
    return found


def _as_found(row: FindingRow) -> Finding:
    return Finding(
        row.rule, row.anchor, row.severity, row.title, tuple(map(str, row.event_ids)), tuple(row.leaves), row.first_at,
        row.last_at, row.principal or None, row.actor or None, row.grant or None, row.provider or None,
        row.money_at_risk_minor, row.currency or None,
    )  # fmt: skip


# --- back-tests -------------------------------------------------------------------------------------------------------


@dataclass
class Trial:
    """What was found so far, by anchor, under each of the two policies."""

    now: dict[str, Finding] = field(default_factory=dict)
    tried: dict[str, Finding] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    def result(self, since: datetime, policy: Policy, tests: Iterable[str]) -> dict[str, Any]:
        """`added`, `gone`, `changed` and `same`: findings with an act since then. The first SHOWN of each."""
        now = {anchor: each for anchor, each in self.now.items() if each.last_at >= since}
        tried = {anchor: each for anchor, each in self.tried.items() if each.last_at >= since}
        added = [tried[anchor] for anchor in tried.keys() - now.keys()]
        gone = [now[anchor] for anchor in now.keys() - tried.keys()]
        changed = [tried[a] for a in tried.keys() & now.keys() if tried[a].severity != now[a].severity]
        return {
            "raised": len(tried), "raised_now": len(now), "same": len(tried.keys() & now.keys()) - len(changed),
            "added": _shown(added), "added_total": len(added), "gone": _shown(gone), "gone_total": len(gone),
            "changed": _shown(changed), "changed_total": len(changed), "left_out": len(self.left_out),
            "failing": list(tests), "policy": policy.as_json(),
        }  # fmt: skip


def _shown(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    ordered = sorted(findings, key=lambda each: (each.last_at, each.anchor), reverse=True)[:SHOWN]
    return [
        {
            "anchor": each.anchor, "severity": each.severity, "title": each.title[:300], "principal": each.principal, "actor": each.actor,
            "provider": each.provider, "money_at_risk_minor": None if each.money_at_risk_minor is None else int(each.money_at_risk_minor),
            "currency": each.currency, "first_at": each.first_at.isoformat(), "last_at": each.last_at.isoformat(),
            "event_ids": list(each.events[:10]), "events_total": len(each.events),
        }
        for each in ordered
    ]  # fmt: skip


def try_policy(
    tenant: Tenant,
    rule: str,
    said: Any,
    *,
    days: int,
    now: datetime,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """What a rule would have raised over the last days under this policy, against what it raises now. Keeps nothing."""
    policy, since = checked(rule, said, days=days), now - timedelta(days=days)
    trial, last = Trial(), -1
    total, done = count_acts(tenant, rule, since), 0
    while (acts := _next(tenant, rule, since, after=last)) != []:
        step(tenant, trial, policy, acts, now=now)
        last, done = acts[-1].leaf_index, done + len(acts)
        progress(done, total)
    return trial.result(since, policy, failing(tenant, policy, now=now))


def checked(rule: str, said: Any, *, days: int) -> Policy:
    """Raises ConfigurationError."""
    policy = read_policy(rule, said, settings_of(rule))
    if rule in NOT_TRIED:
        raise ConfigurationError(f"{rule} is counted as it happens, and cannot be tried on the past")
    if not 1 <= days <= LONGEST:
        raise ConfigurationError(f"days: expected 1 to {LONGEST}, found {days}")
    return policy


def count_acts(tenant: Tenant, rule: str, since: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM projection_event WHERE tenant_id = %s AND generation = %s AND type = ANY(%s) AND occurred_at >= %s",
            [tenant.pk, generation_of(tenant), _types(rule), since],
        )
        return cursor.fetchone()[0]


def _types(rule: str) -> list[str]:
    """Types of the acts that can bring a finding of the rule."""
    types = {kind for detector in detectors_of(rule) for kind in getattr(detector, "types", ())}
    return sorted(types or caps.TYPES)


def _next(tenant: Tenant, rule: str, since: datetime, *, after: int) -> list[Act]:
    return select_acts(
        tenant, "leaf_index > %s AND type = ANY(%s) AND occurred_at >= %s", [after, _types(rule), since], limit=STEP
    )


@transaction.atomic
def step(tenant: Tenant, trial: Trial, policy: Policy, acts: Sequence[Act], *, now: datetime) -> None:
    """Judge some acts under both policies. The database refuses to write anything meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL transaction_read_only TO on")
    in_force = policies_of(tenant)
    tried: Mapping[str, Policy] = {**in_force, policy.rule: policy}
    for policies, into in ((in_force, trial.now), (tried, trial.tried)):
        with following(tenant, policies), only_looking() as put_off, collecting() as found:
            _judge(tenant, policy.rule, acts, now=now)
        into |= {each.anchor: each for each in found if each.rule == policy.rule}
        trial.left_out |= set(put_off)


def _judge(tenant: Tenant, rule: str, acts: Sequence[Act], *, now: datetime) -> None:
    """By whichever part of detection judges the rule."""
    detectors = detectors_of(rule)
    if any(detector in STORY_DETECTORS for detector in detectors):
        for story in stories_around(tenant, acts, of_several=True).stories:
            for detector in STORY_DETECTORS:
                found = {(detector.rule, story.anchor): list(detector.find([story]))}
                keep_keys(tenant, detector.rule, detector.version, found, withdrawn_by=0, now=now)
    elif any(detector in past.RULES for detector in detectors):
        past.judge_past(tenant, acts, [], withdrawn_by=0, now=now, memory=past.Ties())
    elif any(detector in caps.RULES for detector in detectors):
        caps.judge_principals(tenant, {act.principal for act in acts} - {""}, withdrawn_by=0, now=now)
    elif rule in keys.RULES:
        ripe = [act for act in acts if is_ripe(act.received_at, now)]
        keys.judge_keys(tenant, keys.Asked(acts, ripe, (), (), 0, now))
    elif rule == "intent.unforeseen":
        judge_kept(tenant, acts, now=now)
    elif rule == "spend.uncapped":
        judge_uncapped(tenant, acts, (), withdrawn_by=0, now=now)
    elif rule == "spend.velocity":
        judge_rates(tenant, acts, withdrawn_by=0, now=now)
    elif rule.startswith("squatting.") and all(detector.partition != ("event_id",) for detector in detectors):
        look_at_names(tenant, acts, now=now)
    else:
        judge_acts(tenant, acts, (), withdrawn_by=0, now=now)


# --- as a job ---------------------------------------------------------------------------------------------------------


def ask(viewer: Viewer, rule: str, said: Any, *, days: int, now: datetime) -> Backtest:
    """Have a policy tried by a worker. Raises NotPermitted, ConfigurationError, or NotPossible where too many wait."""
    viewer.must("triage")
    policy = checked(rule, said, days=days)
    waiting = Backtest.objects.filter(tenant=viewer.tenant, state__in=["waiting", "running"]).count()
    if waiting >= MOST_OPEN:
        raise NotPossible(f"{waiting} back-tests wait already: look at those first")
    return Backtest.objects.create(
        tenant=viewer.tenant, rule=rule, data=policy.as_json(), days=days, asked_by=viewer.name, asked_at=now
    )


def backtest_of(viewer: Viewer, pk: int) -> Backtest:
    found = Backtest.objects.filter(tenant=viewer.tenant, pk=pk).first()
    if found is None:
        raise NotFound(f"there is no back-test {pk}")
    return found


def waiting() -> int | None:
    """The back-test that waits longest, or that a worker left."""
    open_ = Backtest.objects.filter(state__in=[Backtest.State.WAITING, Backtest.State.RUNNING]).order_by("id")
    return open_.values_list("pk", flat=True).first()


def run(pk: int, *, now: Callable[[], datetime]) -> None:
    """Run one. Nothing is done where another worker is at it, or it is over."""
    row = Backtest.objects.select_related("tenant").get(pk=pk)
    with alone(row, "backtest") as mine:
        row.refresh_from_db()
        if not mine or row.state not in (Backtest.State.WAITING, Backtest.State.RUNNING):
            return
        row.state, row.begun_at = Backtest.State.RUNNING, row.begun_at or now()
        row.save(update_fields=["state", "begun_at"])
        told = [time.monotonic()]

        def progress(done: int, total: int) -> None:
            if time.monotonic() - told[0] >= 0.5:
                told[0] = time.monotonic()
                Backtest.objects.filter(pk=pk).update(done=done, total=total)

        try:
            result = try_policy(row.tenant, row.rule, row.data, days=row.days, now=row.begun_at, progress=progress)
        except AnswerableError as error:
            failed(pk, now=now(), error=str(error))
            return
        total = count_acts(row.tenant, row.rule, row.begun_at - timedelta(days=row.days))
        done = {"state": Backtest.State.DONE, "result": result, "done": total, "total": total, "ended_at": now()}
        Backtest.objects.filter(pk=pk).update(**done)


def failed(pk: int, *, now: datetime, error: str = "a fault of ours, which is in our log") -> None:
    Backtest.objects.filter(pk=pk).update(state=Backtest.State.FAILED, error=error[:500], ended_at=now)


# --- what people made of findings -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Precision:
    """What people said that findings of a rule were. `low`, `high`: of the share that was true (Wilson, 95 %)."""

    rule: str
    raised: int
    true: int
    false: int
    defensive: int
    low: float | None
    high: float | None

    @property
    def share(self) -> float | None:
        told = self.true + self.false
        return self.true / told if told else None

    @property
    def percent(self) -> str:
        return "" if self.share is None else f"{self.share:.0%}"

    @property
    def bounds(self) -> str:
        return "" if self.low is None or self.high is None else f"{self.low:.0%} to {self.high:.0%}"


def precisions(viewer: Viewer) -> list[Precision]:
    """By rule, from the last label of each finding; one that was called a false positive is false without a label. Labels
    change no threshold by themselves.
    """
    viewer.must(WHOLE)
    with connection.cursor() as cursor:
        cursor.execute(_LABELS, {"tenant": viewer.tenant.pk})
        return [
            Precision(rule, raised, true, false, defensive, *wilson(true, true + false))
            for rule, raised, true, false, defensive in cursor.fetchall()
        ]


def wilson(hits: int, number: int, z: float = 1.96) -> tuple[float | None, float | None]:
    """Bounds of a share (Wilson 1927); none without a number."""
    if not number:
        return None, None
    share, square = hits / number, z * z
    middle = (share + square / (2 * number)) / (1 + square / number)
    half = z / (1 + square / number) * (share * (1 - share) / number + square / (4 * number * number)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


_LABELS = """
    SELECT f.rule, count(*) FILTER (WHERE f.state <> 'withdrawn'), count(*) FILTER (WHERE l.label = 'true'),
           count(*) FILTER (WHERE l.label = 'false'), count(*) FILTER (WHERE l.label = 'defensive')
    FROM finding f LEFT JOIN LATERAL (
        SELECT coalesce(nullif(t.label, ''), CASE t.to_state WHEN 'false_positive' THEN 'false' END) AS label FROM finding_triage t
        WHERE t.finding_id = f.id AND (t.label <> '' OR t.to_state = 'false_positive') ORDER BY t.id DESC LIMIT 1) l ON true
    WHERE f.tenant_id = %(tenant)s GROUP BY f.rule ORDER BY f.rule
"""
