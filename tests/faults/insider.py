"""The hand of somebody with the database's own rights: triggers off, then the deed."""

from django.db import connections, transaction

TABLES = (
    "ledger_leaf", "ledger_payload", "ledger_tile", "ledger_checkpoint", "ledger_head", "ledger_log_key",
    "ledger_hold", "ledger_release", "ledger_cosignature",
)  # fmt: skip


def by_force(*statements: tuple[str, list]) -> None:
    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for statement, params in statements:
            cursor.execute(statement, params)
        for table in TABLES:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def flip(table: str, column: str, where: str, params: list, *, byte: int = 0) -> None:
    """Flip one bit."""
    by_force((
        f"UPDATE {table} SET {column} = set_byte({column}, {byte}, get_byte({column}, {byte}) # 1) WHERE {where}", params
    ))  # fmt: skip
