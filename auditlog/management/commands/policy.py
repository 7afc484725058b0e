"""`policy`: how a rule is set for a tenant."""

import json
import sys
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog.core.errors import AnswerableError
from auditlog.database.policies import every_policy, policy_of, settings_of
from auditlog.detection.tune import set_policy
from auditlog.models import Tenant


class Command(BaseCommand):
    help = "Show how rules are set, or set one from JSON. What is set is applied to the whole record."

    def add_arguments(self, parser):
        parser.add_argument("action", choices=["show", "set"])
        parser.add_argument("rule", nargs="?", default="", help="of `show`: none for all")
        parser.add_argument(
            "file", nargs="?", default="-", help="of `set`: a JSON file; `-` (default) reads standard input"
        )
        parser.add_argument("--reason", default="set by command", help="why; it is kept")
        parser.add_argument("--tenant", default="default")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args, **options):
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"there is no tenant {options['tenant']!r}")
        try:
            if options["action"] == "set":
                said = read_json(options["file"])
                made = set_policy(
                    tenant,
                    options["rule"],
                    said,
                    reason=options["reason"],
                    who="a command",
                    person="",
                    now=timezone.now(),
                )
                self.stdout.write(f"{made.rule}: version {made.version}, stated by leaf {made.leaf_index}")
                return
            found = [policy_of(tenant, options["rule"])] if options["rule"] else every_policy(tenant)
        except AnswerableError as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            self.stdout.write(
                json.dumps([{"rule": p.rule, "version": p.version, "policy": p.as_json()} for p in found])
            )
            return
        for policy in found:
            self.stdout.write(f"{policy.rule}  version {policy.version or '0 (as it comes)'}")
            for setting in settings_of(policy.rule):
                value = policy.settings.get(setting.name, setting.default)
                self.stdout.write(f"  {setting.name} = {value:g} {setting.unit}: {setting.words}")
            if options["rule"]:
                self.stdout.write(json.dumps(policy.as_json(), indent=2))


def read_json(file: str):
    """Raises CommandError."""
    try:
        return json.loads(sys.stdin.read() if file == "-" else Path(file).read_text())
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise CommandError(f"{file}: no JSON: {error}") from None
