"""`verify_ledger`: re-derive every log from its stored bytes; exit 1 and name the first bad leaf."""

import sys

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from nacl.signing import SigningKey

from auditlog.core.errors import LedgerCorrupt
from auditlog.models import Tenant
from auditlog.verify_ledger import insert_only_faults, verify


class Command(BaseCommand):
    help = "Re-derive the tree of every log from the stored bytes and check every checkpoint. Exits 1 at the first bad leaf."

    def add_arguments(self, parser):
        parser.add_argument("--tenant", help="only this tenant")

    def handle(self, *args, **options):
        try:
            public = SigningKey(settings.LOG_KEY_FILE.read_bytes()).verify_key
        except OSError:
            public = None
            self.stderr.write("the log's key is not readable here: signatures of checkpoints are not checked")
        bad = [*insert_only_faults()]
        tenants = Tenant.objects.filter(name=options["tenant"]) if options["tenant"] else Tenant.objects.all()
        if options["tenant"] and not tenants.exists():
            raise CommandError(f"no tenant {options['tenant']!r}")
        for tenant in tenants.order_by("id"):
            try:
                result = verify(tenant, public_key=public)
            except LedgerCorrupt as corrupt:
                bad.append(f"{tenant.name}: {corrupt}")
                continue
            self.stdout.write(
                f"{tenant.name}: {result.leaves:,} leaves and {result.checkpoints:,} checkpoints hold"
                f" ({result.erased:,} payloads erased), root {result.root.hex()}"
            )
        for line in bad:
            self.stderr.write(self.style.ERROR(line))
        if bad:
            sys.exit(1)
