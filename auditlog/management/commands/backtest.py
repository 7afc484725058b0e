"""`backtest`: what a rule would have raised under a policy."""

import json

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog.core.errors import AnswerableError
from auditlog.database.policies import policy_of
from auditlog.detection.tune import try_policy
from auditlog.management.commands.policy import read_json
from auditlog.models import Tenant


class Command(BaseCommand):
    help = "Judge the last days anew under a policy, keep nothing, and print what would be raised, and what no more."

    def add_arguments(self, parser):
        parser.add_argument("rule")
        parser.add_argument(
            "--policy", default="", help="a JSON file; `-` reads standard input; none: as the rule is set now"
        )
        parser.add_argument("--days", type=int, default=30)
        parser.add_argument("--tenant", default="default")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args, **options):
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"there is no tenant {options['tenant']!r}")
        try:
            said = read_json(options["policy"]) if options["policy"] else policy_of(tenant, options["rule"]).as_json()
            found = try_policy(
                tenant, options["rule"], said, days=options["days"], now=timezone.now(), progress=self._say
            )
        except AnswerableError as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            self.stdout.write(json.dumps(found))
            return
        self.stdout.write(
            f"{options['rule']}, {options['days']} days: {found['raised']} raised"
            f" ({found['raised_now']} as it is set now): "
            f"{found['added_total']} more, {found['gone_total']} no more, {found['changed_total']} of another severity"
        )
        for sign, name in (("+", "added"), ("-", "gone"), ("~", "changed")):
            for each in found[name]:
                self.stdout.write(f"{sign} {each['last_at'][:16]}  {each['severity']:8}  {each['title']}")
        if found["left_out"]:
            self.stdout.write(f"{found['left_out']} keys were too large to be judged at once, and are left out")
        for line in found["failing"]:
            self.stdout.write(f"own test fails: {line}")

    def _say(self, done: int, total: int) -> None:
        self.stderr.write(f"{done:,} of {total:,} acts", ending="\r")
