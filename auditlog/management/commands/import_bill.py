"""`import_bill`: a provider's cost lines against the record."""

import json
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog.bills.import_bill import import_bill
from auditlog.core.amount import amount_text
from auditlog.core.bills.read import FORMATS
from auditlog.core.errors import AnswerableError
from auditlog.models import Tenant


class Command(BaseCommand):
    help = "Import a bill, each line once, and match it with the record: prints what matched, what nothing explains and what is missing."

    def add_arguments(self, parser):
        parser.add_argument("file", type=Path)
        parser.add_argument("--format", choices=FORMATS, required=True)
        parser.add_argument("--provider", default="", help="whose bill it is (default: as each line says)")
        parser.add_argument(
            "--mapping",
            type=Path,
            help='of csv: a JSON file such as {"at": "Date", "amount": "Cost", "currency": "=USD"}; it is kept',
        )
        parser.add_argument("--tenant", default="default")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args, **options):
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"there is no tenant {options['tenant']!r}")
        try:
            mapping = json.loads(options["mapping"].read_text()) if options["mapping"] else None
            if mapping is not None and not (
                isinstance(mapping, dict) and all(isinstance(v, str) for v in mapping.values())
            ):
                raise CommandError(f"{options['mapping']}: an object of field to column was expected")
            imported = import_bill(
                tenant, options["file"].read_bytes(), file_name=options["file"].name, format=options["format"],
                provider=options["provider"], mapping=mapping, now=timezone.now(),
            )  # fmt: skip
        except OSError as error:
            raise CommandError(f"cannot read {error.filename}: {error.strerror}") from None
        except ValueError as error:
            raise CommandError(f"{options['mapping']}: no JSON: {error}") from None
        except AnswerableError as error:
            raise CommandError(str(error)) from None
        bill = imported.bill
        if options["json"]:
            self.stdout.write(json.dumps(_told(imported)))
            return
        self.stdout.write(
            f"{bill.ref}: {bill.lines:,} lines, {bill.new_lines:,} of them new"
            + (
                f", {bill.changed_lines:,} known ones that say something else now were not taken"
                if bill.changed_lines
                else ""
            )
        )
        for outcome in imported.outcomes:
            self.stdout.write(f"{outcome.provider or 'no provider'}:")
            for currency, parts in sorted(outcome.totals.items()):
                for name in (
                    "billed",
                    "matched",
                    "differs",
                    "unexplained",
                    "missing",
                    "tax",
                    "credit",
                    "fee",
                    "rounding",
                    "transfer",
                ):
                    if name in parts:
                        count = outcome.missing if name == "missing" else outcome.lines.get(name, "")
                        self.stdout.write(f"  {name:12} {amount_text(round(parts[name]), currency):>20}  {count}")


def _told(imported) -> dict:
    bill = imported.bill
    return {
        "bill": bill.ref, "lines": bill.lines, "new": bill.new_lines, "changed": bill.changed_lines,
        "matched": sum(o.lines.get("matched", 0) + o.lines.get("differs", 0) for o in imported.outcomes),
        "unexplained": sum(o.lines.get("unexplained", 0) for o in imported.outcomes),
        "apart": sum(o.lines.get("apart", 0) for o in imported.outcomes),
        "missing": sum(o.missing for o in imported.outcomes),
        "totals": {o.provider: {c: {n: str(v) for n, v in parts.items()} for c, parts in o.totals.items()} for o in imported.outcomes},
    }  # fmt: skip
