"""Schema: are the tables those that this version was written for. Asked before anything is served or worked on."""

from django.apps import apps
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

SET_UP = "run `manage.py setup_database` (it keeps what is there; make a backup first: `manage.py backup`)"


def waiting_migrations(alias: str = "default") -> list[str]:
    """Migrations of this version that the database has not had, in order. All of them for an empty one."""
    executor = MigrationExecutor(connections[alias])
    return [
        f"{migration.app_label}.{migration.name}"
        for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())
    ]


def foreign_migrations(alias: str = "default") -> list[str]:
    """Migrations that the database has had and this version does not know: it was made by a later one."""
    loader = MigrationExecutor(connections[alias]).loader
    ours = {config.label for config in apps.get_app_configs()}
    return sorted(
        f"{app}.{name}"
        for app, name in loader.applied_migrations
        if app in ours and (app, name) not in loader.disk_migrations
    )


def missing_columns(alias: str = "default") -> list[str]:
    """Columns that the models have and the tables lack, as where a migration was changed after it had been applied."""
    wanted = {
        (model._meta.db_table, field.column)
        for model in apps.get_models()
        for field in model._meta.local_concrete_fields
        if field.column is not None
    }
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'")
        there = set(cursor.fetchall())
    return sorted(f"{table}.{column}" for table, column in wanted - there)


def schema_faults(alias: str = "default") -> str:
    """Why this version cannot work on the database, with what to do about it; "" when it can."""
    if waiting := waiting_migrations(alias):
        return f"the database lacks {len(waiting)} migrations of this version, the first is {waiting[0]}: {SET_UP}"
    if foreign := foreign_migrations(alias):
        return f"the database was made by a later version, which knew migration {foreign[0]}: start that version, or restore a backup of this one"
    if missing := missing_columns(alias):
        return (
            f"the database was made by another version under the same name: {missing[0]} is missing, and"
            f" {len(missing) - 1} more. Back it up"
            " with the version that made it, and begin with an empty database"
        )
    return ""
