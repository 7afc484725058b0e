"""What the database's planner believes of the projections: see sql/statistics.sql."""

from django.db import connection

ENOUGH = 32  # pages; below, any plan will do


def refresh_statistics() -> None:
    """Have the planner look again when the projections have grown fourfold since it last did. Over all tenants."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relpages, pg_relation_size(oid) / current_setting('block_size')::int FROM pg_class"
            " WHERE oid = 'projection_event'::regclass"
        )
        known, pages = cursor.fetchone()
        if pages > 4 * known + ENOUGH:
            cursor.execute("SELECT projection_analyze()")
