"""`rebuild`: projections from zero, by the same code, swapped in at the end."""

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog.models import Tenant
from auditlog.projection.project import rebuild
from auditlog.work.drive import drive_tenant


class Command(BaseCommand):
    help = (
        "Project every leaf anew into a new generation and swap it in. Reads go on meanwhile; findings and triage stay."
    )

    def add_arguments(self, parser):
        parser.add_argument("--tenant", help="only this tenant")

    def handle(self, *args, **options):
        tenants = Tenant.objects.filter(name=options["tenant"]) if options["tenant"] else Tenant.objects.all()
        if options["tenant"] and not tenants.exists():
            raise CommandError(f"no tenant {options['tenant']!r}")
        for tenant in tenants.order_by("id"):
            count = rebuild(tenant, now=timezone.now())
            drive_tenant(tenant.name, now=timezone.now)
            self.stdout.write(f"{tenant.name}: {count:,} leaves projected anew")
