"""`quickstart`: the whole service on this machine, with a demo story sent through its own front door."""

import errno
import io
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.utils import timezone

from config import children, embedded, env
from config.schema import schema_faults, waiting_migrations

USERS = ("admin", "security", "finance", "abuse", "auditor")
ABUSE_PROVIDER = "registrar"  # of the demo story
WEB_WORKERS = 2
READY_S = 60
SETTLE_S = 45
CALM_S = 300  # a child that lived for so long is taken to be well
LONGEST_WAIT_S = 30


class Command(BaseCommand):
    help = "Start everything (PostgreSQL, broker, web, worker, beat, publisher), play a demo story, and print what was found."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser):
        parser.add_argument("--port", type=int, default=None, help="where to listen on 127.0.0.1 (default 8000)")
        parser.add_argument("--state-dir", type=Path, help="where everything is kept (default: ANSWERABLE_STATE_DIR)")
        parser.add_argument(
            "--fresh", action="store_true", help="throw away what the state folder holds, and begin anew"
        )
        parser.add_argument("--no-demo", action="store_true", help="do not play the demo story")
        parser.add_argument("--check", action="store_true", help="play the story in a state of its own, compare, stop")

    def handle(self, *args, **options):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        with ExitStack() as undo:
            try:
                self.began = time.monotonic()
                state = self._state(options, undo)
                right = self._run(state, options, undo)
            except KeyboardInterrupt:
                self.stdout.write("\nstopping")
                right = True
            except embedded.EmbeddedError as error:
                raise CommandError(str(error)) from None
        if not right:
            sys.exit(1)

    def _state(self, options, undo: ExitStack) -> Path:
        if options["fresh"] and os.environ.get("DATABASE_URL"):
            raise CommandError(
                "--fresh is for the embedded database: DATABASE_URL is set, and nothing in it is thrown away"
            )
        if options["check"] and options["state_dir"] is None:
            folder = undo.enter_context(
                tempfile.TemporaryDirectory(prefix="answerable-check-", ignore_cleanup_errors=True)
            )
            return Path(folder)
        state = (options["state_dir"] or env.state_dir()).absolute()
        if options["fresh"] and state.exists():
            _throw_away(state)
        return state

    def _run(self, state: Path, options, undo: ExitStack) -> bool:
        port = _free_port(options["port"], any_will_do=options["check"])
        os.environ["ANSWERABLE_STATE_DIR"] = str(state)
        os.environ.setdefault("ANSWERABLE_ISSUER", f"http://127.0.0.1:{port}")  # where receivers of signals find it
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._step("starting PostgreSQL and the broker")
        services = undo.enter_context(
            embedded.start(
                state, database="DATABASE_URL" not in os.environ, broker="CELERY_BROKER_URL" not in os.environ
            )
        )
        _point_at(services, state)
        self._step("setting up the database")
        self._keep_before_update(state)
        call_command("setup_database", verbosity=0)
        if fault := schema_faults():
            raise CommandError(f"{state}: {fault} (`--fresh` throws away what the state folder holds)")
        tenant = _default_tenant()
        if options["check"] and _holds_events(tenant):
            raise CommandError("--check wants a state folder of its own, and this one holds events already")
        users, token = _people(tenant, state)
        undo.callback(connections.close_all)

        self._step("starting web, worker, beat and publisher")
        url = f"http://127.0.0.1:{port}"
        running = self._start_children(port, state, undo)
        _await_ready(url, running)
        self._await_people(tenant)
        _write_facts(state, {"url": url, "api_token": token, "tenant": tenant.name, "users": users})

        right = True
        if not options["no_demo"]:
            right = self._demo(url, tenant, check=options["check"])
        if options["check"]:
            return right
        self._greet(url, users, state)
        self._wait(services, running)
        return True

    def _await_people(self, tenant) -> None:
        """Until their roles bind: whoever reads the facts signs in at once."""
        from auditlog.sources.configuration import await_in_force

        if not await_in_force(tenant, "membership", "token", patience=READY_S):
            raise CommandError("the publisher signed no checkpoint over the people's roles: see its log")

    def _keep_before_update(self, state: Path) -> None:
        """A backup of what an older version wrote, before this one changes its tables."""
        waiting = waiting_migrations("owner")
        with connections["owner"].cursor() as cursor:
            cursor.execute("SELECT to_regclass('public.auditlog_tenant') IS NOT NULL")
            if not waiting or not cursor.fetchone()[0]:
                return
        folder = state / "backups"
        folder.mkdir(mode=0o700, exist_ok=True)
        out = folder / f"before-{waiting[-1]}-{timezone.now():%Y%m%d-%H%M%S}.backup"
        self._step(f"{len(waiting)} migrations are new: backing up to {out} first")
        call_command("backup", out=out, verbosity=0, stdout=io.StringIO())

    def _start_children(self, port: int, state: Path, undo: ExitStack) -> list[children.Child]:
        environment = os.environ | {"WEB_CONCURRENCY": str(WEB_WORKERS), "PYTHONUNBUFFERED": "1"}
        environment["ANSWERABLE_DEMO_USERS"] = ",".join(USERS)  # nobody asks them for a second factor
        logs = state / "log"
        logs.mkdir(mode=0o700, exist_ok=True)
        running: list[children.Child] = []
        undo.callback(children.stop, running)
        for name, command in children.commands(port, WEB_WORKERS).items():
            running.append(children.start(name, command, environment=environment, logs=logs))
        return running

    # --- the demo -----------------------------------------------------------------------------------------------

    def _demo(self, url: str, tenant, *, check: bool) -> bool:
        from auditlog.models import Finding
        from auditlog.simulator.demo import compare, configure_story, settled
        from auditlog.simulator.play import play
        from auditlog.simulator.story import demo_story
        from auditlog.sources.configuration import await_in_force

        if _holds_events(tenant):
            self._step("the demo story is in this state folder already")
            return True
        now = timezone.now()
        story = demo_story(seed=7, now=now, tenant=tenant.name)
        configure_story(tenant, story, now=now)
        if not await_in_force(tenant, "source", "key", "organisation", patience=READY_S):
            raise CommandError("the publisher signed no checkpoint over the sources: see its log")
        self._step(f"sending {len(story.deliveries):,} signed deliveries over HTTP")
        began = time.monotonic()
        played = play(story, url, progress=self._progress)
        took = time.monotonic() - began
        self._step(
            f"{played.accepted:,} taken, {played.repeated} repeats recognised, {sum(played.refused.values())} refused"
            f" in {took:.1f} s; waiting for the worker and the grace periods"
        )
        deadline = time.monotonic() + SETTLE_S
        while not settled(tenant) and time.monotonic() < deadline:
            time.sleep(0.2)
        findings = list(Finding.objects.filter(tenant=tenant).exclude(state="withdrawn").order_by("rule", "id"))
        self._report(findings)
        wrong = compare(story, findings, tenant) if settled(tenant) else ["the worker did not finish in time"]
        for line in wrong:
            self.stderr.write(self.style.ERROR(f"  {line}"))
        if check:
            self.stdout.write(
                f"check {'failed' if wrong else 'passed'}: {len(story.expected)} expectations,"
                f" {len(findings)} findings, {time.monotonic() - self.began:.1f} s"
            )
        return not wrong

    def _report(self, findings) -> None:
        counts: dict[str, int] = {}
        for finding in findings:
            counts[finding.rule] = counts.get(finding.rule, 0) + 1
        self.stdout.write(f"\n{len(findings)} findings")
        for rule, count in sorted(counts.items()):
            first = next(f for f in findings if f.rule == rule)
            self.stdout.write(f"  {count:3} {rule:36} {first.title[:100]}")
        self.stdout.write("")

    # --- talking ------------------------------------------------------------------------------------------------

    def _step(self, text: str) -> None:
        self.stdout.write(f"[{time.monotonic() - self.began:5.1f} s] {text}")
        self.stdout.flush()

    def _progress(self, sent: int, total: int) -> None:
        if not sys.stdout.isatty():
            return
        width = 40
        done = width * sent // total
        self.stdout.write(f"\r  [{'#' * done}{' ' * (width - done)}] {sent:,}/{total:,}", ending="")
        if sent == total:
            self.stdout.write("\r" + " " * 70 + "\r", ending="")
        self.stdout.flush()

    def _greet(self, url: str, users: dict, state: Path) -> None:
        self.stdout.write(self.style.SUCCESS(f"Answerable is at {url}"))
        for name, login in users.items():
            self.stdout.write(f"  {name:10} {login['username']:10} {login['password']}")
        self.stdout.write(
            "These demo users sign in without a second factor. Every other admin, and whoever decides, must add one;"
            f" passkeys know no IP addresses: for them open {url.replace('127.0.0.1', 'localhost')}"
        )
        self.stdout.write(f"The same, with an API token, is in {state / 'quickstart.json'}. Ctrl-C stops everything.")
        self.stdout.flush()

    def _again(self, child: children.Child, fallen: dict[str, list[float]]) -> children.Child:
        """Start a child that died again; one that dies again and again, later each time. What it last said is kept."""
        times = fallen.setdefault(child.name, [])
        times[:] = [at for at in times if time.monotonic() - at < CALM_S] + [time.monotonic()]
        wait = min(LONGEST_WAIT_S, 2 ** (len(times) - 1))
        self.stderr.write(
            self.style.ERROR(
                f"{child.name} ended with {child.process.returncode}, and starts again in {wait} s; its last lines:"
            )
        )
        self.stderr.write(child.last_lines())
        child.log.replace(child.log.with_suffix(".before.log"))
        time.sleep(wait)
        return children.start(child.name, child.command, environment=child.environment, logs=child.log.parent)

    def _wait(self, services: embedded.Services, running: list[children.Child]) -> None:
        fallen: dict[str, list[float]] = {}
        while True:
            time.sleep(0.5)
            services.check()
            for at, child in enumerate(running):
                if child.process.poll() is not None:
                    running[at] = self._again(child, fallen)


