"""`publish`: sign the heads of all logs, until stopped."""

import os
import signal
import threading
import time

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.utils import timezone

from auditlog.custody.witness import watch
from auditlog.ledger.append import append_note
from auditlog.ledger.heads import forget_head
from auditlog.ledger.publish import lead
from auditlog.models import Tenant

log = structlog.get_logger()


class Command(BaseCommand):
    help = "Sign a checkpoint of every growing log, at least every second. Run one; more of them wait in line."

    def add_arguments(self, parser):
        parser.add_argument(
            "--accept-restore", metavar="TENANT",
            help="decide that this log goes on from an older copy: its signed head is set aside, and the log says so",
        )  # fmt: skip

    def handle(self, *args, **options):
        if options["accept_restore"]:
            return self._accept(options["accept_restore"])
        path = settings.LOG_KEY_FILE
        if not path.exists():
            # Exclusive and private from the first byte on.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(os.urandom(32))
            self.stdout.write(f"made a signing key for this log at {path}; keep a copy where the database is not")
        # Beside the signing, which no witness may delay.
        threading.Thread(target=_watch, daemon=True, name="witnesses").start()
        stopped = []
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: stopped.append(True))
        lead(lambda: Tenant.objects.order_by("id"), now=timezone.now, stop=lambda: bool(stopped))

    def _accept(self, name: str) -> None:
        tenant = Tenant.objects.filter(name=name).first()
        if tenant is None:
            raise CommandError(f"no tenant {name!r}")
        kept = forget_head(tenant.name)
        if kept is None:
            raise CommandError(f"log {name!r} has no independent head here: there is nothing to decide")
        append_note(tenant, "config", {"change": "restore.accepted", "set_aside": kept.read_text()}, now=timezone.now())
        self.stdout.write(f"the head of log {name!r} lies at {kept} now; the log goes on, and says what was decided")


def _watch() -> None:
    while True:
        try:
            watch(Tenant.objects.order_by("id"), now=timezone.now)
        except Exception as error:  # a database that is away for a moment; the next round sees
            log.warning("witnesses not asked", error=type(error).__name__)
            connections.close_all()
        time.sleep(1.0)
