"""Figures of the rules about runaway spend: how soon a loop is found, and how rarely ordinary spending is; without a database."""

import csv
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from auditlog.core.acts.taking import takes
from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.money.velocity import episodes
from auditlog.detectors import declined_storm, duplicate_charge, price_exceeded, quantity_exceeded, retry_loop, velocity
from auditlog.simulator import spending

LOOPS = 100  # of each kind
BINS = 720  # of a month


def spend_figures(data: Path | None, *, months: int, seed: int) -> dict:
    """`data`: a folder with files named as the development data are; what is not there is not measured."""
    figures = _loops(seed) | _months(months, seed)
    if data is not None and (calls := data / "agent_toolcalls.csv").exists():
        for name, share in (("at_a_cent", None), ("at_a_tenth", 0.1)):
            found = [bool(_looping(acts)) for acts in spending.sessions(calls, share=share)]
            figures |= {f"loops_in_sessions_{name}": sum(found), "sessions": len(found)}
    if data is not None and (series := data / "monitoring_series.csv").exists():
        figures |= _series(series)
    return figures


def _looping(acts: Sequence[Act]) -> list:
    return list(retry_loop.find(acts, Record()))


def _loops(seed: int) -> dict:
    counted, dear, figures = [], [], {}
    for kind in spending.KINDS:
        mine = []
        for number in range(LOOPS):
            loop = spending.injected(kind, random.Random(f"{seed} {kind} {number}"))
            mine.append(spending.charges_until_found(loop, lambda acts: bool(_looping(acts))) or 99)
            if loop.is_dear and not kind.startswith("rephrased"):
                dear.append(mine[-1])
        figures[f"loop_{kind.replace(' ', '_')}_p50"] = statistics.median(mine)
        counted += mine
    ordered = sorted(counted)
    return figures | {
        "loop_p50_charges": statistics.median(ordered),
        "loop_p95_charges": ordered[int(0.95 * len(ordered))],
        "loop_found_by_fifth": round(sum(each <= 5 for each in ordered) / len(ordered), 4),
        "loop_dear_p95_charges": sorted(dear)[int(0.95 * len(dear))],
        "loops": len(ordered),
    }


def _months(months: int, seed: int) -> dict:
    found: Counter[str] = Counter()
    for number in range(months):
        acts = spending.month(random.Random(f"{seed} month {number}"))
        record = Record()
        for detector in (retry_loop, duplicate_charge, price_exceeded, quantity_exceeded, declined_storm):
            found.update(finding.rule for finding in detector.find(acts, record))
        bins: dict[tuple[str, str, str], dict[int, float]] = defaultdict(lambda: defaultdict(float))
        for act in acts:
            if takes(act):
                hour = int(act.occurred_at.timestamp()) // 3600
                bins[act.actor, act.provider, act.currency][hour] += float(act.exact_minor or 0)
        for mine in bins.values():
            rises = episodes(
                mine,
                begins=min(mine),
                ends=max(mine) + 1,
                budget=velocity.BUDGET.default,
                floor=velocity.FLOOR_MINOR.default,
            )
            found[velocity.rule] += len(list(rises))
    return {
        "months": months,
        "findings_in_months": sum(found.values()),
        **{f"in_months_{r}": n for r, n in found.items() if n},
    }


def _series(path: Path) -> dict:
    """Rises in labelled hourly series, at a budget of one false alarm a month: a labelled stretch above the median of the week
    before it is to be found; an episode beside every labelled stretch is false.
    """
    with path.open() as file:
        rows = list(csv.DictReader(file))
    wanted = hit = wrong = bins = 0
    delays = []
    for _, mine in groupby(rows, key=lambda row: row["series"]):
        told = [(float(row["value"]), row["label"] == "1") for row in mine]
        values = [value for value, _ in told]
        stretches = _stretches([label for _, label in told])
        alarms = _alarms(values)
        for first, last in stretches:
            before = values[max(0, first - 168) : first]
            if first < 24 or statistics.mean(values[first : last + 1]) <= statistics.median(before):
                continue
            wanted += 1
            inside = [n for n in alarms if first <= n <= last]
            hit += bool(inside)
            delays += [inside[0] - first] if inside else []
        wrong += sum(not any(f - 1 <= n <= end + 1 for n in group for f, end in stretches) for group in _groups(alarms))
        bins += len(values)
    return {
        "velocity_recall": round(hit / max(1, wanted), 3),
        "velocity_false_per_series_month": round(wrong / (bins / BINS), 2),
        "velocity_delay_p50_bins": statistics.median(delays) if delays else None,
        "velocity_stretches": wanted,
    }


def _alarms(values: Sequence[float]) -> list[int]:
    bins = {n: value for n, value in enumerate(values) if value > 0}
    return [n for n in bins if list(episodes(bins, begins=n, ends=n + 1, budget=1.0))]


def _groups(alarms: Sequence[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    for n in alarms:
        if groups and n - groups[-1][-1] <= 24:
            groups[-1].append(n)
        else:
            groups.append([n])
    return groups


def _stretches(labels: Sequence[bool]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for n, label in enumerate(labels):
        if label and found and found[-1][1] == n - 1:
            found[-1] = (found[-1][0], n)
        elif label:
            found.append((n, n))
    return found
