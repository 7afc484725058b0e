"""Unproject: take leaves that are being erased out of the projections again, and nothing else.

What is left is what a fold of the other leaves gives (a rebuild, the oracle of the tests), at the cost of what those leaves
touch: the grants and tokens they spoke of with all below them, the things, the lines of money, and the blocks of leaves in
which they named somebody. How sources were heard (numbers, clocks) stays as it was heard: it tells nothing of what was said,
and a rebuild knows less of it.

Called in the transaction that erases, under the lock of the generation, before the payloads go.
"""

from collections import Counter
from collections.abc import Collection, Iterable

from django.db import connection

from auditlog import formats
from auditlog.database.bulk import fetch_rows
from auditlog.ledger.append import EPOCH
from auditlog.models import ProjectionState, Source, Tenant
from auditlog.models.ledger import KIND_NUMBERS
from auditlog.projection.acts import (
    BLOCK,
    attribute_anew,
    leaves_about,
    parties_of,
    reattribute,
    tell_holdings_anew,
    tell_parties_anew,
    told_of_things,
)
from auditlog.projection.batch import Batch, Read, may_say
from auditlog.projection.chains import drop_unsaid, said_of, unsay_grants, unsay_tokens
from auditlog.projection.money import drop_lines, refold
from auditlog.projection.payments import payments_around, rows_where
from auditlog.projection.project import write_dirty
from auditlog.sources.configuration import sources_in_force
from auditlog.sources.sender import sender_of


