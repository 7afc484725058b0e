"""Stories as the record has them: the acts around some acts by the keys that identify (core.story). Reads only.

Joins are followed in rounds of one query, for at most ROUNDS and ACTS; where they lead further, `stories_around` says
that it is cut, and knows less: nothing is ever joined by what was not read.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.db import connection

from auditlog.core.acts.story import BACKGROUND, Possible, Story, grouped, keys_of, possible_same, stories, usable
from auditlog.core.chain.act import Act
from auditlog.core.holding import ENDED_TYPES, MADE_TYPES
from auditlog.core.money.join import MANY, Key
from auditlog.models import Tenant
from auditlog.projection.generation import generation_of
from auditlog.reads.acts import select_acts

ROUNDS = 6
ACTS = 5_000
_COLUMNS = {
    "charge": ("charge",),
    "idempotency": ("idempotency_key",),
    "request": ("request_id", "ray_id"),
    "invoice": ("invoice",),
    "thing": ("target",),
}
_THINGS = sorted(
    MADE_TYPES
    | ENDED_TYPES
    | {"action.performed", "action.denied", "resource.requested", "resource.failed", "account.requested"}
)


@dataclass(frozen=True, slots=True)
class Told:
    """`is_cut`: joins lead further than they were followed, so a story may have more to it."""

    stories: list[Story]
    is_cut: bool = False


def stories_around(tenant: Tenant, acts: Sequence[Act], *, of_several: bool = False) -> Told:
    """The stories that these acts belong to, whole unless they are cut. `of_several`: only those that share a key with another source's
    statement, whether or not it identifies: an ordinary record of one source costs one query.
    """
    found = {act.leaf_index: act for act in acts}
    seeds = {key for act in acts for key in keys_of(act)}
    asked: set[Key] = set()
    wanted = seeds
    for _ in range(ROUNDS):
        if not (wanted := wanted - asked) or (asked and len(found) > ACTS):
            break
        asked |= wanted
        found |= {act.leaf_index: act for act in _stating(tenant, wanted, found)}
        told = {key: many for key, many in grouped(found.values()).items() if key in asked}
        if of_several and wanted == seeds:
            found = _near_others(told)
            told = {
                key: near for key, many in told.items() if (near := [act for act in many if act.leaf_index in found])
            }
            if not found:
                return Told([])
        # What a key of these acts joined until they came is looked at again, though to their source it says nothing now.
        wanted = {
            key
            for by, many in told.items()
            for act in (many if by in seeds else usable(by, many))
            for key in keys_of(act)
        }
    left = wanted - asked
    # Keys that nobody else states lead nowhere, which one more look tells; of too many acts it is not asked.
    is_cut = bool(left) and (len(found) > ACTS or bool(_stating(tenant, left, found)))
    around = stories(found.values())
    if not of_several:
        given = {act.event_id for act in acts}
        return Told([story for story in around if any(act.event_id in given for act in story.acts)], is_cut)
    shared = {
        act.event_id for many in grouped(found.values()).values() if len({a.source for a in many}) > 1 for act in many
    }
    return Told([story for story in around if any(act.event_id in shared for act in story.acts)], is_cut)


def _near_others(told: Mapping[Key, Sequence[Act]]) -> dict[int, Act]:
    """By leaf: the acts that share a key with another source's, and what shares one with those."""
    keys: dict[int, list[Key]] = {}
    for key, many in told.items():
        if len(many) > 1:
            for act in many:
                keys.setdefault(act.leaf_index, []).append(key)
    new = {act.leaf_index: act for many in told.values() if len({a.source for a in many}) > 1 for act in many}
    found: dict[int, Act] = {}
    while new:
        found |= new
        new = {
            act.leaf_index: act
            for leaf in new
            for key in keys.get(leaf, ())
            for act in told[key]
            if act.leaf_index not in found
        }
    return found


def _stating(tenant: Tenant, keys: Collection[Key], known: Collection[int]) -> list[Act]:
    """Other acts that state these values; scopes are compared by `core.story`. One query for their leaves, one for them."""
    branches, params = (
        [],
        {
            "tenant": tenant.pk,
            "generation": generation_of(tenant),
            "most": MANY + 1,
            "known": list(known),
            "things": _THINGS,
        },
    )
    for kind, columns in _COLUMNS.items():
        values = {key.value.partition(" ")[2] if kind == "thing" else key.value for key in keys if key.kind == kind}
        if not values:
            continue
        params[kind] = list(values)
        only = "AND e.type = ANY(%(things)s)" if kind == "thing" else ""
        branches += [_BY_KEY.format(kind=kind, column=column, only=only) for column in columns]
    if not branches:
        return []
    with connection.cursor() as cursor:
        cursor.execute(" UNION ".join(branches), params)
        leaves = [leaf for (leaf,) in cursor.fetchall()]
    return select_acts(tenant, "leaf_index = ANY(%s)", [leaves]) if leaves else []


_BY_KEY = """
    SELECT leaf_index FROM (
        SELECT e.leaf_index, row_number() OVER (PARTITION BY e.{column}, e.provider, e.rail, e.source) AS place FROM projection_event e
        WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.{column} = ANY(%({kind})s) AND e.{column} <> ''
          AND e.leaf_index <> ALL(%(known)s) {only}
    ) found WHERE place <= %(most)s
"""


def possibly_same(tenant: Tenant, act: Act) -> list[Possible]:
    """Statements that may be of the same money, by amount, party and time alone: shown, and never counted as one."""
    if act.amount_minor is None:
        return []
    others = select_acts(
        tenant,
        "amount_minor = %s AND currency = %s AND phase = ANY(%s) AND source <> %s AND occurred_at BETWEEN %s AND %s",
        [
            act.amount_minor,
            act.currency,
            ["captured", "settled"],
            act.source,
            act.occurred_at - BACKGROUND,
            act.occurred_at + BACKGROUND,
        ],
        limit=500,
    )
    return possible_same(act, others)


def fold(around: Iterable[Story], shown: Collection[str]) -> list[Story]:
    """Those of the stories that one of the shown acts belongs to."""
    return [story for story in around if any(act.event_id in shown for act in story.acts)]
