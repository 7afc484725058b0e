"""`publish`: sign the heads of all logs, until stopped."""

import os
import signal

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from auditlog.models import Tenant
from auditlog.publish import lead


class Command(BaseCommand):
    help = "Sign a checkpoint of every growing log, at least every second. Run one; more of them wait in line."

    def handle(self, *args, **options):
        path = settings.LOG_KEY_FILE
        if not path.exists():
            # Exclusive and private from the first byte on.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(os.urandom(32))
            self.stdout.write(f"made a signing key for this log at {path}; keep a copy where the database is not")
        stopped = []
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: stopped.append(True))
        lead(lambda: Tenant.objects.order_by("id"), now=timezone.now, stop=lambda: bool(stopped))
