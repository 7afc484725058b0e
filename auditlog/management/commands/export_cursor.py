"""`export_cursor`: have an export go on from another place, after a SIEM lost what it had, or to leave out what it need
not have.
"""

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog.core.errors import AnswerableError
from auditlog.custody.security import by_command
from auditlog.export.configure_export import set_cursor
from auditlog.export.siem import STREAMS
from auditlog.models import Export


class Command(BaseCommand):
    help = "Set the cursor of an export. Back: what lies between is sent again, under the same ids. Forward: it is never sent."

    def add_arguments(self, parser):
        parser.add_argument("name", help="of the export")
        parser.add_argument("--tenant", default="default")
        parser.add_argument("--what", choices=STREAMS, required=True)
        where = parser.add_mutually_exclusive_group(required=True)
        where.add_argument(
            "--to", type=int, metavar="CURSOR", help="0 is the first; Integrity and answers of the API name others"
        )
        where.add_argument("--to-end", action="store_true", help="only what comes from now on")
        parser.add_argument("--skip", action="store_true", help="it may go forward, and leave out what lies between")

    def handle(self, *args, **options):
        export = (
            Export.objects.select_related("tenant").filter(tenant__name=options["tenant"], name=options["name"]).first()
        )
        if export is None:
            raise CommandError(f"there is no export {options['name']!r} in tenant {options['tenant']!r}")
        what, wanted = options["what"], None if options["to_end"] else options["to"]
        try:
            before, after = set_cursor(export, what, wanted, now=timezone.now(), may_skip=options["skip"])
        except AnswerableError as error:
            raise CommandError(str(error)) from None
        by_command(export.tenant, f"export_cursor {export.name} {what}: {before} to {after}", now=timezone.now())
        between = f"{what} from {min(before, after):,} up to {max(before, after):,}"
        said = (
            f"{between} are sent again, under the same ids"
            if after < before
            else f"{between} are never sent"
            if after > before
            else "nothing changes"
        )
        self.stdout.write(f"{export.name}: the cursor of {what} was {before:,} and is {after:,}: {said}")
        if export.state != Export.State.ACTIVE:
            self.stdout.write(f"{export.name} is {export.state}: nothing is sent until it is active")
