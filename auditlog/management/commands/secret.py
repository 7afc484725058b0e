"""`secret set|list|remove|reseal`: shared secrets of sources and receivers, sealed. None is ever printed."""

import getpass
import sys

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog.core.errors import AnswerableError
from auditlog.custody.security import note
from auditlog.database.acting import acting
from auditlog.models import SealedSecret, Tenant
from auditlog.people import factors
from auditlog.sources import sealed


class Command(BaseCommand):
    help = "Seal, list, remove or seal anew the secrets that sources and exports name (--secret-env, --api-key-env)."

    def add_arguments(self, parser):
        commands = parser.add_subparsers(dest="command", required=True)
        put = commands.add_parser(
            "set", help="read a secret (from a pipe, else asked for) and seal it; the one before stays as NAME_OLD"
        )
        listing = commands.add_parser("list", help="names, when they were set, and with which key; never what they are")
        remove = commands.add_parser("remove", help="forget a secret")
        commands.add_parser("reseal", help="seal all anew with the first key")
        for parser in (put, remove):
            parser.add_argument("name")
        for parser in (put, listing, remove):
            parser.add_argument("--tenant", default="default")

    def handle(self, *args, **options):
        try:
            getattr(self, options["command"])(options)
        except AnswerableError as error:
            raise CommandError(str(error)) from None

    def set(self, options):
        tenant = self._tenant(options)
        given = (
            getpass.getpass("Secret: ").encode() if sys.stdin.isatty() else sys.stdin.buffer.read(sealed.LONGEST + 3)
        )
        sealed.seal(tenant, options["name"], given, now=timezone.now())
        self._note(tenant, f"set {options['name']}")
        self.stdout.write(f"{options['name']} is sealed")

    def list(self, options):
        for row in SealedSecret.objects.filter(tenant=self._tenant(options)).order_by("name"):
            self.stdout.write(f"{row.name}\t{row.changed_at:%Y-%m-%d %H:%M} UTC\tkey {row.key_id}")

    def remove(self, options):
        tenant = self._tenant(options)
        sealed.remove(tenant, options["name"])
        self._note(tenant, f"removed {options['name']}")

    def reseal(self, options):
        count = sealed.reseal() + factors.reseal()
        self._note(None, f"sealed {count} anew")
        self.stdout.write(f"{count} secrets sealed anew")

    def _note(self, tenant: Tenant | None, what: str) -> None:
        note(tenant, "secret.changed", who=acting(), what=f"secret: {what}", now=timezone.now())

    def _tenant(self, options) -> Tenant:
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"there is no tenant {options['tenant']!r}")
        return tenant
