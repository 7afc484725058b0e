"""`export_log`: a log, or a part of it, as a bundle that anybody checks offline."""

from pathlib import Path
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog.core.errors import AnswerableError
from auditlog.custody.bundle import export_log, private_file
from auditlog.custody.security import note
from auditlog.database.acting import acting
from auditlog.models import Tenant


class Command(BaseCommand):
    help = "Write a tenant's log in open form (a zip that carries its own verifier): the whole, some events, or some leaves."

    def add_arguments(self, parser):
        parser.add_argument("--tenant", default="default")
        parser.add_argument(
            "--out", type=Path, required=True, help="the file to make; one that exists is not overwritten"
        )
        parser.add_argument("--events", help="ids of events, joined by commas")
        parser.add_argument("--from", dest="first", type=int, help="the first leaf")
        parser.add_argument("--to", dest="last", type=int, help="the last leaf, included")

    def handle(self, *args, **options):
        try:
            events = [UUID(text) for text in (options["events"] or "").split(",") if text]
        except ValueError:
            raise CommandError(f"expected ids of events joined by commas, found {options['events'][:80]!r}") from None
        first, last = options["first"], options["last"]
        if (first is None) != (last is None):
            raise CommandError("--from and --to belong together")
        if first is not None and not 0 <= first <= last:
            raise CommandError(f"expected 0 <= from <= to, found {first} and {last}")
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"there is no tenant {options['tenant']!r}")
        leaves = None if first is None else range(first, last + 1)
        try:
            with private_file(options["out"]) as file:
                done = export_log(tenant, file, events=events, leaves=leaves)
        except AnswerableError as error:
            raise CommandError(str(error)) from None
        note(
            tenant,
            "record.exported",
            who=acting(),
            what=f"export_log: the log as {options['out'].name}",
            now=timezone.now(),
        )
        what = "the whole log" if done.is_whole else "a part of the log"
        self.stdout.write(
            f"{options['out']}: {what}, {done.leaves:,} leaves at checkpoint {done.size:,} ({done.erased:,} payloads"
            " erased)."
            " Check it with `verify_packet`, or with the verifier inside it and Python alone."
        )
        for absence in done.destroyed[:20]:
            self.stderr.write(self.style.ERROR(f"leaf {absence.leaf_index}: {absence.words()}"))
        if done.destroyed:
            raise CommandError(
                f"{len(done.destroyed):,} payloads were destroyed: the file says so, and its check does not hold"
            )
