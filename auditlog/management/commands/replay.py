"""`replay FILE`: send a file of deliveries down the same road as HTTP does, and tell as JSON what became of them."""

import json
import sys
import time
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from auditlog.core.errors import AnswerableError, MalformedEvent, NotInForce, Refused, TooManyRequests, WrongIssuer
from auditlog.formats import Delivery
from auditlog.ingest.receive import Taken, ingest
from auditlog.models import Checkpoint, Finding, LogHead, ProjectionState, Source, Tenant
from auditlog.work.drive import drive_tenant

SAY_EVERY = 1.0  # seconds between lines of progress
MAX_ERRORS = 1_000  # told one by one; all of them are counted
PATIENCE = 10.0  # seconds; a publisher signs every second
STUCK_S = 60.0  # without progress of a worker that drives the same tenant


class Command(BaseCommand):
    help = (
        "Ingest a file of deliveries, one a line, and print a JSON summary. A line is a compact SET, a batch of them"
        ' {"sets": {jti: SET}}, or any delivery as {"body": "...", "headers": {...}, "content_type": "..."}.'
    )

    def add_arguments(self, parser):
        parser.add_argument("file", help="the file, or - for standard input")
        parser.add_argument("--source", help="the source that sends all lines (default: by each SET's issuer)")
        parser.add_argument("--tenant", default="default")

    def handle(self, *args, **options):
        tenant = Tenant.objects.filter(name=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"no tenant {options['tenant']!r}; add it with `tenant add`")
        names = Source.objects.filter(tenant=tenant)
        if options["source"] and not names.filter(name=options["source"]).exists():
            raise CommandError(f"no source {options['source']!r} in tenant {tenant.name!r}; add it with `source add`")
        self.sources = dict(names.filter(format="set").values_list("issuer", "name"))
        began = timezone.now()
        told = _Summary()
        last = time.monotonic()
        try:
            for number, line in _lines(options["file"]):
                self._send(tenant.name, options["source"], number, line, told)
                if time.monotonic() - last > SAY_EVERY:
                    last = time.monotonic()
                    self.stderr.write(f"{number:,} lines: {told.taken:,} taken, {sum(told.refused.values()):,} refused")
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be read: {error.strerror or error}") from None
        self.stderr.write(f"{told.taken:,} taken, {told.repeated:,} repeated; projecting and detecting")
        _drive(tenant)
        findings = Counter(
            rule
            for rule, event_ids, detected_at in Finding.objects.filter(tenant=tenant)
            .exclude(state=Finding.State.WITHDRAWN)
            .values_list("rule", "event_ids", "detected_at")
            if told.events & set(event_ids) or (rule.startswith("integrity.") and detected_at >= began)
        )
        summary = {
            "taken": told.taken,
            "repeated": told.repeated,
            "refused": dict(sorted(told.refused.items())),
            "errors": told.errors,
            "findings": dict(sorted(findings.items())),
        }
        self.stdout.write(json.dumps(summary, indent=2))

    def _send(self, tenant: str, source: str | None, number: int, line: bytes, told: "_Summary") -> None:
        try:
            delivery = _delivery(line)
            name = source or self._source_of(delivery)
            told.add(number, _ingested(tenant, name, delivery))
        except Refused as refused:
            told.refuse(number, refused.err, refused)
        except AnswerableError as error:
            told.refuse(number, "invalid_request", error)

    def _source_of(self, delivery: Delivery) -> str:
        """Who says they sent it. This only chooses whose keys must have signed it."""
        try:
            body = delivery.body
            if delivery.content_type == "application/json":
                body = next(iter(json.loads(body)["sets"].values())).encode()
            payload = body.split(b".")[1]
            issuer = json.loads(urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))["iss"]
        except (ValueError, LookupError, TypeError, AttributeError, StopIteration):
            raise MalformedEvent("expected a compact SET with an issuer, or --source") from None
        if not isinstance(issuer, str) or issuer not in self.sources:
            raise WrongIssuer(f"no source of format 'set' has the issuer {str(issuer)[:200]!r}")
        return self.sources[issuer]


class _Summary:
    def __init__(self) -> None:
        self.taken = self.repeated = 0
        self.refused: Counter[str] = Counter()
        self.errors: list[dict] = []
        self.events: set[UUID] = set()

    def add(self, line: int, taken: Taken) -> None:
        for appended in taken.appended.values():
            self.events.add(appended.event_id)
            self.repeated += appended.repeated
            self.taken += not appended.repeated
        for refused in taken.refused.values():
            self.refuse(line, refused.err, refused)

    def refuse(self, line: int, err: str, error: Exception) -> None:
        self.refused[err] += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append({"line": line, "err": err, "description": str(error)})


def _lines(name: str) -> Iterator[tuple[int, bytes]]:
    """Lines that say something, counted from 1. Raises OSError."""
    with sys.stdin.buffer if name == "-" else open(name, "rb") as file:
        for number, line in enumerate(file, 1):
            if line := line.strip():
                yield number, line


def _delivery(line: bytes) -> Delivery:
    if not line.startswith(b"{"):
        return Delivery(line, "application/secevent+jwt", {})
    try:
        given = json.loads(line)
        if "body" not in given:
            return Delivery(line, "application/json", {})
        headers = {str(name).lower(): str(value) for name, value in given.get("headers", {}).items()}
        return Delivery(given["body"].encode(), given.get("content_type", "application/json"), headers)
    except (ValueError, AttributeError, TypeError):
        raise MalformedEvent("expected a compact SET or one JSON object a line") from None


def _ingested(tenant: str, name: str, delivery: Delivery) -> Taken:
    """Through the front door, at the pace it allows this source, and once what was configured is in force."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            return ingest(tenant, name, delivery, now=timezone.now())
        except TooManyRequests as wait:
            time.sleep(wait.retry_after)
        except NotInForce as waits:
            if time.monotonic() >= ends or not Checkpoint.objects.exists():
                raise CommandError(f"{waits}: no publisher signs one, run `publish`") from None
            time.sleep(0.2)


def _drive(tenant: Tenant) -> None:
    """Drive until all of it is looked at, by us or by a worker that is at it already. Grace periods are not waited for."""
    seen: tuple | None = None
    since = time.monotonic()
    while True:
        drive_tenant(tenant.name, now=timezone.now)
        state = ProjectionState.objects.get(tenant=tenant, is_current=True)
        size = LogHead.objects.get(tenant=tenant).size
        if state.position == state.detected == size:
            return
        place: tuple[int, int, datetime | None] = (state.position, state.detected, state.projected_at)
        if place != seen:
            seen, since = place, time.monotonic()
        elif time.monotonic() - since > STUCK_S:
            raise CommandError(f"another process holds tenant {tenant.name!r} and does not get on; the events are safe")
        time.sleep(0.1)
