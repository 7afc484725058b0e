"""Measure the rules about names on files that somebody gives: what they catch, what they flag, how fast (`bench detect`).

Files are CSV with a head line, as of public data sets: disputed names beside their marks (`outcome`, `case_id`, `mark`,
`disputed_domain`), new registrations (`domain`), and real bulk registrations (`template`, `domain`). Each share comes with
its binomial 95 % interval (Wilson). Random draws have a fixed seed.
"""

import csv
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import sqrt
from pathlib import Path
from typing import Any

from auditlog.core.names import domain
from auditlog.core.names.background import bundled
from auditlog.core.names.cluster import Named, clusters
from auditlog.core.names.lookalike import Index

ENDINGS = ("net", "org", "shop", "xyz", "co.uk", "cn", "com.au")
START = datetime(2026, 1, 5, 8, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
ACCOUNTS = (1, 5, 50)
FAMILY = ("ordinary", "agency")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def share(hits: int, of: int) -> dict[str, Any]:
    """A share with its Wilson interval."""
    if not of:
        return {"share": None, "of": 0}
    z, p = 1.96, hits / of
    middle, spread = p + z * z / (2 * of), z * sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    low, high = ((middle + sign * spread) / (1 + z * z / of) for sign in (-1, 1))
    return {"share": round(p, 4), "low": round(low, 4), "high": round(high, 4), "of": of}


def tiers(index: Index, names: Iterable[str]) -> list[str]:
    found = []
    for name in names:
        try:
            nearest = index.nearest(name)
        except ValueError:
            continue
        found.append(nearest.tier if nearest is not None else "none")
    return found


def measure_pairs(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Recall per case (its first name) of names that a panel transferred, and how many new names the same marks flag."""
    rows = rows_of(path)
    index = Index(sorted({row["mark"] for row in rows}), bundled())
    first: dict[str, str] = {}
    for row in rows:
        if row["outcome"] == "transfer":
            first.setdefault(row["case_id"], row["disputed_domain"])
    found, new = tiers(index, first.values()), tiers(index, names)
    own = [mark for many in index.marks.values() for mark in many if len(mark.label) > 2 and mark.label.isalnum()]
    swaps = tiers(index, (f"{mark.label}.{ending}" for mark in own for ending in ENDINGS))
    return {
        "marks": len(index.marks),
        "cases_alert": share(found.count("alert"), len(found)),
        "cases_alert_or_review": share(len(found) - found.count("none"), len(found)),
        "new_names_alert": share(new.count("alert"), len(new)),
        "new_names_alert_or_review": share(len(new) - new.count("none"), len(new)),
        "endings_swapped_alert": share(swaps.count("alert"), len(swaps)),
    }


def measure_brands(lines: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    began = time.perf_counter()
    index = Index(lines, bundled())
    built = time.perf_counter() - began
    began = time.perf_counter()
    found = tiers(index, names)
    return {
        "brands": len(index.marks),
        "new_names_alert": share(found.count("alert"), len(found)),
        "new_names_alert_or_review": share(len(found) - found.count("none"), len(found)),
        "names_per_s": round(len(found) / (time.perf_counter() - began)),
        "index_built_s": round(built, 2),
    }


# --- clusters ---------------------------------------------------------------------------------------------------------


class World:
    """Rows of made-up principals, with names that are given."""

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self.random, self.names, self.count = random.Random(seed), names, 0

    def row(self, name: str, at: datetime, principal: str, actor: str) -> Named:
        self.count += 1
        try:
            label = domain.parse(name).label
        except ValueError:
            label = name
        return Named(
            f"e{self.count}",
            self.count,
            at,
            "domain",
            name,
            label,
            "",
            principal,
            actor,
            "",
            "",
            "registrar",
            99,
            "USD",
        )

    def month(self, kind: str, principal: str, start: datetime = START) -> list[Named]:
        """What somebody buys in an ordinary month: a few names now and then, or an agency's daily work for its clients."""
        rows: list[Named] = []
        sittings = self.random.randint(0, 4) if kind == "ordinary" else self.random.randint(10, 60)
        for _ in range(sittings):
            at = start + self.random.random() * 30 * DAY
            for _ in range(min(12, 1 + int(self.random.expovariate(0.7)))):
                name = self.random.choice(self.names)
                many = [name]
                if self.random.random() < 0.3:  # the same under other endings
                    many += [f"{name.split('.')[0]}.{ending}" for ending in self.random.sample(ENDINGS, 2)]
                for each in many:
                    rows.append(self.row(each, at, principal, f"{principal}-agent"))
                    at += self.random.random() * MINUTE
        return rows

    def defence(self, principal: str, mark: str) -> list[Named]:
        """A mark that its owner registers under many endings, whom no configuration knows as its owner."""
        at = START + self.random.random() * 30 * DAY
        label = "".join(c for c in mark.lower() if c.isalnum()) or "mark"
        return [
            self.row(f"{label}.{e}", at + n * MINUTE, principal, f"{principal}-agent")
            for n, e in enumerate((*ENDINGS, "com", "io", "de", "fr", "it"))
        ]


def replayed(world: World, names: Sequence[str], accounts: int, kind: str) -> Iterator[tuple[int, list[Named]]]:
    """A cluster within its principal's ordinary month: after each of its names, how many there are and all rows so far."""
    principal = f"p{world.random.random()}"
    benign = world.month(kind, principal)
    at = START + world.random.random() * 20 * DAY
    mine: list[Named] = []
    for n, name in enumerate(names):
        at += (2 + 38 * world.random.random()) * MINUTE
        mine.append(world.row(name, at, principal, f"{principal}-agent-{n % accounts}"))
        yield n + 1, [*(row for row in benign if row.at <= at), *mine]


def caught_at(world: World, names: Sequence[str], accounts: int, kind: str) -> int | None:
    """By which of its names one cluster holds four in five of those that there are."""
    for count, rows in replayed(world, names, accounts, kind):
        mine = {row.leaf_index for row in rows[-count:]}
        for cluster in clusters(rows):
            if len(mine.intersection(row.leaf_index for row in cluster.rows)) >= 0.8 * count:
                return count
    return None


def measure_clusters(
    path: Path, names: Sequence[str], marks: Sequence[str], months: int, seed: int = 1
) -> dict[str, Any]:
    world = World(names, seed)
    by_template: dict[str, list[str]] = defaultdict(list)
    for row in rows_of(path):
        by_template[row["template"]].append(row["domain"])
    caught: dict[int, list[int]] = {}
    for accounts in ACCOUNTS:
        caught[accounts] = [
            caught_at(world, world.random.sample(many, min(30, len(many))), accounts, kind) or 99
            for many in by_template.values()
            for kind in FAMILY
        ]
    everything = [count for many in caught.values() for count in many]
    false = {kind: 0 for kind in (*FAMILY, "defender")}
    of_kind = {kind: 0 for kind in false}
    for n in range(months):
        kind = ("ordinary", "agency", "ordinary", "defender")[n % 4]
        of_kind[kind] += 1
        rows = world.month("ordinary" if kind == "defender" else kind, f"b{n}")
        if kind == "defender":
            rows += world.defence(f"b{n}", world.random.choice(marks))
        false[kind] += len(clusters(rows))
    return {
        "clusters_replayed": len(everything),
        "found_by_10th": share(sum(count <= 10 for count in everything), len(everything)),
        **{f"found_by_10th_{n}_accounts": share(sum(c <= 10 for c in many), len(many)) for n, many in caught.items()},
        "found_by_median": statistics.median(everything),
        "false_clusters": false,
        "principal_months": of_kind,
        "false_per_1000_principal_months": round(1000 * sum(false.values()) / months, 2),
    }


def measure(
    *, pairs: Path | None, names: Path | None, registrations: Path | None, brands: Path | None, months: int
) -> dict[str, Any]:
    """All that the given files allow. Raises OSError, KeyError and ValueError for files that are none."""
    new = [row["domain"] for row in rows_of(names)] if names else []
    found: dict[str, Any] = {}
    if pairs:
        found["pairs"] = measure_pairs(pairs, new)
    if brands:
        lines = [line.strip() for line in brands.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        found["brands"] = measure_brands(lines, new)
    if registrations:
        marks = (
            sorted({row["mark"] for row in rows_of(pairs)}) if pairs else ["quillwork", "brightforge", "tallow and son"]
        )
        found["clusters"] = measure_clusters(registrations, new, marks, months)
    return found
