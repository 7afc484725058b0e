"""Filters of the API's lists: one name a query parameter, exact values, times in ISO 8601 or as NumericDate."""

from datetime import UTC, datetime
from typing import Any

import django_filters
from django.core.exceptions import ValidationError
from django.db.models import Exists, Model, OuterRef, QuerySet
from django.forms import CharField
from django.utils.dateparse import parse_date, parse_datetime
from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from auditlog.core import holding
from auditlog.core.text import number
from auditlog.models import Event, Finding, Holding
from auditlog.reads.sight import under_grant
from auditlog.reads.standing import LIVE


class MomentField(CharField):
    """`2026-11-21T10:00:00Z`, `2026-11-21` (its beginning, UTC) or seconds since 1970."""

    def clean(self, value):
        text = super().clean(value)
        if not text:
            return None
        try:
            at = parse_datetime(text.replace(" ", "+"))
            if at is None and (day := parse_date(text)) is not None:
                at = datetime(day.year, day.month, day.day, tzinfo=UTC)
            if at is None:
                at = datetime.fromtimestamp(float(text), tz=UTC)
            return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        except (ValueError, OverflowError, OSError):
            raise ValidationError(f"expected a time such as 2026-11-21T10:00:00Z, found {text[:40]!r}") from None


class MomentFilter(django_filters.Filter):
    field_class = MomentField


def _exact(name: str) -> django_filters.CharFilter:
    return django_filters.CharFilter(field_name=name, lookup_expr="exact")


class EventFilter(django_filters.FilterSet):
    type = _exact("type")
    verb = _exact("verb")
    outcome = _exact("outcome")
    environment = _exact("environment")
    principal = _exact("principal")
    actor = _exact("actor")
    provider = _exact("provider")
    account = _exact("account")
    target = _exact("target")
    grant = django_filters.CharFilter(method="under_grant")
    token = _exact("token")
    txn = _exact("txn")
    session = _exact("session")
    task = _exact("task")
    charge = _exact("charge")
    invoice = _exact("invoice")
    request_id = _exact("request_id")
    ip = _exact("ip")
    source = _exact("source")
    source_event_id = _exact("source_event_id")
    since = MomentFilter(field_name="occurred_at", lookup_expr="gte")
    until = MomentFilter(field_name="occurred_at", lookup_expr="lt")

    class Meta:
        model = Event
        fields: list[str] = []

    def under_grant(self, rows, name, value):
        return under_grant(self.request.viewer, rows, value)


class FindingFilter(django_filters.FilterSet):
    rule = _exact("rule")
    severity = django_filters.ChoiceFilter(choices=Finding.Severity.choices)
    state = django_filters.ChoiceFilter(choices=Finding.State.choices)
    principal = _exact("principal")
    since = MomentFilter(field_name="detected_at", lookup_expr="gte")

    class Meta:
        model = Finding
        fields: list[str] = []


class HoldingFilter(django_filters.FilterSet):
    provider = _exact("provider")
    kind = django_filters.ChoiceFilter(choices=[(kind, kind) for kind in holding.KINDS])
    account = _exact("account")
    id = _exact("id")
    live = django_filters.ChoiceFilter(choices=[("true", "true"), ("false", "false")], method="only_live")
    actor = django_filters.CharFilter(method="made_by")
    principal = django_filters.CharFilter(method="made_for")

    class Meta:
        model = Holding
        fields: list[str] = []

    def only_live(self, rows, name, value):
        return rows.filter(LIVE) if value == "true" else rows.exclude(LIVE)

    def made_by(self, rows, name, value):
        return self._made(rows, actor=value)

    def made_for(self, rows, name, value):
        return self._made(rows, principal=value)

    def _made(self, rows, **who):
        """By the acts that made them: whose name they were in may change when a chain is completed."""
        acts = Event.objects.filter(
            tenant=OuterRef("tenant"), generation=OuterRef("generation"), event_id=OuterRef("event_id"), **who
        )
        return rows.filter(Exists(acts))


def before_number(request: Request, found: QuerySet[Any], size: int) -> tuple[list[Model], str | None]:
    """The page that `?before=` asks for, and the address of the next one with whatever else was asked, or None."""
    if before := request.query_params.get("before", ""):
        if (last := number(before, digits=9)) is None:
            raise ParseError("before: expected a number")
        found = found.filter(number__lt=last)
    rows = list(found[: size + 1])
    if len(rows) <= size:
        return rows, None
    query = request.query_params.copy()
    query["before"] = str(rows[size - 1].number)
    return rows[:size], f"{request.build_absolute_uri(request.path)}?{query.urlencode()}"
