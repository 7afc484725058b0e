"""`source add|heartbeat|list|suspend|resume`: senders. What is added here is accepted as soon as the command returns."""

import json
import os
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog import formats
from auditlog.core.errors import AnswerableError
from auditlog.core.event import LAYERS
from auditlog.custody.security import by_command
from auditlog.models import Checkpoint, Source, Tenant
from auditlog.sources.configuration import await_in_force
from auditlog.sources.configure import add_source, promise_heartbeat, set_source_state
from auditlog.sources.fetch_keys import EVERY, add_source_by_url
from auditlog.sources.source_secrets import keep_source_secret, source_secret


class Command(BaseCommand):
    help = "Add, list, suspend or resume a source."

    def add_arguments(self, parser):
        commands = parser.add_subparsers(dest="command", required=True)
        add = commands.add_parser("add", help="add a source")
        add.add_argument("name")
        add.add_argument("--format", required=True, choices=formats.NAMES)
        add.add_argument("--issuer", required=True, help="the `iss` of its events")
        add.add_argument("--jwks", type=Path, metavar="FILE", help="its public keys, as a JWKS (RFC 7517)")
        add.add_argument("--jwks-url", metavar="URL", help="where its JWKS is read from, now and again and again")
        add.add_argument("--audience", default="", metavar="AUD", help="the `aud` of its tokens (caep)")
        add.add_argument("--poll-url", default="", metavar="URL", help="where its events are asked for")
        add.add_argument("--poll-every", type=int, default=60, metavar="SECONDS", help="how often (default: 60)")
        add.add_argument("--api-key-env", default="", metavar="VAR", help="variable that holds our key for its API")
        add.add_argument(
            "--api-url", default="", metavar="URL", help="its API, where the format's own address is not it"
        )
        add.add_argument("--allow-private", action="store_true", help="these addresses may be private or loopback ones")
        add.add_argument("--secret-env", default="", metavar="VAR", help="variable that holds its shared secret")
        add.add_argument("--provider", default="", help="the provider whose own word it is")
        add.add_argument("--layer", action="append", choices=LAYERS, help="a layer it may speak for (default: all)")
        add.add_argument(
            "--speaks-for", action="append", metavar="ISS", help="an issuer it may speak for (default: all)"
        )
        add.add_argument(
            "--heartbeat",
            type=int,
            metavar="SECONDS",
            help="it promises to be heard at least this often (default: no promise)",
        )
        heartbeat = commands.add_parser("heartbeat", help="change how often a source promises to be heard")
        heartbeat.add_argument("name")
        heartbeat.add_argument("seconds", type=int, help="0: it promises nothing any more")
        listing = commands.add_parser("list", help="list the sources")
        suspend = commands.add_parser("suspend", help="refuse a source's events until it is resumed")
        suspend.add_argument("name")
        resume = commands.add_parser("resume", help="take a suspended source's events again")
        resume.add_argument("name")
        for parser in (add, heartbeat, listing, suspend, resume):
            parser.add_argument("--tenant", default="default")

    def handle(self, *args, **options):
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"no tenant {options['tenant']!r}; add it with `tenant add`")
        try:
            getattr(self, options["command"])(tenant, options)
            if options["command"] != "list":
                by_command(tenant, f"source {options['command']} {options['name']}", now=timezone.now())
        except AnswerableError as error:
            raise CommandError(str(error)) from None

    def add(self, tenant: Tenant, options) -> None:
        variable = options["secret_env"]
        if options["jwks"] and options["jwks_url"]:
            raise CommandError("give --jwks or --jwks-url, not both")
        how = dict(
            format=options["format"], issuer=options["issuer"], secret_env=variable, provider=options["provider"],
            layers=options["layer"], speaks_for=options["speaks_for"], heartbeat_seconds=options["heartbeat"],
            audience=options["audience"], poll_url=options["poll_url"], poll_seconds=options["poll_every"], api_key_env=options["api_key_env"],
            api_url=options["api_url"], allow_private=options["allow_private"], now=timezone.now(),
        )  # fmt: skip
        if options["jwks_url"]:
            source = add_source_by_url(tenant, options["name"], jwks_url=options["jwks_url"], **how)
        else:
            source = add_source(tenant, options["name"], jwks=_jwks(options["jwks"]), **how)
        for name in filter(None, (variable, source.api_key_env)):
            if secret := os.environ.get(name):
                # Beside a quickstart the service was started without this variable: it finds the secret in this file.
                keep_source_secret(name, secret.encode())
        address = source.name if tenant.name == "default" else f"{tenant.name}/{source.name}"
        self.stdout.write(f"source {source.name} added; it sends to POST /ingest/{address}")
        if source.jwks_url:
            self.stdout.write(
                f"{source.keys.count()} keys read; they are read again every {EVERY.seconds // 60} minutes"
            )
        if source.poll_url:
            self.stdout.write(f"it is asked every {source.poll_seconds} s")
        if source.api_key_env and source_secret(source.api_key_env, tenant) is None:
            self.stderr.write(f"{source.api_key_env} is not set here: nothing is asked for until the service has it")
        if variable and source_secret(variable, tenant) is None:
            self.stderr.write(
                f"{variable} is not set here: events are refused until the service has it in its environment"
            )
        self._await(source)
        if not source.layers:
            self.stderr.write("it may speak for every layer: name those it is the authority on with --layer")
        if not source.speaks_for:
            self.stderr.write("it may speak for every issuer: name its own with --speaks-for")

    def heartbeat(self, tenant: Tenant, options) -> None:
        seconds = options["seconds"] or None
        promise_heartbeat(_source(tenant, options["name"]), seconds, now=timezone.now())
        self._await(_source(tenant, options["name"]))
        promise = f"promises to be heard every {seconds} s" if seconds else "promises nothing any more"
        self.stdout.write(f"source {options['name']} {promise}")

    def list(self, tenant: Tenant, options) -> None:
        for source in Source.objects.filter(tenant=tenant).order_by("name"):
            keys = ", ".join(source.keys.filter(retired_at=None).values_list("kid", flat=True)) or "no keys"
            layers = ", ".join(source.layers) or "all layers"
            self.stdout.write(f"{source.name}\t{source.format}\t{source.state}\t{source.issuer}\t{layers}\t{keys}")

    def suspend(self, tenant: Tenant, options) -> None:
        set_source_state(_source(tenant, options["name"]), Source.State.SUSPENDED, now=timezone.now())
        self.stdout.write(f"source {options['name']} is suspended: its events are refused with 403")

    def resume(self, tenant: Tenant, options) -> None:
        set_source_state(_source(tenant, options["name"]), Source.State.ACTIVE, now=timezone.now())
        self._await(_source(tenant, options["name"]))
        self.stdout.write(f"source {options['name']} is active")

    def _await(self, source: Source) -> None:
        """Until the service goes by what was configured: the next checkpoint, where anybody signs one."""
        patience = PATIENCE if Checkpoint.objects.exists() else 0
        if not await_in_force(source.tenant, "source", "key", patience=patience):
            self.stderr.write(
                "this is in force once a published checkpoint covers it, and no publisher signs one: run `publish`"
            )


PATIENCE = 10.0  # seconds; a publisher signs every second


def _source(tenant: Tenant, name: str) -> Source:
    source = Source.objects.filter(tenant=tenant, name=name).first()
    if source is None:
        raise CommandError(f"no source {name!r} in tenant {tenant.name!r}")
    return source


def _jwks(path: Path | None) -> dict | None:
    if path is None:
        return None
    try:
        return _checked_jwks(path.read_bytes(), str(path))
    except OSError as error:
        raise CommandError(f"{path} is not a JWKS: {error}") from None


def _checked_jwks(text: bytes, where: str) -> dict:
    try:
        jwks = json.loads(text)
    except ValueError as error:
        raise CommandError(f"{where} is not a JWKS: {error}") from None
    if isinstance(jwks, dict) and "keys" not in jwks and "kty" in jwks:
        jwks = {"keys": [jwks]}
    if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
        raise CommandError(f'{where} is not a JWKS: expected {{"keys": [...]}}')
    return jwks