def unproject(tenant: Tenant, state: ProjectionState, leaves: Collection[int]) -> None:
    """Take these leaves out of a generation that is locked. Those that it has not read yet say nothing in it."""
    gone = {leaf for leaf in leaves if leaf < state.position}
    if not gone:
        return
    sources = sources_in_force(tenant)
    erased = _read(tenant, gone, sources)
    batch = Batch(tenant, state.generation, [], state.position)
    scope = {"tenant": tenant.pk, "generation": state.generation, "leaves": list(gone)}
    given = rows_where(batch.scope, "e.leaf_index = ANY(%(leaves)s)", {"leaves": list(gone)})
    beside = payments_around(batch.scope, given) if given else None
    _count(batch, gone, sources)
    _look_again_beside(batch, gone)
    with connection.cursor() as cursor:
        for table in ("event", "limit", "tie", "name", "unasked", "unparsed"):
            cursor.execute(
                f"DELETE FROM projection_{table} WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND leaf_index = ANY(%(leaves)s)",
                scope,
            )

    grants, tokens = said_of(erased)
    moved_tokens, silent_tokens = unsay_tokens(batch, tokens, gone)
    moved_grants, silent_grants = unsay_grants(batch, grants, gone)
    reattribute(batch, moved_grants, moved_tokens)
    drop_unsaid(batch, grants=silent_grants, tokens=silent_tokens)

    if things := set(told_of_things(erased)):
        batch.reads = [r for r in _read(tenant, leaves_about(batch, things), sources) if r.leaf_index not in gone]
        tell_holdings_anew(batch, things)
    attribute_anew(batch, [read.event_id for read in erased])
    _tell_money_anew(batch, given, beside)

    if keys := parties_of(erased):
        blocks = {leaf // BLOCK for leaf in gone}
        within = [
            leaf
            for block in blocks
            for leaf in range(block * BLOCK, min((block + 1) * BLOCK, state.position))
            if leaf not in gone
        ]
        batch.reads = list(_read(tenant, within, sources))
        tell_parties_anew(batch, keys, blocks)
    if state.is_current:
        write_dirty(batch)


def _look_again_beside(batch: Batch, gone: Collection[int]) -> None:
    """What was found with these, or may be found without them: the other events of their findings, and what they were tied
    to. Where their agents were first seen is forgotten, so whatever those do next is judged by all that is left.
    """
    scope = {"tenant": batch.scope[0], "generation": batch.scope[1], "leaves": list(gone), "most": BESIDE}
    with connection.cursor() as cursor:
        cursor.execute(_BESIDE, scope)
        batch.dirty |= {("event", str(leaf)) for (leaf,) in cursor.fetchall()}
        cursor.execute(
            "DELETE FROM projection_place p USING projection_event e WHERE e.tenant_id = %(tenant)s AND e.generation = %(generation)s"
            " AND e.leaf_index = ANY(%(leaves)s) AND p.tenant_id = e.tenant_id AND p.generation = e.generation AND p.actor = e.actor",
            scope,
        )


BESIDE = 5_000  # events of each that are looked at again
_BESIDE = """
    (SELECT o.leaf_index FROM finding_member m JOIN finding_member o ON o.finding_id = m.finding_id AND o.tenant_id = m.tenant_id
     WHERE m.tenant_id = %(tenant)s AND m.leaf_index = ANY(%(leaves)s) AND o.leaf_index <> ALL(%(leaves)s) LIMIT %(most)s)
    UNION
    (SELECT o.leaf_index FROM projection_tie t JOIN projection_tie o ON o.tenant_id = t.tenant_id AND o.generation = t.generation
       AND o.tie = t.tie AND o.at BETWEEN t.at - interval '6 hours' AND t.at + interval '6 hours'
     WHERE t.tenant_id = %(tenant)s AND t.generation = %(generation)s AND t.leaf_index = ANY(%(leaves)s)
       AND o.leaf_index <> ALL(%(leaves)s) LIMIT %(most)s)
    UNION
    (SELECT o.leaf_index FROM projection_unasked u CROSS JOIN LATERAL (
        SELECT n.leaf_index FROM projection_unasked n WHERE n.tenant_id = u.tenant_id AND n.generation = u.generation AND n.kind = u.kind
          AND n.leaf_index <> ALL(%(leaves)s) ORDER BY n.at, n.leaf_index LIMIT 1) o
     WHERE u.tenant_id = %(tenant)s AND u.generation = %(generation)s AND u.leaf_index = ANY(%(leaves)s) LIMIT %(most)s)
    UNION
    (SELECT o.leaf_index FROM projection_name n JOIN projection_name o ON o.tenant_id = n.tenant_id AND o.generation = n.generation
       AND o.what = n.what AND o.principal = n.principal AND o.at BETWEEN n.at - interval '30 days' AND n.at + interval '120 days'
     WHERE n.tenant_id = %(tenant)s AND n.generation = %(generation)s AND n.leaf_index = ANY(%(leaves)s)
       AND o.leaf_index <> ALL(%(leaves)s) LIMIT %(most)s)
"""


def _tell_money_anew(batch: Batch, given: list[tuple], beside) -> None:
    """The lines that counted what is gone, and those that stood beside it."""
    batch.reads = []  # all that is left was there before
    erased = {row[0] for row in given}
    drop_lines(batch, list(erased))
    others = [
        event_id for event_id in (beside.facts if beside else ()) if event_id not in {str(each) for each in erased}
    ]
    grants = [key for kind, key in batch.dirty if kind == "grant"]
    left = rows_where(batch.scope, "e.event_id = ANY(%(others)s::uuid[])", {"others": others}) if others else []
    if grants:
        left += rows_where(batch.scope, "e.via_grant = ANY(%(grants)s) AND e.via_grant <> ''", {"grants": grants})
    # Whose books were held together by what is gone, or by what has moved to somebody else.
    whose = {key for kind, key in batch.dirty if kind == "principal"} | (beside.principals if beside else set())
    refold(batch, [*left, *batch.attributed], also=whose - {""})


def _read(tenant: Tenant, leaves: Iterable[int], sources: dict[int, Source]) -> list[Read]:
    """The event leaves among these, parsed. What does not parse says nothing, as in the fold."""
    senders = {pk: (formats.named(source.format).parse, sender_of(source)) for pk, source in sources.items()}
    reads = []
    for leaf_index, event_id, source_id, received_at, grade, raw, headers, key in fetch_rows(
        _READ, [tenant.pk, EPOCH, KIND_NUMBERS["event"], list(leaves)]
    ):
        parse, sender = senders[source_id]
        try:
            event = parse(raw, headers, sender).received(received_at)
        except Exception:  # it was left out when it was projected, too, and counted there
            continue
        source = sources[source_id]
        reads.append(Read(leaf_index, event_id, source, received_at, grade, event, may_say(source, event), key))
    return reads


_READ = """
    SELECT l.leaf_index, l.event_id, l.source_id, l.received_at, l.grade, p.raw, p.headers, l.key
    FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)
    WHERE l.tenant_id = %s AND l.epoch = %s AND l.kind = %s AND l.leaf_index = ANY(%s) ORDER BY l.leaf_index
"""


def _count(batch: Batch, gone: Collection[int], sources: dict[int, Source]) -> None:
    """How many payloads of each source are gone."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.source_id FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.kind = %s AND l.leaf_index = ANY(%s)",
            [batch.tenant.pk, EPOCH, KIND_NUMBERS["event"], list(gone)],
        )
        counts = Counter(sources[source_id].name for (source_id,) in cursor.fetchall())
        cursor.execute(
            "UPDATE projection_source s SET erased = s.erased + m.erased FROM unnest(%s::text[], %s::bigint[]) AS m(source, erased)"
            " WHERE s.tenant_id = %s AND s.generation = %s AND s.source = m.source",
            [list(counts), list(counts.values()), *batch.scope],
        )
