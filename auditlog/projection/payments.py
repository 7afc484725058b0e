"""Payments: what there is of statements about money around some of them, so that money seen twice is counted once.

Read by the projector, which keeps the lines that they come to (core.books). A fixed number of queries a round; a round
follows the keys that statements share, so it ends where they do.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from auditlog.core.money.join import MADE, MANY, Key, money_keys, thing_key
from auditlog.core.money.money import MoneyFact, Unit, is_joinable, phase_of
from auditlog.database.bulk import fetch_rows

COLUMNS = (
    "event_id", "leaf_index", "source", "occurred_at", "type", "phase", "book", "amount", "currency", "rail", "charge", "via_grant",
    "principal", "actor", "provider", "session", "task", "project", "idempotency_key", "request_id", "ray_id", "invoice",
    "subscription", "period_from", "period_to", "payee", "account", "target_type", "target", "payment_authority", "payment",
    "verb",
)  # fmt: skip


@dataclass(slots=True)
class Payments:
    """Statements read, by event id. `whole` are the units read with all that share a key with them."""

    facts: dict[str, MoneyFact] = field(default_factory=dict)
    leaves: dict[str, int] = field(default_factory=dict)
    whole: set[Unit] = field(default_factory=set)

    def take(self, rows: Iterable[tuple]) -> None:
        for row in rows:
            event_id = str(row[0])
            if event_id not in self.facts:
                self.facts[event_id] = fact_of(row)
                self.leaves[event_id] = row[1]

    @property
    def principals(self) -> set[str]:
        return {fact.principal for fact in self.facts.values()} - {""}


def fact_of(row: tuple) -> MoneyFact:
    (event_id, _, source, at, kind, phase, book, amount, currency, rail, charge, via, principal, actor, provider, session, task,
     project, key, request_id, ray_id, invoice, subscription, begins, ends, payee, account, thing_type, thing, authority, payment,
     verb) = row  # fmt: skip
    keys = money_keys(
        provider,
        rail,
        idempotency_key=key,
        request_id=request_id,
        ray_id=ray_id,
        invoice=invoice,
        subscription=subscription,
        payment=payment,
        made=thing_key(kind, verb, provider, thing) if book == "incurred" else None,
    )
    moved = amount if amount is not None and kind != "payment.failed" else Decimal(0)  # what failed moved nothing
    return MoneyFact(
        str(event_id), source, at, phase_of(kind, phase), moved, currency, rail, charge,
        book != "", via != "", keys, kind, book, invoice, subscription, begins, ends, principal, actor, provider, payee, account,
        thing_type, thing, via, session, task, project, authority, payment,
    )  # fmt: skip


def payments_around(scope: Collection[int], rows: Iterable[tuple]) -> Payments:
    """All statements of the units that these rows belong to, and of all that shares a key with them. `scope` is
    (tenant, generation).
    """
    found = Payments()
    found.take(rows)
    # A key of the statements given may have named something to their source until they came: what shares it is told anew.
    seeds = {key for fact in found.facts.values() if is_joinable(fact) for key in fact.keys}
    reached = {fact.charge_key for fact in found.facts.values()}
    asked: set[Key] = set()
    while new := reached - found.whole:
        found.whole |= new
        found.take(_of_units(scope, new))
        keys = {
            key for fact in found.facts.values() if fact.charge_key in new and is_joinable(fact) for key in fact.keys
        } - asked
        asked |= keys
        found.take(_stating(scope, keys))
        told: dict[Key, list[MoneyFact]] = {}
        for fact in found.facts.values():
            if is_joinable(fact):
                for key in asked.intersection(fact.keys):
                    told.setdefault(key, []).append(fact)
        reached = {
            fact.charge_key
            for fact in found.facts.values()
            if fact.charge and (not fact.rail or ("", fact.charge) in new)
        } | {fact.charge_key for key, many in told.items() for fact in (many if key in seeds else _naming(key, many))}
    return found


def _naming(key: Key, told: Iterable[MoneyFact]) -> list[MoneyFact]:
    """Those to whose source the key names something: it does not state it for very many acts."""
    if key.kind in ("invoice", "subscription", "payment"):
        return list(told)
    by_source: dict[str, list[MoneyFact]] = {}
    for fact in told:
        by_source.setdefault(fact.source, []).append(fact)
    return [fact for own in by_source.values() if len(own) <= MANY for fact in own]


def _of_units(scope: Collection[int], units: Collection[Unit]) -> list[tuple]:
    """All money statements of these units; those without a charge id are among what was given. A statement that does not say
    its rail may be of any unit of that charge (`core.money.on_its_rail`).
    """
    named = [unit for unit in units if not unit[1].startswith("event:")]
    if not named:
        return []
    params = {"tenant": scope[0], "generation": scope[1], "charges": [charge for _, charge in named]}
    anywhere = {charge for rail, charge in named if not rail}
    return [
        row
        for row in fetch_rows(_BY_UNIT, params)
        if not row[_RAIL] or row[_CHARGE] in anywhere or (row[_RAIL], row[_CHARGE]) in units
    ]


def _stating(scope: Collection[int], keys: Collection[Key]) -> list[tuple]:
    """Money statements that state these keys; of a call's id and source at most one more than can name something."""
    params: dict[str, Any] = {"tenant": scope[0], "generation": scope[1], "most": MANY + 1}
    branches = []
    for kind, columns in (("idempotency", ["idempotency_key"]), ("request", ["request_id", "ray_id"])):
        if some := {key.value for key in keys if key.kind == kind}:
            params[kind] = list(some)
            branches += [_BY_KEY.format(kind=kind, column=column, more="") for column in columns]
    if some := {key.value.removeprefix(MADE) for key in keys if key.kind == "thing"}:
        params["thing"] = list(some)
        branches.append(
            _BY_KEY.format(kind="thing", column="target", more="AND e.book = 'incurred' AND e.type <> 'usage.metered'")
        )
    for kind in ("invoice", "subscription", "payment"):
        if some := {key.value for key in keys if key.kind == kind}:
            params[kind] = list(some)
            branches.append(_ALL_BY_KEY.format(kind=kind, column=kind))
    return fetch_rows(" UNION ALL ".join(branches), params) if branches else []


