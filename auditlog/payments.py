"""Payments: what there is of statements about money around some of them, so that money seen twice is counted once.

Read by the projector, which keeps what they come to, and by pages that say which statements count together. A fixed
number of queries a round; a round follows the keys that join (core.money), so it ends where they do.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from auditlog.bulk import fetch_rows
from auditlog.core.join import MANY, Key, money_keys
from auditlog.core.money import CREDIT_RAIL, MoneyFact, Unit, is_joinable, usable

COLUMNS = (
    "event_id", "leaf_index", "source", "occurred_at", "phase", "amount_minor", "currency", "rail", "charge", "outcome",
    "environment", "via_grant", "principal", "actor", "provider", "session", "task", "project", "idempotency_key",
    "request_id", "ray_id", "invoice", "within_remit",
)  # fmt: skip


@dataclass(slots=True)
class Payments:
    """Statements read, with rows by event id in the order of COLUMNS. `whole` are the units read with all around them."""

    rows: dict[str, tuple] = field(default_factory=dict)
    facts: dict[str, MoneyFact] = field(default_factory=dict)
    whole: set[Unit] = field(default_factory=set)

    def beside(self) -> list[Unit]:
        """The units read whole that share a key with another one, whatever that key turned out to identify."""
        stating: dict[Key, set[Unit]] = {}
        for fact in self.facts.values():
            for key in fact.keys:
                stating.setdefault(key, set()).add(fact.charge_key)
        return sorted(self.whole & set().union(*(units for units in stating.values() if len(units) > 1)))

    def take(self, rows: Iterable[tuple], *, with_keys: bool = True) -> None:
        for row in rows:
            fact = fact_of(row, with_keys=with_keys)
            if fact.event_id not in self.rows:
                self.rows[fact.event_id] = row
                self.facts[fact.event_id] = fact


def fact_of(row: tuple, *, with_keys: bool = True) -> MoneyFact:
    event_id, _, source, at, phase, amount, currency, rail, charge, outcome, environment, via, *rest = row
    provider, (idempotency_key, request_id, ray_id, invoice, within) = rest[2], rest[6:]
    keys: tuple[Key, ...] = ()
    if with_keys:
        keys = money_keys(provider, rail, idempotency_key=idempotency_key, request_id=request_id, ray_id=ray_id, invoice=invoice)
    counts = outcome == "success" and environment == "live"
    return MoneyFact(str(event_id), source, at, phase, amount, currency, rail, charge, counts, via != "", keys, within)


def payments_around(scope: Collection[int], rows: Iterable[tuple], *, is_alone: bool = False) -> Payments:
    """All statements of the units that these rows belong to, and of what may be the same payments. `scope` is
    (tenant, generation). `is_alone`: nobody but one source ever spoke, so there is nothing to join.
    """
    found = Payments()
    found.take(rows, with_keys=not is_alone)
    given = list(found.facts.values())
    # A key of the statements given may have joined their source's until they came: those that it had joined are told anew.
    seeds = {key for fact in given if is_joinable(fact) for key in fact.keys}
    reached = {fact.charge_key for fact in given}
    asked: set[Key] = set()
    while new := reached - found.whole:
        found.whole |= new
        found.take(_of_units(scope, new), with_keys=not is_alone)
        if is_alone:
            break
        keys = {key for fact in found.facts.values() if fact.charge_key in new and is_joinable(fact) for key in fact.keys} - asked
        asked |= keys
        found.take(_stating(scope, keys))
        told: dict[Key, list[MoneyFact]] = {}
        for fact in found.facts.values():
            if is_joinable(fact):
                for key in asked.intersection(fact.keys):
                    told.setdefault(key, []).append(fact)
        reached = {fact.charge_key for key, many in told.items() for fact in (many if key in seeds else usable(many))}
    return found


def _of_units(scope: Collection[int], units: Collection[Unit]) -> list[tuple]:
    """All money statements of these units; those without a charge id are among what was given."""
    named = [unit for unit in units if not unit[1].startswith("event:")]
    if not named:
        return []
    params = {"tenant": scope[0], "generation": scope[1], "rails": list({rail for rail, _ in named}), "charges": [charge for _, charge in named]}
    return [row for row in fetch_rows(_BY_UNIT, params) if (row[_RAIL], row[_CHARGE]) in units]


def _stating(scope: Collection[int], keys: Collection[Key]) -> list[tuple]:
    """Money statements that state these keys; of a key and source at most one more than can join."""
    params = {"tenant": scope[0], "generation": scope[1], "moving": ["authorized", "captured", "settled", "refunded", "reversed"],
              "credits": CREDIT_RAIL, "most": MANY + 1}  # fmt: skip
    branches = []
    for kind, columns in (("idempotency", ["idempotency_key"]), ("request", ["request_id", "ray_id"]), ("invoice", ["invoice"])):
        if some := {key.value for key in keys if key.kind == kind}:
            params[kind] = list(some)
            branches += [_BY_KEY.format(kind=kind, column=column) for column in columns]
    return fetch_rows(" UNION ALL ".join(branches), params) if branches else []


_RAIL, _CHARGE = COLUMNS.index("rail"), COLUMNS.index("charge")
_SELECTED = ", ".join(f"e.{name}" for name in COLUMNS)
_BY_UNIT = f"""
    SELECT {_SELECTED} FROM projection_event e
    WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.charge = ANY(%(charges)s) AND e.charge <> ''
      AND e.rail = ANY(%(rails)s) AND e.amount_minor IS NOT NULL
"""
# By arrays: one walk along an index, where a join with the keys would sort all the record as long as that is small; and a
# planner that believes the record empty reads all of it once, and not once a key. Which statements come does not matter
# where a source has too many: to it such a key names nothing, and it crowds out nobody else. Scopes are compared by who asked.
_BY_KEY = f"""
    SELECT {', '.join(COLUMNS)} FROM (
        SELECT {_SELECTED}, row_number() OVER (PARTITION BY e.{{column}}, e.provider, e.rail, e.source) AS place FROM projection_event e
        WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.{{column}} = ANY(%({{kind}})s) AND e.{{column}} <> ''
          AND e.amount_minor IS NOT NULL AND e.phase = ANY(%(moving)s)
          AND e.outcome = 'success' AND e.environment = 'live' AND e.within_remit AND e.rail <> %(credits)s
    ) found WHERE place <= %(most)s
"""


def rows_where(scope: Collection[int], condition: str, params: dict[str, Any]) -> list[tuple]:
    """Money statements by a condition on `projection_event e`, in the order of COLUMNS."""
    return fetch_rows(
        f"SELECT {_SELECTED} FROM projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s"
        f" AND e.amount_minor IS NOT NULL AND ({condition})",
        {"tenant": scope[0], "generation": scope[1], **params},
    )
