"""`export_siem`: events, findings or cases for a SIEM as a file, from a cursor on."""

import os
from pathlib import Path
from typing import IO

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog.core.errors import AnswerableError
from auditlog.custody.security import note
from auditlog.database.acting import acting
from auditlog.export.siem import FORMATS, STREAMS, read_page
from auditlog.models import Tenant

AT_ONCE = 1_000


class Command(BaseCommand):
    help = "Append events, findings or the steps of cases to a file, a line each, from a cursor on; prints the cursor to go on from."

    def add_arguments(self, parser):
        parser.add_argument("--tenant", default="default")
        parser.add_argument("--format", choices=FORMATS, default="ocsf")
        parser.add_argument("--what", choices=STREAMS, required=True)
        parser.add_argument(
            "--after", type=int, default=0, metavar="CURSOR", help="as printed the last time (default: from the first)"
        )
        parser.add_argument("--out", type=Path, required=True, help="the file; one that exists is appended to")

    def handle(self, *args, **options):
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"there is no tenant {options['tenant']!r}")
        out, cursor, count, more = options["out"], options["after"], 0, True
        try:
            with _opened(out) as file:
                while more:
                    page = read_page(tenant, options["what"], format=options["format"], after=cursor, size=AT_ONCE)
                    file.writelines(page.lines)
                    cursor, count, more = page.next, count + len(page.lines), page.more
                file.flush()
                os.fsync(file.fileno())  # the cursor is told only for what is on disk
        except AnswerableError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"cannot write {out}: {error.strerror}") from None
        note(
            tenant,
            "record.exported",
            who=acting(),
            what=f"export_siem: {count:,} {options['what']}",
            now=timezone.now(),
        )
        self.stderr.write(f"{out}: {count:,} {options['what']} more")
        self.stdout.write(str(cursor))


def _opened(path: Path) -> IO[bytes]:
    """For appending, mode 0600. A last line that a killed run left without its end is cut off: its cursor was never
    told.

    Raises CommandError where that line is none of ours: somebody else's file is not touched.
    """
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    size = end = file.seek(0, os.SEEK_END)
    while end and (file.seek(end - 1), file.read(1))[1] != b"\n":
        end -= 1
    file.seek(end)
    begins = file.read(min(size - end, 20))
    if not any(begins.startswith(ours[: len(begins)]) for ours in (b'{"class_uid":', b"CEF:0|Answerable|")):
        file.close()
        raise CommandError(f"{path} ends in a line that is not from here: give another file")
    file.seek(end)
    file.truncate()
    return file