def _interrupt(*_):
    """Stop, once: whoever presses Ctrl-C again must not cut the stopping short."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _throw_away(state: Path) -> None:
    """Empty the state folder of what we made there, and of nothing else."""
    import shutil

    if embedded.find_running(state):
        raise CommandError(f"a quickstart is running on {state}: stop it first")
    ours = {"postgres", "postgres.new", "valkey", "run", "log", "secrets", "heads", "backups"}
    files = {
        "quickstart.json",
        "services.json",
        "passwords.json",
        "secret_key",
        "seal.key",
        "log.key",
        "embedded.lock",
        "servers.lock",
    }
    for entry in state.iterdir():
        if entry.name in ours and entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name in files:
            entry.unlink()


def _free_port(wanted: int | None, *, any_will_do: bool) -> int:
    """The port asked for, if nobody listens there. 0 is any, and so is no wish for a check."""
    port = wanted if wanted is not None else 0 if any_will_do else 8000
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            why = "taken" if getattr(error, "errno", 0) == errno.EADDRINUSE else f"not to be had ({error})"
            raise CommandError(f"port {port} is {why}: choose another with --port") from None
        return probe.getsockname()[1]


def _point_at(services: embedded.Services, state: Path) -> None:
    """Let this process and all children know where things are. Settings were read before the servers ran."""
    for variable, address in (
        ("DATABASE_URL", services.database_url),
        ("DATABASE_OWNER_URL", services.database_owner_url),
        ("CELERY_BROKER_URL", services.broker_url),
    ):
        if address:
            os.environ[variable] = address
    if not os.environ.get("DATABASE_OWNER_URL"):
        raise CommandError("DATABASE_URL is set, so DATABASE_OWNER_URL is needed too: the role that owns the tables")
    key = state / "secret_key"
    if not key.exists():
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
    settings.SECRET_KEY = env.secret_key()
    settings.STATE_DIR, settings.LOG_KEY_FILE, settings.HEADS_DIR = state, env.log_key_file(), env.heads_dir()
    settings.DATABASES["default"].update(env.database(os.environ["DATABASE_URL"]))
    settings.DATABASES["owner"].update(env.database(os.environ["DATABASE_OWNER_URL"]))
    settings.CELERY_BROKER_URL = os.environ["CELERY_BROKER_URL"]


def _default_tenant():
    from auditlog.models import Tenant
    from auditlog.sources.configure import add_tenant

    return Tenant.objects.filter(name="default").first() or add_tenant("default", now=timezone.now())


def _holds_events(tenant) -> bool:
    from auditlog.models import Leaf

    return Leaf.objects.filter(tenant=tenant, event_id__isnull=False).exists()


def _people(tenant, state: Path) -> tuple[dict, str]:
    """A login for each role, the same at every start, and a new API token that replaces the last one."""
    from auditlog.models import ApiToken, Membership
    from auditlog.reads.access import issue_token
    from auditlog.sources.configure import give_role

    try:
        known = json.loads((state / "quickstart.json").read_text())["users"]
    except (OSError, ValueError, KeyError):
        known = {}
    User = get_user_model()
    users = {}
    for role in USERS:
        password = known.get(role, {}).get("password") or secrets.token_urlsafe(12)
        user = User.objects.filter(username=role).first()
        if user is None or role not in known:
            user = user or User(username=role)
            user.is_staff = user.is_superuser = role == "admin"
            user.set_password(password)
            user.save()
        provider = ABUSE_PROVIDER if role == "abuse" else ""
        if not Membership.objects.filter(tenant=tenant, user=user).exists():
            give_role(Membership(tenant=tenant, user=user, role=role, provider=provider), now=timezone.now())
        users[role] = {"username": role, "password": password}
    ApiToken.objects.filter(tenant=tenant, name="quickstart").delete()
    token = issue_token(
        tenant,
        name="quickstart",
        role="admin",
        expires_at=timezone.now() + timedelta(days=365),
        owner=User.objects.get(username="admin"),
    )
    return users, token


def _write_facts(state: Path, facts: dict) -> None:
    path = state / "quickstart.json"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(facts, file, indent=2)


def _await_ready(url: str, running: list[children.Child]) -> None:
    deadline = time.monotonic() + READY_S
    missing = "nothing answers"
    while time.monotonic() < deadline:
        for child in running:
            if child.process.poll() is not None:
                raise CommandError(f"{child.name} did not start; the end of {child.log}:\n{child.last_lines()}")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except urllib.error.HTTPError as error:
            missing = error.read().decode(errors="replace")
        except OSError:
            pass
        time.sleep(0.1)
    raise CommandError(f"the service was not ready after {READY_S} s: {missing}")
