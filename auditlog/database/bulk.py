"""Many rows in one statement: read in binary, binary COPY, and COPY into a temporary table followed by one upsert."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import connection
from psycopg import Cursor


def fetch_rows(statement: str, params: Sequence | Mapping[str, Any]) -> list[tuple]:
    """All rows, sent in binary: as text every byte string comes as hexadecimal, and Django reads each time with Python."""
    connection.ensure_connection()
    with connection.wrap_database_errors, Cursor(connection.connection) as cursor:
        return cursor.execute(statement, params, binary=True).fetchall()


def copy_rows(table: str, types: Mapping[str, str], rows: Iterable[Sequence]) -> None:
    """Insert `rows`, whose values follow the order of `types` (column -> PostgreSQL type)."""
    columns = ", ".join(f'"{column}"' for column in types)
    statement = f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)"
    # Django does not translate what COPY raises.
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(list(types.values()))
        for row in rows:
            copy.write_row(row)


def upsert_rows(
    table: str, types: Mapping[str, str], rows: Sequence[Sequence], *, key: Sequence[str], merge: Mapping[str, str] = {}
) -> None:
    """Insert or replace `rows` by `key`. `merge` gives an expression for columns that combine (t old, excluded new)."""
    if not rows:
        return
    columns = ", ".join(f'"{column}"' for column in types)
    after = {f'"{column}"': merge.get(column, f'excluded."{column}"') for column in types if column not in key}
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS staged_{table} (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
        )
        cursor.execute(f"DELETE FROM staged_{table}")  # of this transaction; TRUNCATE would make its files anew
    copy_rows(f"staged_{table}", types, rows)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} AS t ({columns}) SELECT {columns} FROM staged_{table}"
            f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET"
            f" {', '.join(f'{column} = {value}' for column, value in after.items())}"
            # What is as it was before writes no row.
            f" WHERE ({', '.join(f't.{column}' for column in after)}) IS DISTINCT FROM ({', '.join(after.values())})"
        )


def named_rows(sql: str, params: Sequence) -> list[dict]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
