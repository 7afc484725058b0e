"""`verify_ledger`: re-derive every log from its stored bytes; exit 1 and name the first bad leaf.

Window by window, each kept when it held: a run that was stopped is gone on with by `--resume`.
"""

import sys

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from nacl.signing import SigningKey

from auditlog.core.errors import LedgerCorrupt
from auditlog.core.log.checkpoint import public_key_of
from auditlog.custody.inspect_log import next_start, verify_window
from auditlog.custody.verify_ledger import insert_only_faults
from auditlog.ledger.publish import origin_of
from auditlog.models import Tenant


class Command(BaseCommand):
    help = "Re-derive the tree of every log from the stored bytes and check every checkpoint. Exits 1 at the first bad leaf."

    def add_arguments(self, parser):
        parser.add_argument("--tenant", help="only this tenant")
        parser.add_argument(
            "--vkey", action="append", default=[], help="the log's verifier key, from elsewhere than this machine"
        )
        parser.add_argument(
            "--resume", action="store_true", help="go on where the last run, of whatever kind, was stopped"
        )

    def handle(self, *args, **options):
        given = self._given(options["vkey"])
        try:
            own = None if given else SigningKey(settings.LOG_KEY_FILE.read_bytes()).verify_key
        except OSError:
            own = None
            self.stderr.write(
                "the log's key is not readable here: signatures of checkpoints are checked against the keys on record"
            )
        bad = [*insert_only_faults()]
        tenants = Tenant.objects.filter(name=options["tenant"]) if options["tenant"] else Tenant.objects.all()
        if options["tenant"] and not tenants.exists():
            raise CommandError(f"no tenant {options['tenant']!r}")
        if unknown := given.keys() - {origin_of(tenant) for tenant in tenants}:
            raise CommandError(f"a verifier key is of log {min(unknown)!r}, which is none of those to verify")
        for tenant in tenants.order_by("id"):
            public = given.get(origin_of(tenant), own)
            start = next_start(tenant) if options["resume"] else 0
            end, leaves, checkpoints, erased, unchecked = start, 0, 0, 0, 0
            try:
                while True:
                    result = verify_window(tenant, start=end, public_key=public, now=timezone.now)
                    end, leaves = result.end, leaves + result.leaves
                    checkpoints, erased = checkpoints + result.checkpoints, erased + result.erased
                    unchecked += result.unchecked
                    if end == result.size:
                        break
            except LedgerCorrupt as corrupt:
                bad.append(f"{tenant.name}: {corrupt}")
                continue
            after = f" after the first {start:,}" if start else ""
            self.stdout.write(
                f"{tenant.name}: {leaves:,} leaves{after} and {checkpoints:,} checkpoints hold"
                f" ({erased:,} payloads erased), root {result.root.hex()}"
            )
            if unchecked:
                self.stdout.write(
                    f"{tenant.name}: {unchecked:,} events of grade C cannot be checked any more: the shared secret of"
                    " their time is not here"
                )
        for line in bad:
            self.stderr.write(self.style.ERROR(line))
        if bad:
            sys.exit(1)

    def _given(self, vkeys: list[str]) -> dict[str, bytes]:
        """Public keys by the log that they are of."""
        try:
            return dict(public_key_of(vkey.strip()) for vkey in vkeys)
        except ValueError as error:
            raise CommandError(f"--vkey: {error}") from None
