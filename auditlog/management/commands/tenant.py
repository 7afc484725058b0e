"""`tenant add NAME`: a tenant with a log of its own."""

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog.core.errors import AnswerableError
from auditlog.custody.security import by_command
from auditlog.models import SecurityLog, Tenant
from auditlog.sources.configure import add_tenant


class Command(BaseCommand):
    help = "Add a tenant, or list them."

    def add_arguments(self, parser):
        commands = parser.add_subparsers(dest="command", required=True)
        add = commands.add_parser("add", help="add a tenant")
        add.add_argument("name")
        add.add_argument("--title", default="")
        commands.add_parser("list", help="list the tenants")

    def handle(self, *args, **options):
        if options["command"] == "list":
            # The security logs are of the tenants, and none themselves.
            for tenant in Tenant.objects.exclude(pk__in=SecurityLog.objects.values("log")).order_by("name"):
                self.stdout.write(tenant.name)
            return
        try:
            tenant = add_tenant(options["name"], title=options["title"], now=timezone.now())
        except AnswerableError as error:
            raise CommandError(str(error)) from None
        by_command(tenant, f"tenant add {tenant.name}", now=timezone.now())
        self.stdout.write(f"tenant {tenant.name} added; its events carry aud urn:answerable:{tenant.name}")
