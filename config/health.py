"""/healthz, /readyz, /workz and /metrics."""

import os
import secrets
import time

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, JsonResponse
from kombu.exceptions import OperationalError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from rest_framework.authentication import get_authorization_header
from rest_framework.exceptions import AuthenticationFailed

from auditlog.core.errors import NotPermitted
from auditlog.custody import security
from auditlog.database import clock
from auditlog.ingest import receive as ingest
from auditlog.reads.access import WHOLE, BearerToken, viewer_of
from auditlog.sources import configuration
from auditlog.work import health, tasks
from config.celery import app

_broker = {"at": -10.0, "ok": False}


def healthz(request: HttpRequest) -> HttpResponse:
    """This process answers. Nothing else is asked."""
    return HttpResponse("ok\n", content_type="text/plain")


def readyz(request: HttpRequest) -> JsonResponse:
    """200 while this web process serves as it should; 503 with what is missing otherwise. For a load balancer."""
    return _told("ready", health.checks(now=clock.now()))


def workz(request: HttpRequest) -> JsonResponse:
    """200 while the work behind keeps up; 503 with what is missing otherwise, and how far behind which tenant is. For
    alarms.
    """
    at = clock.now()
    try:
        lags = health.lags(now=at)
    except (DatabaseError, InterfaceError):
        lags = []
    return _told("working", health.work(now=at, broker_ok=_broker_answers()), behind=lags)


def _told(name: str, found: list[health.Check], **more: object) -> JsonResponse:
    good = all(check.ok for check in found)
    body = {name: good, "checks": {check.name: {"ok": check.ok, "detail": check.detail} for check in found}, **more}
    return JsonResponse(body, status=200 if good else 503)


def _broker_answers() -> bool:
    """Asked at most once a second: a load balancer may ask /readyz more often than a broker likes."""
    if time.monotonic() - _broker["at"] > 1:
        try:
            with app.connection_for_write(connect_timeout=1) as connection:
                connection.ensure_connection(max_retries=0, timeout=1)  # a retry would sleep 2 s first
            _broker["ok"] = True
        except (OperationalError, OSError):
            _broker["ok"] = False
        _broker["at"] = time.monotonic()
    return bool(_broker["ok"])


class _Gauges:
    def __init__(self, tenant: str | None) -> None:
        self._tenant = tenant  # whose numbers; None: everybody's

    def collect(self):
        families: dict[str, GaugeMetricFamily] = {}
        for name, text, labels, value in health.gauges(clock.now()):
            if self._tenant is not None and labels.get("tenant", self._tenant) != self._tenant:
                continue
            family = families.setdefault(name, GaugeMetricFamily(name, text, labels=list(labels)))
            family.add_metric(list(labels.values()), value)
        # Numbers that a process keeps to itself, so it says which one.
        process = str(os.getpid())
        unsent = CounterMetricFamily(
            "answerable_wakeups_unsent", "Wake-ups the broker did not take", labels=["process"]
        )
        unsent.add_metric([process], tasks.UNSENT._value.get())
        throttled = CounterMetricFamily(
            "answerable_throttled", "Deliveries answered 429", labels=["tenant", "source", "process"]
        )
        for sample in next(iter(ingest.THROTTLED.collect())).samples:
            if sample.name.endswith("_total") and self._tenant in (None, sample.labels["tenant"]):
                throttled.add_metric([sample.labels["tenant"], sample.labels["source"], process], sample.value)
        unwritten = CounterMetricFamily(
            "answerable_security_unwritten", "Security events that could not be written", labels=["process"]
        )
        unwritten.add_metric([process], security.UNWRITTEN._value.get())
        return [*families.values(), unsent, throttled, unwritten]


def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text. Read from the database, so it does not matter which worker answers.

    For a superuser and for `ANSWERABLE_METRICS_TOKEN` of every tenant; for an API token or a member of that tenant
    only.
    """
    registry = CollectorRegistry()
    try:
        registry.register(_Gauges(_whose(request)))
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
    except AuthenticationFailed as error:
        return HttpResponse(
            f"{error.detail}\n", status=401, content_type="text/plain", headers={"WWW-Authenticate": "Bearer"}
        )
    except NotPermitted as error:
        return HttpResponse(f"{error}\n", status=403, content_type="text/plain")
    except (DatabaseError, InterfaceError):
        return HttpResponse("database unavailable\n", status=503, content_type="text/plain")


def _whose(request: HttpRequest) -> str | None:
    """The tenant whose numbers the caller may read, None for all. Raises AuthenticationFailed or NotPermitted."""
    scheme, _, given = get_authorization_header(request).partition(b" ")
    wanted = os.environ.get("ANSWERABLE_METRICS_TOKEN", "").encode()
    if scheme.lower() == b"bearer" and wanted and secrets.compare_digest(given.strip(), wanted):
        return None
    if (found := BearerToken().authenticate(request)) is not None:
        viewer = found[0]
    elif request.user.is_superuser and request.user.is_active:
        configuration.refuse_if_differs(None, ("user", request.user.pk))
        return None
    else:
        viewer = viewer_of(request.user) if request.user.is_authenticated else None
    if viewer is None:
        raise AuthenticationFailed("sign in, or give a token: ANSWERABLE_METRICS_TOKEN, or one of the API")
    viewer.must(WHOLE)
    return viewer.tenant.name
