"""`backup`: everything in the database, in one consistent file."""

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog.core.errors import AnswerableError
from auditlog.custody.backup import back_up
from auditlog.custody.bundle import private_file
from auditlog.custody.security import note
from auditlog.database.acting import acting


class Command(BaseCommand):
    help = (
        "Write all tables, as DATABASE_OWNER_URL, into one file of mode 0600, with the checkpoint each log is at. It"
        " holds"
        " what the database holds (payloads, salts, hashes of passwords and tokens): keep it as secret. It does not"
        " hold"
        " the log's signing key nor sessions."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "--out", type=Path, required=True, help="the file to make; one that exists is not overwritten"
        )

    def handle(self, *args, **options):
        try:
            with private_file(options["out"]) as file:
                done = back_up(file, now=timezone.now())
        except AnswerableError as error:
            raise CommandError(str(error)) from None
        note(None, "record.exported", who=acting(), what="backup: a backup of everything", now=timezone.now())
        for tenant, size in done.logs.items():
            self.stdout.write(f"{tenant}: {size:,} leaves")
        self.stdout.write(
            f"{options['out']}: {done.rows:,} rows of {done.tables} tables. It holds payloads, salts and hashes of"
            " passwords and"
            " tokens: keep it as secret as the database. The log's signing key is not in it: keep a copy elsewhere."
        )
