"""`hold add|release|list`: legal holds. Nothing under one is erased, whoever asks."""

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog.core.errors import AnswerableError
from auditlog.custody.erase import held_now, hold, release
from auditlog.custody.security import by_command
from auditlog.models import Tenant


class Command(BaseCommand):
    help = "Put a range of leaves under a legal hold, release one, or list those in force."

    def add_arguments(self, parser):
        commands = parser.add_subparsers(dest="command", required=True)
        add = commands.add_parser("add", help="hold leaves FIRST to LAST")
        add.add_argument("first", type=int)
        add.add_argument("last", type=int)
        add.add_argument("--case", default="", help="the case it is for")
        end = commands.add_parser("release", help="end a hold, named by its leaf")
        end.add_argument("leaf", type=int)
        for parser_ in (add, end):
            parser_.add_argument("--who", required=True)
            parser_.add_argument("--reason", required=True)
        listing = commands.add_parser("list", help="the holds in force")
        for parser_ in (add, end, listing):
            parser_.add_argument("--tenant", default="default")

    def handle(self, *args, **options):
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"no tenant {options['tenant']!r}")
        said = {"who": options.get("who"), "reason": options.get("reason"), "now": timezone.now()}
        try:
            match options["command"]:
                case "add":
                    leaf = hold(tenant, first=options["first"], last=options["last"], case=options["case"], **said)
                    self.stdout.write(
                        f"leaves {options['first']} to {options['last']} are held; the hold is leaf {leaf}"
                    )
                case "release":
                    leaf = release(tenant, options["leaf"], **said)
                    self.stdout.write(f"the hold of leaf {options['leaf']} is over; the release is leaf {leaf}")
                case "list":
                    for row in held_now(tenant):
                        self.stdout.write(
                            f"{row.leaf_index}\t{row.first_leaf}-{row.last_leaf}\t{row.case}\t{row.reason}"
                        )
        except AnswerableError as error:
            raise CommandError(str(error)) from None
        if options["command"] != "list":
            by_command(tenant, f"hold {options['command']}, said by {options['who']}", now=timezone.now())
