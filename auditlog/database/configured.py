"""Which tables are configuration: written by `configure` only (sql/configure.sql, engine/compiler.py).

By table, the columns that only count or remember. The application role may write these without a leaf; no judgement
rests on them, and no leaf states them (`configuration_part` in sql/response.sql). `created_at` of some is among them
because whoever locks a row needs the right to write something of it.
"""

import itertools

from psycopg import sql

REMEMBERED: dict[str, frozenset[str]] = {
    table: frozenset(columns)
    for table, columns in {
        "auditlog_tenant": ("created_at",),
        "auditlog_source": ("created_at",),
        "auditlog_sourcekey": (),
        "auditlog_organisation": (),
        "auditlog_ownedname": (),
        "auditlog_membership": ("changes_seen",),
        "auditlog_apitoken": ("last_used_at",),
        "auditlog_retentionpolicy": ("last_run_at", "last_count"),
        "auditlog_witness": ("last_size", "last_error"),
        "auditlog_export": ("created_at",),
        "response_receiver": ("tested_at", "verified_at"),
        "response_policy": ("would",),
        "alert_channel": ("tested_at",),
        "rule_policy": (),
        "auth_user": ("last_login",),
        "auth_user_user_permissions": (),
        "auth_user_groups": (),
        "auth_group_permissions": (),
    }.items()
}
# What the permissions of accounts and groups mean: made by migrations, and by nobody else.
FIXED = ("auth_permission", "django_content_type", "configuration_leaf")

_changes = itertools.count(1)
_last_change = 0


def note_change() -> None:
    """This process changes configuration: what it has read of it may be used no more."""
    global _last_change
    _last_change = next(_changes)


def last_change() -> int:
    """A number that is another one after each change by this process."""
    return _last_change


def grants(app: str) -> list[sql.Composed]:
    """What takes away from the application role the right to write configuration, but for what is remembered."""
    role, found = sql.Identifier(app), []
    for table in (*REMEMBERED, *FIXED):
        found.append(
            sql.SQL("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {} FROM {}").format(sql.Identifier(table), role)
        )
    for table, columns in REMEMBERED.items():
        if columns:
            names = sql.SQL(", ").join(map(sql.Identifier, sorted(columns)))
            found.append(sql.SQL("GRANT UPDATE ({}) ON {} TO {}").format(names, sql.Identifier(table), role))
    return [*found, sql.SQL("GRANT EXECUTE ON FUNCTION configure TO {}").format(role)]