_RAIL, _CHARGE = COLUMNS.index("rail"), COLUMNS.index("charge")
_SELECTED = ", ".join(f"e.{name}" for name in COLUMNS)
_BY_UNIT = f"""
    SELECT {_SELECTED} FROM projection_event e
    WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.charge = ANY(%(charges)s) AND e.charge <> ''
      AND e.book <> ''
"""
# By arrays: one walk along an index, where a join with the keys would sort all the record as long as that is small; and a
# planner that believes the record empty reads all of it once, and not once a key. Which statements come does not matter
# where a source has too many: to it such a key names nothing, and it crowds out nobody else. Scopes are compared by who asked.
_BY_KEY = f"""
    SELECT {", ".join(COLUMNS)} FROM (
        SELECT {_SELECTED}, row_number() OVER (PARTITION BY e.{{column}}, e.provider, e.rail, e.source) AS place FROM projection_event e
        WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.{{column}} = ANY(%({{kind}})s) AND e.{{column}} <> ''
          AND e.book <> '' {{more}}
    ) found WHERE place <= %(most)s
"""
_ALL_BY_KEY = f"""
    SELECT {_SELECTED} FROM projection_event e
    WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.{{column}} = ANY(%({{kind}})s) AND e.{{column}} <> '' AND e.book <> ''
"""


def rows_where(scope: Collection[int], condition: str, params: dict[str, Any]) -> list[tuple]:
    """Money statements by a condition on `projection_event e`, in the order of COLUMNS."""
    return fetch_rows(
        f"SELECT {_SELECTED} FROM projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s"
        f" AND e.book <> '' AND ({condition})",
        {"tenant": scope[0], "generation": scope[1], **params},
    )
