"""`erase`: delete payloads of events for good, leaving their leaves and a tombstone that says who and why."""

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog.core.errors import AnswerableError
from auditlog.custody.erase import erase
from auditlog.custody.security import by_command
from auditlog.models import Leaf, Tenant


class Command(BaseCommand):
    help = "Erase the payloads of events. Refused under a legal hold. The leaves stay provable."

    def add_arguments(self, parser):
        parser.add_argument("events", nargs="+", metavar="EVENT_ID")
        parser.add_argument("--tenant", default="default")
        parser.add_argument("--who", required=True, help="who decided")
        parser.add_argument("--why", required=True, help="the reason; it stands in the log for ever")
        parser.add_argument("--policy", required=True, help="under which policy")

    def handle(self, *args, **options):
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"no tenant {options['tenant']!r}")
        try:
            found = dict(
                Leaf.objects.filter(tenant=tenant, event_id__in=options["events"]).values_list("event_id", "leaf_index")
            )
        except (ValueError, TypeError) as error:
            raise CommandError(f"not an event id: {error}") from None
        known = {str(event_id) for event_id in found}
        if missing := [event_id for event_id in options["events"] if event_id not in known]:
            raise CommandError(f"no event {missing[0]} in tenant {tenant.name!r}")
        try:
            erased = erase(
                tenant, list(found.values()), who=options["who"], why=options["why"], policy=options["policy"],
                now=timezone.now(),
            )  # fmt: skip
        except AnswerableError as error:
            raise CommandError(str(error)) from None
        by_command(tenant, f"erase: {erased.count} payloads, tombstone {erased.tombstone}", now=timezone.now())
        self.stdout.write(f"{erased.count} payloads erased; the tombstone is leaf {erased.tombstone}")
