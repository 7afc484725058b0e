"""squatting.bulk_registration: more names than this principal, agent or key could be expected to register.

What is too many, or too much alike, says core.names.cluster. Own marks under other endings, names that look like them and
names that the intent lists are planned, and do not count.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from auditlog.core.advice import Facts, for_long, left_until
from auditlog.core.chain.act import Act
from auditlog.core.chain.gates import asked_for
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.money.money import amount_text
from auditlog.core.names import domain
from auditlog.core.names.cluster import Cluster, Named, clusters
from auditlog.core.names.grace import CAP, MANY, last_of
from auditlog.detectors.lookalike import is_own, nearest_of_others

rule = "squatting.bulk_registration"
version = 3
title = "Far more names were registered than expected"
runbook = (
    "Stop the grant, then look at the names as one cluster: shared tokens, templates, marks of others. Most can be "
    "deleted inside the add grace period; ask the human before the clock runs out."
)
false_positives = "A portfolio move or a planned defensive purchase that no approved plan lists."
of_events = frozenset({"title", "money_at_risk", "names", "undo_until"})
types = frozenset({"domain.registered"})
partition = ("environment",)  # a cluster may be of several principals
waits = False


def advise(facts: Facts, now: datetime | None) -> str:
    """Each name can be given back within its own grace: the last one's is the last chance."""
    last = facts.time("undo_until")
    stop = "Stop the grant, then look at the names as one cluster: shared tokens, templates, marks of others."
    names = facts.evidence.get("names")
    if last is None:
        if not names:
            return runbook
        return f"{stop} Whether they can be given back is not known of these endings: ask the registrar at once."
    if now is not None and now >= last:
        return (
            f"{stop} None can be deleted for its price back any more: the add grace period ran {left_until(last, now)}."
            " Let them expire, or hand them over."
        )
    many = f" {CAP}" if isinstance(names, list) and len(names) > MANY else ""
    return (
        f"{stop} Ask the human, and have what is not wanted deleted: the last of them can be given back"
        f" {left_until(last, now)} (add grace period).{many}"
    )


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    named = [row for act in acts if (row := named_of(act, record)) is not None]
    return [finding_of(cluster) for cluster in clusters(named)]


def named_of(act: Act, record: Record) -> Named | None:
    """The act as a name that counts; None where it did not happen, or was planned."""
    if act.environment != "live" or act.outcome != "success" or act.type not in types:
        return None
    try:
        name = domain.parse(act.object)
    except ValueError:
        name = None
    stated = asked_for(act, record)
    if stated and not stated.by_actor and any(_is(target, act.object, name) for target in stated.intent.targets):
        return None
    if is_own(act, record.owned):
        return None
    close = nearest_of_others(act, record.owned)
    return Named(
        act.event_id,
        act.leaf_index,
        act.occurred_at,
        "domain",
        act.object,
        (name.label if name else act.object).lower(),
        close.mark.line if close is not None and close.tier == "alert" else "",
        act.principal,
        act.actor,
        act.jkt,
        act.via_grant,
        act.provider,
        act.amount_minor,
        act.currency,
    )


def _is(target: str, given: str, name: domain.Name | None) -> bool:
    if name is None:
        return target == given
    try:
        return domain.parse(target).registrable == name.registrable
    except ValueError:
        return False


def finding_of(cluster: Cluster) -> Finding:
    rows = cluster.rows
    span = for_long(rows[-1].at - rows[0].at + timedelta(seconds=59))
    _, price = money_of(rows)
    return cluster_finding(
        rule,
        rows,
        severity="high" if len(rows) >= 20 else "medium",
        title=f"{len(rows)} names were registered within {span}{price}",
        evidence={
            "names": [row.name for row in rows[:200]],
            "signs": dict(cluster.signs),
        }
        | undo_of(rows),
    )


def undo_of(rows: Sequence[Named]) -> dict[str, str]:
    """Until when the last of them can be given back; nothing where that is known of none."""
    until = last_of([(row.name, row.at) for row in rows])
    return {"undo_until": until.isoformat()} if until is not None else {}


def money_of(rows: Sequence[Named]) -> tuple[tuple[int, str] | None, str]:
    """What they cost together, where they state one currency; and that in words."""
    currencies = {row.currency for row in rows if row.amount_minor is not None}
    if len(currencies) != 1:
        return None, ""
    total, currency = sum(row.amount_minor or 0 for row in rows), next(iter(currencies))
    return (total, currency), f" for {amount_text(total, currency)}"


def cluster_finding(rule: str, rows: Sequence[Named], **more: Any) -> Finding:
    """A finding on these rows, in order of time. It is of whom all of them name, and keeps its place by its first leaf."""
    anchor = min(rows, key=lambda row: row.leaf_index)
    money, _ = money_of(rows)
    said: dict[str, Any] = {
        "rule": rule,
        "anchor": anchor.event_id,
        "events": tuple(row.event_id for row in rows),
        "leaves": tuple(row.leaf_index for row in rows),
        "first_at": rows[0].at,
        "last_at": rows[-1].at,
        "principal": _common(row.principal for row in rows),
        "actor": _common(row.actor for row in rows),
        "grant": _common(row.grant for row in rows),
        "provider": rows[-1].provider or None,
        "money_at_risk_minor": money[0] if money else None,
        "currency": money[1] if money else None,
    }
    return Finding(**said | more)


def _common(values: Iterable[str]) -> str | None:
    found = set(values)
    return found.pop() or None if len(found) == 1 else None
