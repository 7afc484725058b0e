"""Things of which a line may be somebody else's: given up and made again, made in two accounts, or passed on. Whose a line
about one is hangs on its time and account.
"""

from collections.abc import Collection, Iterable

from django.db import connection

from auditlog.core.holding import ENDED_TYPES, KIND_OF, MADE_TYPES, Life, Said, lives_by_account

Key = tuple[str, str, str]  # provider, kind, id
MOST = 1_000  # statements of one thing: more makings and ends than any has had


def lives_of(
    scope: tuple[int, int], named: Collection[tuple[str, str]], unwritten: Iterable[tuple]
) -> dict[Key, dict[str, list[Life]]]:
    """Of what these name, as (provider, id): by account, the lives of what its first making does not answer for alone.
    `unwritten`: events of which no row is written yet, by their columns NAMES.
    """
    if not named:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_AGAIN, {"tenant": scope[0], "generation": scope[1],
                                "providers": [provider for provider, _ in named], "ids": [id for _, id in named]})  # fmt: skip
        keys: set[Key] = set(cursor.fetchall())
        if not keys:
            return {}
        told: dict[Key, set[Said]] = {key: set() for key in keys}
        cursor.execute(_TOLD, {"tenant": scope[0], "generation": scope[1], "types": sorted(MADE_TYPES | ENDED_TYPES),
                               "providers": [provider for provider, _, _ in keys], "ids": [id for _, _, id in keys], "most": MOST})  # fmt: skip
        rows = cursor.fetchall()
    for type, outcome, environment, within_remit, provider, target, resource, account, at, event_id in [
        *rows,
        *unwritten,
    ]:
        kind = KIND_OF.get(type)
        if kind is None or (outcome, environment, within_remit) != ("success", "live", True):
            continue
        id = (account if kind == "account" else "") or target or resource
        if (provider, kind, id) in told:
            told[provider, kind, id].add(Said(at, event_id, type, account))
    found = {key: lives_by_account(many) for key, many in told.items()}
    return {key: by_account for key, by_account in found.items() if _is_not_its_first_makers_alone(by_account)}


def _is_not_its_first_makers_alone(by_account: dict[str, list[Life]]) -> bool:
    many = [life for lives in by_account.values() for life in lives]
    return len(many) > 1 or any(life.is_passed_on for life in many)


NAMES = "type outcome environment within_remit provider target resource account occurred_at event_id".split()
_AGAIN = """
    SELECT h.provider, h.kind, h.id FROM projection_holding h
    JOIN unnest(%(providers)s::text[], %(ids)s::text[]) AS w(provider, id) ON h.provider = w.provider AND h.id = w.id
    WHERE h.tenant_id = %(tenant)s AND h.generation = %(generation)s
      AND (h.ended_at > h.made_at AND (h.last_made_at > h.made_at OR h.kind = 'domain') OR cardinality(h.accounts) > 1)
"""
_TOLD = " UNION ".join(
    f"""SELECT o.* FROM unnest(%(providers)s::text[], %(ids)s::text[]) AS w(provider, id) CROSS JOIN LATERAL (
        SELECT {", ".join(NAMES)} FROM projection_event WHERE tenant_id = %(tenant)s AND generation = %(generation)s
          AND type = ANY(%(types)s) AND provider = w.provider AND {column} = w.id AND {column} <> '' ORDER BY leaf_index LIMIT %(most)s) o"""
    for column in ("target", "account", "resource")
)
