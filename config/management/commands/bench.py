"""`bench`: measure the road on this machine, each figure beside the bound that the same run measured."""

import http.client
import json
import multiprocessing
import os
import resource
import signal
import statistics
import tempfile
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, connections
from django.utils import timezone

from auditlog.simulator import busy
from auditlog.simulator.spend_figures import spend_figures
from config import children, embedded
from config.management.commands import quickstart


class Command(BaseCommand):
    help = "Load a scratch system (its own PostgreSQL and web workers) and print rates, percentiles, and ratios to the bound."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser):
        parser.add_argument(
            "what",
            choices=[
                "ingest",
                "browse",
                "live",
                "project",
                "detect",
                "verify",
                "proof",
                "recover",
                "query",
                "complete",
                "spend",
            ],
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        parser.add_argument("--events", type=int, default=60_000)
        parser.add_argument("--descendants", type=int, default=10_000, help="of `complete`: what waits for its parent")
        parser.add_argument("--batch", type=int, default=500, help="events a request; 1 sends single SETs")
        parser.add_argument("--connections", type=int, default=4)
        parser.add_argument(
            "--seconds",
            type=int,
            help="how long events arrive: of `browse` in all (300), of `live` at each rate that is tried (20)",
        )
        parser.add_argument(
            "--rate", type=int, default=500, help="events a second: of `browse`, and the first that `live` tries"
        )
        parser.add_argument("--step", type=int, default=5_000, help="of `detect`: events between two measurements")
        parser.add_argument(
            "--hot", action="store_true", help="of `detect`: all of one principal, agent, token and key"
        )
        parser.add_argument(
            "--order", choices=busy.ORDERS, default="late", help="of `detect`: in time, or the last first"
        )

        for name, of in {
            "pairs": "disputed names beside their marks",
            "names": "new registrations",
            "clusters": "real bulk registrations",
            "brands": "a brand a line",
        }.items():
            parser.add_argument(
                f"--{name}", type=Path, metavar="FILE", help=f"of `detect`: measure the rules about names on {of}"
            )
        parser.add_argument(
            "--data", type=Path, help="of `spend`: a folder with agent_toolcalls.csv and monitoring_series.csv"
        )
        parser.add_argument(
            "--months",
            type=int,
            help="months that are made up: of `spend` ordinary ones (200), of `detect --clusters` benign ones (4,000)",
        )
        parser.add_argument("--seed", type=int, default=1, help="of `spend`")

    def handle(self, *args, **options):
        if options["what"] == "detect" and any(options[name] for name in ("pairs", "clusters", "brands")):
            self._measure_names(options)
            return
        if options["what"] == "spend":  # pure: no system to load
            self._show(spend_figures(options["data"], months=options["months"] or 200, seed=options["seed"]), options)
            return
        with ExitStack() as undo:
            state = Path(
                undo.enter_context(tempfile.TemporaryDirectory(prefix="answerable-bench-", ignore_cleanup_errors=True))
            )
            try:
                self.services = undo.enter_context(embedded.start(state))
                tenant = _scratch(self.services, state, undo)
                figures = getattr(self, options["what"])(tenant, state, undo, options)
            except embedded.EmbeddedError as error:
                raise CommandError(str(error)) from None
        self._show(figures, options)

    def _show(self, figures: dict, options) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(figures))
        else:
            for name, value in figures.items():
                self.stdout.write(f"{name:32} {value:,}" if isinstance(value, int | float) else f"{name:32} {value}")

    def _measure_names(self, options) -> None:
        """On files, with no system: `bench detect --pairs F --names F --clusters F --brands F`."""
        from auditlog.simulator.measure_names import measure

        if options["names"] is None:
            raise CommandError("new registrations are needed beside the others: --names FILE with a column `domain`")
        try:
            found = measure(
                pairs=options["pairs"],
                names=options["names"],
                registrations=options["clusters"],
                brands=options["brands"],
                months=options["months"] or 4_000,
            )
        except (OSError, UnicodeDecodeError, KeyError, ValueError) as error:
            raise CommandError(f"the files cannot be measured: {type(error).__name__} {error}") from None
        if options["json"]:
            self.stdout.write(json.dumps(found))
            return
        for part, figures in found.items():
            for name, value in figures.items():
                self.stdout.write(f"{part + '.' + name:46} {value}")

    # --- ingest -------------------------------------------------------------------------------------------------

    def ingest(self, tenant, state: Path, undo: ExitStack, options) -> dict:
        from auditlog.simulator.load import load_source, signed_batches, signed_sets
        from auditlog.simulator.send import Unexpected, send_all

        _source(tenant)
        single = options["batch"] == 1
        if single:
            bodies = [compact for _, compact in signed_sets(options["events"], tenant=tenant.name, now=timezone.now())]
        else:
            bodies = list(signed_batches(options["events"], options["batch"], tenant=tenant.name, now=timezone.now()))
        verify_only = _verify_only(tenant, [c for _, c in signed_sets(20_000, tenant=tenant.name, now=timezone.now())])
        port = quickstart._free_port(None, any_will_do=True)
        environment = os.environ | {"WEB_CONCURRENCY": str(quickstart.WEB_WORKERS)}
        commands = children.commands(port, quickstart.WEB_WORKERS)
        running = [
            children.start(name, commands[name], environment=environment, logs=state) for name in ("publish", "web")
        ]
        undo.callback(children.stop, running)
        _await_web(port, running)
        _await_keys(tenant)
        size = _events(tenant)
        content_type = "application/secevent+jwt" if single else "application/json"
        warm = max(1, len(bodies) // 10)
        send = partial(
            send_all,
            port,
            f"/ingest/{load_source().name}",
            content_type=content_type,
            connections=options["connections"],
        )
        try:
            send(bodies[:warm])
            with _Watch(tenant) as watch:
                sent = send(bodies[warm:])
        except Unexpected as error:
            raise CommandError(str(error)) from error
        taken = (len(bodies) - warm) * options["batch"]
        grown = _events(tenant) - size
        if grown != len(bodies) * options["batch"]:
            raise CommandError(f"{len(bodies) * options['batch']} events were acknowledged, the log grew by {grown}")
        rate = taken / sent.seconds
        return {
            "events_per_s": round(rate),
            "requests_per_s": round(rate / options["batch"]),
            "p50_ms": round(_percentile(sent.latencies, 50) * 1000, 1),
            "p95_ms": round(_percentile(sent.latencies, 95) * 1000, 1),
            "p99_ms": round(_percentile(sent.latencies, 99) * 1000, 1),
            "publish_delay_p99_s": round(watch.delay(99), 2),
            "verify_only_events_per_s": round(verify_only),
            "ratio_to_verify_only": round(rate / verify_only, 2),
            "events": taken,
            "batch": options["batch"],
            "connections": options["connections"],
            "bytes_per_event_stored": round(_stored_bytes() / grown),
        }

    # --- browse -------------------------------------------------------------------------------------------------

    def browse(self, tenant, state: Path, undo: ExitStack, options) -> dict:
        """Events at a steady rate, all that a quickstart runs, and five people reading pages, one of each role."""
        from concurrent.futures import ThreadPoolExecutor

        from auditlog.simulator.browse import browse, paced
        from auditlog.simulator.load import load_source, signed_batches, signed_chains
        from auditlog.simulator.send import Unexpected, send_all
        from auditlog.sources.configuration import await_in_force

        _source(tenant)
        seconds, rate, batch = options["seconds"] or 300, options["rate"], max(1, options["rate"] // 10)
        now = timezone.now()
        bodies = [
            *signed_chains(tenant=tenant.name, now=now),
            *signed_batches(seconds * rate, batch, tenant=tenant.name, now=now),
        ]
        cookies = _readers(tenant)
        port = quickstart._free_port(None, any_will_do=True)
        environment = os.environ | {
            "WEB_CONCURRENCY": str(quickstart.WEB_WORKERS), "ANSWERABLE_DEMO_USERS": ",".join(quickstart.USERS)
        }  # fmt: skip
        running = []
        undo.callback(children.stop, running)
        for name, command in children.commands(port, quickstart.WEB_WORKERS).items():
            running.append(children.start(name, command, environment=environment, logs=state))
        _await_web(port, running)
        if not await_in_force(tenant, "source", "key", "membership", patience=30):
            raise CommandError("the publisher signed no checkpoint over the source and the people's roles")
        until = time.monotonic() + seconds
        with ThreadPoolExecutor(len(cookies)) as pool:
            reading = [
                pool.submit(browse, port, cookie, until=until, seed=n) for n, cookie in enumerate(cookies.values())
            ]
            try:
                sent = send_all(
                    port, f"/ingest/{load_source().name}", paced(bodies, every=batch / rate),
                    content_type="application/json", connections=1,
                )  # fmt: skip
            except Unexpected as error:
                raise CommandError(str(error)) from error
            told = [reader.result() for reader in reading]
        memory = {child.name: _memory_mb(child.process.pid) for child in running}
        pages = [seen for one in told for seen in one.pages]
        times = [took for _, took in pages]
        slowest = max(pages, key=lambda seen: seen[1])
        return {
            "pages": len(pages),
            "page_p50_ms": round(_percentile(times, 50) * 1000),
            "page_p95_ms": round(_percentile(times, 95) * 1000),
            "page_p99_ms": round(_percentile(times, 99) * 1000),
            "slowest_page": f"{slowest[0][:60]} {slowest[1] * 1000:.0f} ms",
            "pages_failed": sum(len(one.failed) for one in told),
            "events_sent": seconds * rate,
            "events_per_s": round(seconds * rate / sent.seconds),
            "ack_p95_ms": round(_percentile(sent.latencies, 95) * 1000, 1),
            "events_not_detected_at_the_end": _lag(tenant),
            **{f"{name}_mb": mb for name, mb in memory.items()},
        }

    # --- live ---------------------------------------------------------------------------------------------------

    def live(self, tenant, state: Path, undo: ExitStack, options) -> dict:
        """The highest steady rate at which events are judged within 2 s of their receipt (p95), so that what is found of
        them can be read: with all that a quickstart runs and the sender on this machine, on a record of `--events`. What
        is sent was signed before.
        """
        from auditlog.detection.detect import detect
        from auditlog.projection.project import project
        from auditlog.simulator.live import Trial, Watch, highest
        from auditlog.sources.configuration import await_in_force

        _busy_sources(tenant)
        now, record, seconds = timezone.now(), options["events"], options["seconds"] or 20
        # Statements are told apart by their number, and spread over a month up to now: so many are there to be had.
        total, used = record + 40 * seconds * max(500, options["rate"]), record
        _deliver_busy(tenant, [(source, body, 0) for source, body in busy.standing(tenant=tenant.name, now=now)])
        for first in range(0, record, 20_000):
            count = min(20_000, record - first)
            _deliver_busy(
                tenant, busy.bodies(first, count, total=total, tenant=tenant.name, now=now, hot=options["hot"])
            )
            _until_done(project, tenant)
            _until_done(detect, tenant)
        port, running = quickstart._free_port(None, any_will_do=True), []
        undo.callback(children.stop, running)
        environment = os.environ | {"WEB_CONCURRENCY": str(quickstart.WEB_WORKERS)}
        for name, command in children.commands(port, quickstart.WEB_WORKERS).items():
            running.append(children.start(name, command, environment=environment, logs=state))
        _await_web(port, running)
        if not await_in_force(tenant, "source", "key", patience=30):
            raise CommandError("the publisher signed no checkpoint over the sources")

        def attempt(rate: int) -> Trial:
            nonlocal used
            count = rate * seconds
            told = list(
                busy.bodies(
                    used, count, total=total, tenant=tenant.name, now=now, hot=options["hot"], size=max(1, rate // 10)
                )
            )
            used += count
            _await_detected(tenant, patience=300)
            trial = Trial(rate)
            with Watch(tenant) as watch:
                sent = _send_steadily(port, told, seconds)
                trial.sent_per_s, trial.behind = sum(n for *_, n in told) / sent, _lag(tenant)
                trial.rate = round(sum(n for *_, n in told) / seconds)  # a purchase is told by two
                _await_detected(tenant, patience=300)
            trial.delays = watch.delays
            return trial

        best, tried = highest(attempt, first=options["rate"])
        return {
            "events_per_s": best.rate if best else 0,
            "finding_p50_s": round(_percentile(best.delays, 50), 2) if best else 0,
            "finding_p95_s": round(best.p95, 2) if best else 0,
            "record": record,
            "tried": " ".join(
                f"{t.rate}:{'-' if t.p95 is None else round(t.p95, 2)}{'' if t.holds else '!'}" for t in tried
            ),
            **{f"{child.name}_mb": _memory_mb(child.process.pid) for child in running},
        }

    # --- project ------------------------------------------------------------------------------------------------

    def project(self, tenant, state: Path, undo: ExitStack, options) -> dict:
        from auditlog.projection.project import project

        _fill(tenant, options["events"])
        began, cpu, total = time.perf_counter(), time.process_time(), 0
        while done := project(tenant, now=timezone.now()):
            total += done
        took = time.perf_counter() - began
        return {
            "events_per_s": round(total / took),
            "events": total,
            "seconds": round(took, 2),
            "python_cpu_share": round((time.process_time() - cpu) / took, 2),
            "parse_only_events_per_s": round(_parse_only(tenant)),
        }

    def verify(self, tenant, state: Path, undo: ExitStack, options) -> dict:
        from auditlog.custody.verify_ledger import verify

        _fill(tenant, options["events"])  # signed, since a grade has to be earned
        _publisher(tenant)()
        began, cpu = time.perf_counter(), time.process_time()
        result = verify(tenant)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        return {
            "leaves_per_s": round(result.leaves / took),
            "leaves_per_s_of_python_cpu": round(result.leaves / cpu),
            "leaves": result.leaves,
            "seconds": round(took, 2),
        }

    def proof(self, tenant, state: Path, undo: ExitStack, options) -> dict:
        import random

        from auditlog.ledger.proofs import prove_inclusion

        _source(tenant)
        began = time.perf_counter()
        _pour(tenant, options["events"], _publisher(tenant))
        filled = time.perf_counter() - began
        indexes = random.Random(1).choices(range(options["events"]), k=2_000)
        times, reads = [], 0
        for index in indexes:
            began = time.perf_counter()
            reads = max(reads, prove_inclusion(tenant, index).tile_reads)
            times.append(time.perf_counter() - began)
        return {
            "p50_ms": round(_percentile(times, 50) * 1000, 2),
            "p99_ms": round(_percentile(times, 99) * 1000, 2),
            "tile_reads_at_most": reads,
            "leaves": options["events"],
            "seconds_to_fill": round(filled),
        }

    def query(self, tenant, state: Path, undo: ExitStack, options) -> dict:
        """The API's reads over a large record: one grant and one token for every hundred events, a thousandth as many
        humans. The rows are written straight into the projections; what is measured is reading them.
        """
        import random

        from django.test import Client

        from auditlog.reads.access import issue_token

        began = time.perf_counter()
        events = options["events"]
        with _indexes_made_after(self.services.database_owner_url):
            _fill_projections(tenant, events)
        filled = time.perf_counter() - began
        token = issue_token(tenant, name="bench", role="admin", expires_at=timezone.now() + timedelta(hours=9))
        _publisher(tenant)()  # and so is a token
        client, chance, grants = (
            Client(headers={"Authorization": f"Bearer {token}", "Host": "localhost"}),
            random.Random(1),
            max(10, events // 100),
        )
        asked = {
            "chain_of_event": lambda n: (f"/api/v1/events/{uuid.UUID(int=n % events)}/chain", {}),
            "acts_of_party": lambda n: ("/api/v1/events", {"actor": f"https://bots.example|a{n % grants}"}),
            "descendants_of_grant": lambda n: ("/api/v1/reach/descendants", {"grant": f"g{n % grants // 10 * 10}"}),
            "blast_radius_of_key": lambda n: ("/api/v1/reach", {"key": f"k{n % grants}"}),
            "search_by_target": lambda n: ("/api/v1/events", {"target": f"name{n % (events // 5)}.example"}),
        }
        figures: dict = {"events": events, "grants": grants, "tokens": grants, "seconds_to_fill": round(filled)}
        for name, question in asked.items():
            times = []
            for _ in range(220):
                path, query = question(chance.randrange(2**60))
                at = time.perf_counter()
                answer = client.get(path, query)
                times.append(time.perf_counter() - at)
                if answer.status_code != 200 or not answer.json():
                    raise CommandError(f"{path}: {answer.status_code} {answer.content[:300]!r}")
            figures[f"{name}_p50_ms"] = round(_percentile(times[20:], 50) * 1000, 1)
            figures[f"{name}_p95_ms"] = round(_percentile(times[20:], 95) * 1000, 1)
        return figures

    def complete(self, tenant, state: Path, undo: ExitStack, options) -> dict:
        """A parent that arrives last: how long until all that waited below it, each with an act, leads to its human."""
        from auditlog.formats import Delivery
        from auditlog.ingest.receive import ingest
        from auditlog.models import Event
        from auditlog.projection.project import project
        from auditlog.simulator.load import ISSUER, NAME
        from auditlog.simulator.world import World

        _source(tenant)
        _publisher(tenant)()  # a key is in force once a checkpoint covers it
        count, world = options["descendants"], World(tenant=tenant.name, now=timezone.now() - timedelta(hours=1))
        world.source(NAME, ISSUER)
        ada, lead = world.human("ada", issuer=ISSUER), world.agent("lead", issuer=ISSUER)
        root = world.grant(ada, lead, redelegate=True)
        below = [
            world.grant(lead, world.agent(f"a{n}", issuer=ISSUER), parent=root, principal=None) for n in range(count)
        ]
        below += [world.event("action.performed", grant=grant, principal=None) for grant in below]
        for start in range(0, len(below), 1_000):
            sets = {signed.jti: signed.raw.decode() for signed in below[start : start + 1_000]}
            ingest(
                tenant.name,
                NAME,
                Delivery(json.dumps({"sets": sets}).encode(), "application/json", {}),
                now=timezone.now(),
            )
        while project(tenant, now=timezone.now()):
            pass
        ingest(tenant.name, NAME, Delivery(root.raw, "application/secevent+jwt", {}), now=timezone.now())
        began = time.perf_counter()
        while project(tenant, now=timezone.now()):
            pass
        took = time.perf_counter() - began
        led = Event.objects.filter(tenant=tenant, principal=f"{ISSUER}|ada", chain_complete=True).count()
        if led != 2 * count + 1:
            raise CommandError(f"expected {2 * count + 1} events that lead to the human, found {led}")
        return {"seconds": round(took, 2), "descendants": count, "events": 2 * count + 1}

    def recover(self, tenant, state: Path, undo: ExitStack, options) -> dict:
        """Kill the database of a log of so many leaves while it is written to, and see when it takes leaves again."""
        from auditlog.ledger.append import append_note

        _source(tenant)
        _pour(tenant, options["events"], _publisher(tenant))
        services = self.services
        postgres = services.servers[0].process
        for child in Path(f"/proc/{postgres.pid}/task/{postgres.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        postgres.kill()
        connections.close_all()
        services.stop()
        began = time.perf_counter()
        quickstart._point_at(undo.enter_context(embedded.start(state)), state)
        append_note(tenant, "config", {"change": "bench"}, now=timezone.now())
        return {"seconds_to_first_leaf": round(time.perf_counter() - began, 2), "leaves": options["events"]}

    def detect(self, tenant, state: Path, undo: ExitStack, options) -> dict:
        """Events judged a second, by every rule, those that wait included: as the record grows by `--step` and is
        projected, each step is judged until nothing is left, with the clock passed on. Only event leaves are counted.
        """
        from auditlog.detection.detect import detect
        from auditlog.models import Finding
        from auditlog.projection.project import project

        _busy_sources(tenant)
        now, total, steps = timezone.now(), options["events"], []
        step = min(options["step"], total)
        _deliver_busy(tenant, [(source, body, 0) for source, body in busy.standing(tenant=tenant.name, now=now)])
        _until_done(project, tenant)
        _until_done(detect, tenant)
        for first in range(0, total, step):
            count = min(step, total - first)
            told = busy.bodies(
                first, count, total=total, tenant=tenant.name, now=now, hot=options["hot"], order=options["order"]
            )
            events = _deliver_busy(tenant, told)
            projected, judged = _until_done(project, tenant), _until_done(detect, tenant)
            steps.append((events, projected, judged))
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM projection_dirty WHERE tenant_id = %s", [tenant.pk])
            [waiting] = cursor.fetchone()
        if waiting:
            raise CommandError(f"expected every event to be judged by every rule, and {waiting} rows still wait")

        def rate(some, which, what):
            return round(sum(s[0] for s in some) / max(1e-9, sum(getattr(s[which], what) for s in some)))

        last = steps[-max(1, len(steps) // 5) :]
        early = steps[1 : 1 + len(last)] or steps
        rates = [rate([each], 2, "seconds") for each in steps]
        return {
            "events_per_s": rate(steps, 2, "seconds"),
            "events_per_s_of_cpu": rate(steps, 2, "cpu"),
            "events": sum(each[0] for each in steps),
            "seconds": round(sum(each[2].seconds for each in steps), 2),
            "events_per_s_early": rate(early, 2, "seconds"),
            "events_per_s_late": rate(last, 2, "seconds"),
            "late_to_early": round(rate(last, 2, "seconds") / rate(early, 2, "seconds"), 2),
            "late_to_early_of_cpu": round(rate(last, 2, "cpu") / rate(early, 2, "cpu"), 2),
            "python_share_of_cpu": round(sum(s[2].python for s in steps) / sum(s[2].cpu for s in steps), 2),
            "project_events_per_s": rate(steps, 1, "seconds"),
            "project_late_to_early": round(rate(last, 1, "seconds") / rate(early, 1, "seconds"), 2),
            "steps_events_per_s": " ".join(map(str, rates)),
            "findings": Finding.objects.filter(tenant=tenant).exclude(state="withdrawn").count(),
            "worker_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }


@dataclass
class _Took:
    """Wall and processor time, of this process and of its database backend, in seconds."""

    seconds: float
    python: float
    backend: float

    @property
    def cpu(self) -> float:
        return self.python + self.backend


def _until_done(verb, tenant) -> _Took:
    """Run a verb until nothing is left for it now, nor when every grace is over."""
    began, cpu, backend = time.perf_counter(), time.process_time(), _backend_cpu()
    for later in (timedelta(0), timedelta(hours=1), timedelta(hours=2)):
        while verb(tenant, now=timezone.now() + later):
            pass
    return _Took(time.perf_counter() - began, time.process_time() - cpu, _backend_cpu() - backend)


def _backend_cpu() -> float:
    """Seconds of processor that our connection's server process has used; 0 where it runs on another host."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _busy_sources(tenant) -> None:
    from auditlog.sources.configure import add_organisation, add_source

    for spec in busy.sources():
        add_source(tenant, spec.name, format="set", issuer=spec.issuer, jwks=spec.jwks, now=timezone.now(),
                   requests_per_second=0, events_per_second=0)  # fmt: skip
    add_organisation(tenant, "acme", issuers=["https://acme.example"], owned_names=["acme.example"], now=timezone.now())
    _publisher(tenant)()


def _deliver_busy(tenant, told) -> int:
    from auditlog.formats import Delivery
    from auditlog.ingest.receive import ingest

    events = 0
    for source, body, count in told:
        taken = ingest(tenant.name, source, Delivery(body, "application/json", {}), now=timezone.now())
        if taken.refused:
            raise CommandError(str(next(iter(taken.refused.values()))))
        events += count
    return events


class _Watch:
    """When each checkpoint could first be seen, and from that how long leaves waited for one that covers them."""

    def __init__(self, tenant) -> None:
        self.tenant, self.seen = tenant, []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "_Watch":
        self._first = _leaves(self.tenant)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        deadline = time.monotonic() + 10
        while (not self.seen or self.seen[-1][1] < _leaves(self.tenant)) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        from auditlog.models import Checkpoint

        while not self._over.wait(0.02):
            size = (
                Checkpoint.objects.filter(tenant=self.tenant).order_by("-size").values_list("size", flat=True).first()
                or 0
            )
            if not self.seen or size > self.seen[-1][1]:
                self.seen.append((timezone.now(), size))
        connections.close_all()

    def delay(self, percent: int) -> float:
        """Seconds from receipt to a checkpoint that anybody can read, over a sample of the leaves."""
        from auditlog.models import Leaf

        rows = Leaf.objects.filter(tenant=self.tenant, leaf_index__gte=self._first).order_by("leaf_index")
        delays, at = [], iter(self.seen)
        seen = next(at)
        for index, received_at in list(rows.values_list("leaf_index", "received_at"))[::20]:
            while seen[1] <= index:
                seen = next(at)
            delays.append((seen[0] - received_at).total_seconds())
        return _percentile(delays, percent)


def _leaves(tenant) -> int:
    from auditlog.models import LogHead

    return LogHead.objects.get(tenant=tenant).size


def _publisher(tenant):
    """Sign what is there, as the publisher does. Returns a function for each further round."""
    from nacl.signing import SigningKey

    from auditlog.ledger.publish import announce_key, publish, take_fence

    key, fence = SigningKey(os.urandom(32)), take_fence(tenant)
    announce_key(tenant, key=key, now=timezone.now())
    return lambda: publish(tenant, key=key, fence=fence, now=timezone.now())


def _pour(tenant, events: int, publish) -> None:
    """Append unsigned statements fast: for measuring what only sees leaves."""
    from auditlog.formats import Statement
    from auditlog.ledger.append import append_statements
    from auditlog.models import Source

    source = Source.objects.select_related("tenant").filter(tenant=tenant).first()
    raw = os.urandom(592)
    for start in range(0, events, 10_000):
        append_statements(
            source,
            [
                Statement(f"poured-{n}", raw + n.to_bytes(8), b"", "A", "x" * 43, None)
                for n in range(start, min(events, start + 10_000))
            ],
            now=timezone.now(),
        )
        if start % 100_000 == 0:
            publish()
    publish()


_FILL = """
    INSERT INTO projection_party (tenant_id, generation, key, kinds, first_at, last_at)
    SELECT %(tenant)s, 1, 'https://bots.example|a' || n, 16, now(), now() FROM generate_series(0, %(grants)s - 1) n
    UNION ALL SELECT %(tenant)s, 1, 'https://id.example|h' || n, 128, now(), now() FROM generate_series(0, %(humans)s - 1) n;

    INSERT INTO projection_grant (tenant_id, generation, id, parent, stated, subject, actor, principal, complete, proven, depth,
        granted_at, expires_at, revoked_at, leaf_index, history)
    SELECT %(tenant)s, 1, 'g' || n, CASE WHEN n %% 10 = 0 THEN '' ELSE 'g' || n / 10 * 10 END, true, '', 'https://bots.example|a' || n,
        'https://id.example|h' || n / 10 %% %(humans)s, true, true, CASE WHEN n %% 10 = 0 THEN 1 ELSE 2 END,
        '2026-01-01T00:00:00Z', NULL, NULL, n,
        convert_to(json_build_object('statements', json_build_array(json_build_object('at', '2026-01-01T00:00:00Z', 'leaf_index', n,
            'event_id', lpad(to_hex(n), 32, '0'), 'source', 'load', 'attester', 'https://tokens.example', 'grade', 'A', 'proven', true, 'known_at', '2026-01-01T00:00:00Z',
            'said', json_build_object('id', 'g' || n, 'parent', CASE WHEN n %% 10 = 0 THEN NULL ELSE 'g' || n / 10 * 10 END,
                'root', n %% 10 = 0, 'redelegate', true,
                'subject', CASE WHEN n %% 10 = 0 THEN json_build_object('iss', 'https://id.example', 'sub', 'h' || n / 10 %% %(humans)s, 'kind', 'human')
                    ELSE json_build_object('iss', 'https://bots.example', 'sub', 'a' || n / 10 * 10, 'kind', 'agent') END,
                'actor', json_build_object('iss', 'https://bots.example', 'sub', 'a' || n, 'kind', 'agent'),
                'authorization_details', json_build_array(json_build_object('actions', json_build_array('worker.*')))))),
            'revocations', json_build_array())::text, 'UTF8')
    FROM generate_series(0, %(grants)s - 1) n;

    INSERT INTO projection_token (tenant_id, generation, jti, parent_jti, stated, "grant", via_grant, subject, actor, issued_at,
        expires_at, revoked_at, leaf_index, history)
    SELECT %(tenant)s, 1, 't' || n, '', true, 'g' || n, 'g' || n, '', 'https://bots.example|a' || n, now(), NULL, NULL, n,
        convert_to(json_build_object('statements', json_build_array(json_build_object('at', '2026-01-01T00:00:00Z', 'leaf_index', n,
            'event_id', lpad(to_hex(n), 32, '0'), 'source', 'load', 'attester', 'https://tokens.example', 'grade', 'A', 'proven', true, 'known_at', '2026-01-01T00:00:00Z',
            'said', json_build_object('jti', 't' || n, 'grant', 'g' || n,
                'actor', json_build_object('iss', 'https://bots.example', 'sub', 'a' || n, 'kind', 'agent')))),
            'revocations', json_build_array())::text, 'UTF8')
    FROM generate_series(0, %(grants)s - 1) n;

    INSERT INTO projection_event (tenant_id, generation, leaf_index, event_id, source, source_event_id, issuer, type, occurred_at,
        received_at, grade, within_remit, outcome, environment, mode, principal, principal_claimed, actor, actor_kind,
        claimed_principal, verb, provider, account, target_type, target, resource, operation, "grant", token, via_grant,
        chain_complete, chain_proven, chain_depth, txn, session, task, project, request_id, ray_id, trace_id, ip, idempotency_key, phase,
        book, amount_minor, currency, rail, charge, invoice, subscription, payee, payer, payment_authority, jkt, detail)
    SELECT %(tenant)s, 1, n, lpad(to_hex(n), 32, '0')::uuid, 'load', 'e' || n, 'https://load.example',
        CASE WHEN n < %(grants)s THEN 'token.issued' ELSE 'action.performed' END,
        timestamptz '2026-01-01' + n * interval '1 second', timestamptz '2026-01-01' + n * interval '1 second', 'A', true, 'success',
        'live', 'delegation', 'https://id.example|h' || n %% %(grants)s / 10 %% %(humans)s, false,
        'https://bots.example|a' || n %% %(grants)s, 'agent', '', 'worker.deploy', 'p' || n %% 7, 'acct' || n %% 1000, 'domain',
        'name' || n %% (%(events)s / 5) || '.example', '', '', 'g' || n %% %(grants)s, 't' || n %% %(grants)s, 'g' || n %% %(grants)s,
        true, true, 2, 'x' || n / 8, 's' || n / 50, '', '', 'r' || n, '', '', '', '', '', '', NULL, '', '', '', '', '', '', '', '',
        CASE WHEN n < %(grants)s THEN 'k' || n ELSE '' END, '{"outcome":"success"}'
    FROM generate_series(0, %(events)s - 1) n;

    SELECT projection_analyze();
"""


@contextmanager
def _indexes_made_after(owner_url: str):
    """Drop the indexes of the big projections and make them again from what was filled in: a tenth of the time."""
    with psycopg.connect(owner_url, autocommit=True) as owner:
        made = owner.execute(
            "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i"
            " WHERE i.indrelid = ANY(%s::regclass[]) AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid ="
            " i.indexrelid)",
            [["projection_event", "projection_grant", "projection_token", "projection_party"]],
        ).fetchall()
        for name, _ in made:
            owner.execute(f"DROP INDEX {name}")
        yield
        owner.execute("SET maintenance_work_mem = '1GB'")
        for _, definition in made:
            owner.execute(definition)


def _fill_projections(tenant, events: int) -> None:
    numbers = {
        "tenant": tenant.pk,
        "events": events,
        "grants": max(10, events // 100),
        "humans": max(1, events // 1000),
    }
    with connection.cursor() as cursor:
        for statement in _FILL.split(";\n"):
            if statement.strip():
                cursor.execute(statement, numbers)


def _scratch(services: embedded.Services, state: Path, undo: ExitStack):
    """Servers and tables of our own; nothing of a running system is touched."""
    for variable in ("DATABASE_URL", "DATABASE_OWNER_URL", "CELERY_BROKER_URL"):
        os.environ.pop(variable, None)
    os.environ["ANSWERABLE_STATE_DIR"] = str(state)
    quickstart._point_at(services, state)
    undo.callback(connections.close_all)
    call_command("setup_database", verbosity=0)
    return quickstart._default_tenant()


def _source(tenant) -> None:
    from auditlog.simulator.load import load_source
    from auditlog.sources.configure import add_source

    spec = load_source()
    add_source(tenant, spec.name, format="set", issuer=spec.issuer, jwks=spec.jwks, now=timezone.now(),
               requests_per_second=0, events_per_second=0)  # fmt: skip


def _fill(tenant, events: int) -> None:
    """Append signed events without HTTP: what is measured comes after."""
    from auditlog.formats import Delivery
    from auditlog.ingest.receive import ingest
    from auditlog.simulator.load import load_source, signed_batches, signed_chains

    _source(tenant)
    _publisher(tenant)()  # a key is in force once a checkpoint covers it
    now = timezone.now()
    for body in (
        *signed_chains(tenant=tenant.name, now=now),
        *signed_batches(events, 1_000, tenant=tenant.name, now=now),
    ):
        ingest(tenant.name, load_source().name, Delivery(body, "application/json", {}), now=timezone.now())


def _await_web(port: int, running: list[children.Child]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            line.request("GET", "/healthz")
            if line.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
        for child in running:
            if child.process.poll() is not None:
                raise CommandError(f"{child.name} did not start:\n{child.last_lines()}")
    raise CommandError("the web workers did not answer")


def _await_keys(tenant) -> None:
    """A source is in force once the publisher, which runs beside the web workers here, has signed a checkpoint over it."""
    from auditlog.sources.configuration import await_in_force

    if not await_in_force(tenant, "source", "key", patience=30):
        raise CommandError("the publisher signed no checkpoint over the source and its key")


def _readers(tenant) -> dict[str, str]:
    """A person of each role, and the cookie of a session that each has begun."""
    from django.test import Client

    quickstart._people(tenant, Path(os.environ["ANSWERABLE_STATE_DIR"]))
    found = {}
    for user in get_user_model().objects.filter(username__in=quickstart.USERS).order_by("pk"):
        client = Client()
        client.force_login(user)
        found[user.username] = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
    return found


def _memory_mb(session: int) -> int:
    """Of a child and what it started, the largest process: its resident memory now."""
    sizes = [0]
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:  # proc(5): state, ppid, pgrp, session
                sizes.append(int(fields[21]) * resource.getpagesize() >> 20)
        except (OSError, ValueError, IndexError):
            continue
    return max(sizes)


def _await_detected(tenant, *, patience: float) -> None:
    """Until everything was looked at: what is left of one trial is no load of the next."""
    ends = time.monotonic() + patience
    while _lag(tenant):
        if time.monotonic() > ends:
            raise CommandError(f"{_lag(tenant)} leaves were not looked at within {patience:.0f} s")
        time.sleep(0.1)


def _send_steadily(port: int, told: list[tuple[str, bytes, int]], seconds: int) -> float:
    """Send each source's bodies spread evenly over so many seconds. Returns how long it took."""
    from concurrent.futures import ThreadPoolExecutor

    from auditlog.simulator.browse import paced
    from auditlog.simulator.send import Unexpected, send_all

    by_source: dict[str, list[bytes]] = {}
    for source, body, _ in told:
        by_source.setdefault(source, []).append(body)
    with ThreadPoolExecutor(len(by_source)) as pool:
        sending = [
            pool.submit(send_all, port, f"/ingest/{source}", paced(bodies, every=seconds / len(bodies)),
                        content_type="application/json", connections=1)
            for source, bodies in by_source.items()
        ]  # fmt: skip
        try:
            return max(float(seconds), *(each.result().seconds for each in sending))
        except Unexpected as error:
            raise CommandError(str(error)) from error


def _lag(tenant) -> int:
    """Events of which nobody has looked yet at what they mean."""
    from auditlog.models import LogHead, ProjectionState

    return (
        LogHead.objects.get(tenant=tenant).size - ProjectionState.objects.get(tenant=tenant, is_current=True).detected
    )


def _verify_only(tenant, sets: list[bytes]) -> float:
    """Ed25519 checks a second on all workers' cores together, with nothing else: the bound of ingest."""
    from auditlog.simulator.load import load_source

    half = len(sets) // quickstart.WEB_WORKERS
    parts = [sets[n * half : (n + 1) * half] for n in range(quickstart.WEB_WORKERS)]
    [jwk] = load_source().jwks["keys"]
    with multiprocessing.get_context("fork").Pool(quickstart.WEB_WORKERS) as pool:
        rates = pool.starmap(_check_all, [(part, jwk) for part in parts])
    return sum(rates)


def _check_all(sets: list[bytes], jwk: dict) -> float:
    from auditlog.core.wire.keys import load
    from auditlog.formats.set import _decoded

    check = load(jwk, jwk["kid"]).check_for("EdDSA")
    pairs = [(head, _decoded(signature)) for head, _, signature in (compact.rpartition(b".") for compact in sets)]
    began = time.perf_counter()
    for message, signature in pairs:
        check(message, signature)
    return len(pairs) / (time.perf_counter() - began)


def _parse_only(tenant) -> float:
    from auditlog.formats import named
    from auditlog.models import Payload, Source
    from auditlog.sources.sender import sender_of

    sender = sender_of(Source.objects.select_related("tenant").filter(tenant=tenant).first())
    rows = [bytes(raw) for raw in Payload.objects.filter(tenant=tenant).values_list("raw", flat=True)[10:10_010]]
    began = time.perf_counter()
    for raw in rows:
        named("set").parse(raw, b"", sender)
    return len(rows) / (time.perf_counter() - began)


def _events(tenant) -> int:
    from auditlog.models import Leaf

    return Leaf.objects.filter(tenant=tenant, event_id__isnull=False).count()


def _stored_bytes() -> int:
    """Bytes of the ledger's tables with their indexes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(pg_total_relation_size(c)) FROM unnest(ARRAY['ledger_leaf', 'ledger_payload']) t(n),"
            " to_regclass(n) c"
        )
        return int(cursor.fetchone()[0])


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
