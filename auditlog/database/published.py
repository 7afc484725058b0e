"""How much of a log a published checkpoint covers: what its leaves configure beyond that binds nobody yet."""

from django.db import connection

_COVERED = "SELECT coalesce(max(size), 0) FROM ledger_checkpoint WHERE tenant_id = %s AND epoch = 1"
_LAST = """
    SELECT greatest(
        (SELECT max(leaf_index) FROM configuration_leaf WHERE tenant_id = %(tenant)s
            AND kind IN ('organisation', 'source')),
        (SELECT max(leaf_index) FROM rule_policy WHERE tenant_id = %(tenant)s), -1)
"""


def covered(tenant_id: int) -> int:
    """How many leaves of a log its newest published checkpoint covers."""
    with connection.cursor() as cursor:
        cursor.execute(_COVERED, [tenant_id])
        return cursor.fetchone()[0]


def is_settled(tenant_id: int) -> bool:
    """Whether a checkpoint covers the last word on who answers for whom, and on how rules are set."""
    with connection.cursor() as cursor:
        cursor.execute(_LAST, {"tenant": tenant_id})
        last = cursor.fetchone()[0]
    return last < covered(tenant_id)
