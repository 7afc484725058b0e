"""`setup_database`: migrate as the owner, then give the application role what it may have."""

from importlib.resources import files

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from psycopg import sql

from auditlog.database import configured


class Command(BaseCommand):
    help = (
        "Create or update the tables (as DATABASE_OWNER_URL) and grant the application role (DATABASE_URL) its rights."
    )

    def handle(self, *args, **options):
        app, owner = (connections[name].settings_dict["USER"] for name in ("default", "owner"))
        if not owner:
            raise CommandError("DATABASE_OWNER_URL is not set: it names the role that owns the tables")
        if app == owner:
            raise CommandError(
                f"DATABASE_URL and DATABASE_OWNER_URL both use role {app!r}: the application must not own the ledger"
            )
        call_command("migrate", database="owner", interactive=False, verbosity=options["verbosity"])
        with connections["owner"].cursor() as cursor:
            for name in ("grants.sql", "statistics.sql"):
                statements = (files("auditlog") / "sql" / name).read_text()
                cursor.execute(sql.SQL(statements).format(app=sql.Identifier(app)))
            for statement in configured.grants(app):
                cursor.execute(statement)
        if options["verbosity"]:
            self.stdout.write(
                f"tables are up to date; {app} may add to the ledger, change nothing in it, configure by leaves only"
            )
