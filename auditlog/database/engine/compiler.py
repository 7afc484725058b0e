"""What the ORM writes of configuration, as calls of `configure`, which names who acts; a leaf states the change.

The application role may write those tables no other way. So this is for every path there is: verbs, the admin site,
forms of others, cascades, `QuerySet.update`. The owner's connection, which makes the tables, writes them as ever. What
only counts or remembers (`REMEMBERED`) is written as ever by both, by grants of single columns.
"""

import re
from collections.abc import Iterable

from django.core.exceptions import FullResultSet
from django.db import NotSupportedError
from django.db.models.constants import OnConflict
from django.db.models.sql import compiler

from auditlog.database import configured
from auditlog.database.acting import acting
from auditlog.database.configured import REMEMBERED

SQLCompiler = compiler.SQLCompiler
SQLAggregateCompiler = compiler.SQLAggregateCompiler
_LENGTH = re.compile(r"\(\d+\)")  # a cast to varchar(48) cuts what is too long; the table refuses it
_DEFAULT = "DEFAULT"  # what stands for a column's default: the column is left out then


class _Configures:
    """A statement about one table, perhaps one of configuration."""

    def _is_configuration(self) -> bool:
        return self.connection.alias != "owner" and self.query.get_meta().db_table in REMEMBERED

    def _call(self, what: str, changed: str, params: Iterable, wanted: str = "") -> tuple[str, tuple]:
        table = self.query.get_meta().db_table
        configured.note_change()
        return f"SELECT {wanted} FROM configure(%s, %s, %s, {changed}) AS done", (acting(), what, table, *params)

    def _object(self, columns: Iterable[tuple[str, str]]) -> str:
        pairs = ", ".join(f"'{name}', to_jsonb({value})" for name, value in columns)
        return f"jsonb_build_object({pairs})"

    def _typed(self, field, sql: str) -> str:
        return f"({sql})::{_LENGTH.sub('', field.db_type(self.connection))}"


class SQLInsertCompiler(_Configures, compiler.SQLInsertCompiler):
    def as_sql(self):
        if not self._is_configuration():
            return super().as_sql()
        if self.query.on_conflict not in (None, OnConflict.IGNORE):
            raise NotSupportedError("a row of configuration is added or changed, not one or the other")
        fields = self.query.fields or [self.query.get_meta().pk]
        rows = [
            [self.prepare_value(field, self.pre_save_val(field, obj)) for field in fields] for obj in self.query.objs
        ]
        objects, params = [], []
        for placeholders, values in zip(*self.assemble_as_sql(fields, rows), strict=True):
            given = [(f, sql) for f, sql in zip(fields, placeholders, strict=True) if sql != _DEFAULT]
            objects.append(self._object((field.column, self._typed(field, sql)) for field, sql in given))
            params += values
        what = "ignore" if self.query.on_conflict else "insert"
        row = f"jsonb_populate_record(NULL::{self.connection.ops.quote_name(self.query.get_meta().db_table)}, done)"
        wanted = ", ".join(f"({row}).{self.connection.ops.quote_name(f.column)}" for f in self.returning_fields or ())
        return [self._call(what, f"to_jsonb(ARRAY[{', '.join(objects)}])", params, wanted)]


class SQLUpdateCompiler(_Configures, compiler.SQLUpdateCompiler):
    def as_sql(self):
        table = self.query.get_meta().db_table
        if not self._is_configuration() or {field.column for field, _, _ in self.query.values} <= REMEMBERED[table]:
            return super().as_sql()
        self.pre_sql_setup()
        if not self.query.values:
            return "", ()
        columns, params = [], []
        for field, _, value in self.query.values:
            if hasattr(value, "resolve_expression"):
                value = value.resolve_expression(self.query, allow_joins=False, for_save=True)
            elif hasattr(value, "prepare_database_save"):
                value = value.prepare_database_save(field)
            value = field.get_db_prep_save(value, connection=self.connection)
            sql, more = self.field_as_sql(field, value)
            columns.append((field.column, self._typed(field, sql)))
            params += more
        return _on_rows(self, self.query, "update", columns, params)

    def field_as_sql(self, field, value):
        placeholder = field.get_placeholder(value, self, self.connection) if hasattr(field, "get_placeholder") else "%s"
        if hasattr(value, "as_sql"):
            sql, params = self.compile(value)
            return placeholder % sql, params
        return placeholder, [value]


class SQLDeleteCompiler(_Configures, compiler.SQLDeleteCompiler):
    def _as_sql(self, query):
        return _on_rows(self, query, "delete", [], []) if self._is_configuration() else super()._as_sql(query)


def _on_rows(writer, query, what: str, columns: list[tuple[str, str]], params: list) -> tuple[str, tuple]:
    """The call for the rows that a query is about, by their ids: all of them or none, as its condition says now."""
    table = writer.quote_name_unless_alias(query.base_table)
    try:
        where, more = writer.compile(query.where)
        where = f" WHERE {where}"
    except FullResultSet:
        where, more = "", ()
    rows = f"SELECT jsonb_agg({writer._object([('id', f'{table}.id'), *columns])}) FROM {table}{where}"
    return writer._call(what, f"coalesce(({rows}), '[]')", [*params, *more])
