"""`alert add|list|test|on|off|remove`: channels that are told of incidents. A secret is read from a pipe, never from
arguments.
"""

import getpass
import sys
from datetime import time

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog.alerts import channels
from auditlog.alerts.send import send_test
from auditlog.core.errors import AnswerableError
from auditlog.core.incident import DESKS
from auditlog.models import AlertChannel, Finding, Tenant
from auditlog.sources.sealed import LONGEST


class Command(BaseCommand):
    help = "Add, list, test, switch and remove channels that are told of incidents (Slack, PagerDuty, webhooks, mail)."

    def add_arguments(self, parser):
        commands = parser.add_subparsers(dest="command", required=True)
        add = commands.add_parser(
            "add", help="a channel; its secret is read from a pipe, else asked for, unless --secret-env names one"
        )
        add.add_argument("--kind", required=True, choices=AlertChannel.Kind.values)
        add.add_argument("--address", default="", help="mail addresses, or the https address of a webhook")
        add.add_argument("--secret-env", default="", help="the secret is set already, under this name")
        add.add_argument("--severity", default="high", choices=Finding.Severity.values)
        add.add_argument("--desk", dest="desks", action="append", default=[], choices=DESKS)
        add.add_argument("--least-minor", type=int)
        add.add_argument("--currency", default="")
        add.add_argument("--with-texts", action="store_true", help="what senders and agents wrote goes out too")
        add.add_argument("--quiet", nargs=3, metavar=("ZONE", "FROM", "TO"), help="such as Europe/Berlin 22:00 07:00")
        add.add_argument(
            "--quiet-day", dest="quiet_days", type=int, action="append", default=[], help="0: Monday; several"
        )
        add.add_argument("--hold-critical", action="store_true", help="in quiet hours what is critical waits too")
        add.add_argument("--escalate", nargs=2, metavar=("MINUTES", "CHANNEL"))
        add.add_argument("--allow-private", action="store_true")
        listing = commands.add_parser("list")
        others = [commands.add_parser(name) for name in ("test", "on", "off", "remove")]
        for one in (add, *others):
            one.add_argument("name")
        for one in (add, listing, *others):
            one.add_argument("--tenant", default="default")

    def handle(self, *args, **options):
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"there is no tenant {options['tenant']!r}")
        try:
            if options["command"] in ("add", "list"):
                getattr(self, options["command"])(tenant, options)
            else:
                self._do(channels.channel_of(tenant, options["name"]), options["command"])
        except AnswerableError as error:
            raise CommandError(str(error)) from None

    def add(self, tenant, options):
        said = {
            name: options[name]
            for name in (
                "kind",
                "address",
                "secret_env",
                "severity",
                "desks",
                "least_minor",
                "currency",
                "with_texts",
                "quiet_days",
                "allow_private",
            )
        }
        if options["quiet"]:
            try:
                said |= {
                    "quiet_zone": options["quiet"][0],
                    "quiet_from": time.fromisoformat(options["quiet"][1]),
                    "quiet_to": time.fromisoformat(options["quiet"][2]),
                }
            except ValueError:
                raise CommandError(
                    "--quiet: expected a zone and two times, such as Europe/Berlin 22:00 07:00"
                ) from None
        if options["escalate"]:
            if not options["escalate"][0].isdigit():
                raise CommandError("--escalate: expected minutes and a channel")
            said |= {
                "escalate_minutes": int(options["escalate"][0]),
                "escalate_to": channels.channel_of(tenant, options["escalate"][1]),
            }
        secret = "" if options["secret_env"] or options["kind"] == AlertChannel.Kind.MAIL else _secret()
        made = channels.add(
            tenant,
            options["name"],
            secret=secret,
            critical_passes=not options["hold_critical"],
            now=timezone.now(),
            **said,
        )
        self.stdout.write(f"{made.name} is told from now on")

    def list(self, tenant, options):
        counts = channels.counts_of(tenant)
        for row in channels.channels_of(tenant):
            told = ", ".join(f"{count} {state}" for state, count in counts.get(row.pk, {}).items()) or "no alerts"
            self.stdout.write(f"{row.name}\t{row.kind}\t{row.state}\t{row.severity} or worse\t{told}")

    def _do(self, channel, what):
        if what == "test":
            alert = send_test(channel, now=timezone.now)
            if alert.state != alert.State.SENT:
                raise CommandError(f"{channel.name} did not take the test: {alert.answer}")
            self.stdout.write(f"{channel.name} took the test: {alert.answer}")
        elif what == "remove":
            channels.remove(channel, now=timezone.now())
        else:
            channels.change(channel, state=what, now=timezone.now())


def _secret() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("Secret: ")
    return sys.stdin.buffer.read(LONGEST + 3).decode("utf-8", "replace").strip()
