"""Channels: who is told of which incidents, and when not. Every change is stated by a leaf: nobody listens unseen."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connection, transaction
from django.db.models import Count

from auditlog.core.alert.hours import QuietHours
from auditlog.core.alert.news import Wanted
from auditlog.core.errors import AddressRefused, ConfigurationError, NotFound, NotPossible, Refused
from auditlog.core.incident import DESKS
from auditlog.formats.standard_webhooks import signature
from auditlog.models import Alert, AlertChannel, Tenant
from auditlog.sources import configuration, outbound, sealed
from auditlog.sources.configure import OURS, checked
from auditlog.sources.source_secrets import source_secret

Kind, State = AlertChannel.Kind, AlertChannel.State
WITH_SECRET = (Kind.SLACK, Kind.PAGERDUTY, Kind.WEBHOOK)
MOST_ADDRESSES = 10
LONGEST_WAIT = 7 * 24 * 60  # minutes
CHANGEABLE = (
    "address",
    "severity",
    "desks",
    "least_minor",
    "currency",
    "with_texts",
    "quiet_zone",
    "quiet_from",
    "quiet_to",
    "quiet_days",
    "critical_passes",
    "escalate_minutes",
    "escalate_to",
    "allow_private",
    "state",
    "secret_env",
)
_ROUTING_KEY = re.compile(r"[A-Za-z0-9]{32}\Z")
_OPEN = "SELECT tenant_id, id, '1970-01-01Z' FROM incident WHERE tenant_id = %s AND state IN ('open', 'resolved')"

_AWAITED = (
    "SELECT tenant_id, incident_id, '1970-01-01Z' FROM alert_told WHERE tenant_id = %s AND channel_id = %s"
    " AND asked_at IS NOT NULL AND escalated_at IS NULL"
)


@transaction.atomic
def add(tenant: Tenant, name: str, *, kind: str, secret: str = "", now: datetime, **more: Any) -> AlertChannel:
    """A channel that hears of what opens from now on. `secret` is sealed under the name `secret_env`. Raises
    ConfigurationError.
    """
    if not more.get("secret_env") and kind in WITH_SECRET:
        more["secret_env"] = own_secret(name)
    channel = AlertChannel(tenant=tenant, name=name, kind=kind, since=now, **more)
    if AlertChannel.objects.filter(tenant=tenant, name=name).exists():
        raise ConfigurationError(f"there is an alert channel {name!r} already in tenant {tenant.name!r}")
    checked(channel)
    if secret:
        sealed.seal(tenant, channel.secret_env, secret.encode(), now=now)
    check(channel)
    channel.save()
    configuration.state(tenant, channel, {"change": "alert channel.added", "name": name, **_entered(secret)}, now=now)
    with connection.cursor() as cursor:  # what is open is known to it from now on: it hears of that as it grows
        cursor.execute(f"INSERT INTO alert_look (tenant_id, incident_id, due_at) {_OPEN}", [tenant.pk])
    return channel


@transaction.atomic
def change(channel: AlertChannel, *, secret: str = "", now: datetime, **more: Any) -> AlertChannel:
    """Raises ConfigurationError or NotPossible; nothing is changed then."""
    held = AlertChannel.objects.select_for_update(of=("self",)).select_related("tenant").get(pk=channel.pk)
    begins = more.get("state") == State.ON and held.state == State.OFF
    for name, value in more.items():
        if name not in CHANGEABLE:
            raise NotPossible(f"{name} of an alert channel is not changed: add another")
        setattr(held, name, value)
    checked(held)
    if secret:
        sealed.seal(held.tenant, held.secret_env, secret.encode(), now=now)
    check(held)
    fields = list(more)
    if begins:
        held.since = now
        fields.append("since")
    if fields or secret:
        held.save(update_fields=fields)
        said = {"change": "alert channel.changed", "name": held.name, **_entered(secret)}
        configuration.state(held.tenant, held, said, now=now)
    with connection.cursor() as cursor:  # when they are escalated may be another time
        cursor.execute(f"INSERT INTO alert_look (tenant_id, incident_id, due_at) {_AWAITED}", [held.tenant_id, held.pk])
    # What was held looks at the hours anew.
    Alert.objects.filter(channel=held, state=Alert.State.HELD).update(due_at=now)
    if held.state == State.OFF:
        over = Alert.objects.filter(channel=held, state__in=[Alert.State.WAITING, Alert.State.HELD, Alert.State.FAILED])
        over.update(state=Alert.State.CANCELLED, body="", due_at=None, answer="the channel was switched off")
    return held


@transaction.atomic
def remove(channel: AlertChannel, *, now: datetime) -> None:
    """Take it off, and what it was told with it. Its own secret is forgotten. Raises NotPossible while others escalate
    to it.
    """
    if (other := AlertChannel.objects.filter(tenant=channel.tenant, escalate_to=channel).first()) is not None:
        raise NotPossible(f"{other.name} escalates to {channel.name}: change that first")
    id, tenant, name = channel.pk, channel.tenant, channel.secret_env
    channel.delete()
    configuration.state(tenant, channel, {"change": "alert channel.removed", "name": channel.name}, now=now, id=id)
    if name == own_secret(channel.name) and not AlertChannel.objects.filter(tenant=tenant, secret_env=name).exists():
        for kept in (name, f"{name}_OLD"):
            try:
                sealed.remove(tenant, kept)
            except NotFound:
                continue


def check(channel: AlertChannel) -> None:
    """Whether it can be written to as it is configured. Raises ConfigurationError, without what is secret."""
    if channel.kind in WITH_SECRET:
        _check_secret(channel)
    if channel.kind == Kind.MAIL:
        _check_recipients(channel)
    elif channel.kind == Kind.SLACK and channel.address:
        raise ConfigurationError("address: Slack's lets anybody write there: enter it as the secret")
    elif channel.kind == Kind.WEBHOOK and not channel.address:
        raise ConfigurationError("address: a webhook is called at an https address")
    if channel.kind != Kind.MAIL and channel.address:
        _check_url(channel.address, "address")
    if unknown := [desk for desk in channel.desks if desk not in DESKS]:
        raise ConfigurationError(f"desks: {str(unknown[0])[:40]!r} is none; there are: {', '.join(DESKS)}")
    if (channel.least_minor is None) != (not channel.currency):
        raise ConfigurationError("a least amount is in a currency: expected both or none")
    if channel.least_minor is not None and channel.least_minor < 0:
        raise ConfigurationError("least_minor: expected 0 or more")
    _check_quiet(channel)
    _check_escalation(channel)


def _check_url(url: str, field: str) -> None:
    try:
        outbound.check_url(url)
    except AddressRefused as error:
        raise ConfigurationError(f"{field}: {error}") from None


def _check_secret(channel: AlertChannel) -> None:
    if OURS.match(channel.secret_env) or not sealed.NAME.match(channel.secret_env):
        raise ConfigurationError(
            f"secret_env: {channel.secret_env[:120]!r} is the service's own, or no name of a variable"
        )
    secret = secret_of(channel)
    if channel.kind == Kind.SLACK:
        _check_url(secret, "secret")
    elif channel.kind == Kind.PAGERDUTY and not _ROUTING_KEY.match(secret):
        raise ConfigurationError("secret: expected an integration key of Events API v2: 32 letters and digits")
    elif channel.kind == Kind.WEBHOOK:
        try:
            signature(secret.encode(), "id", "0", b"")
        except Refused:
            raise ConfigurationError("secret: expected one of Standard Webhooks: whsec_ and base64") from None


def _check_recipients(channel: AlertChannel) -> None:
    found = recipients(channel)
    if not 1 <= len(found) <= MOST_ADDRESSES:
        raise ConfigurationError(
            f"address: expected 1 to {MOST_ADDRESSES} mail addresses, with commas between, found {len(found)}"
        )
    for address in found:
        try:
            validate_email(address)
        except ValidationError:
            raise ConfigurationError(f"address: {address[:80]!r} is no mail address") from None


def _check_quiet(channel: AlertChannel) -> None:
    given = [bool(channel.quiet_zone), channel.quiet_from is not None, channel.quiet_to is not None]
    if any(given) and not all(given):
        raise ConfigurationError("quiet hours have a zone, a beginning and an end: expected all three or none")
    if not all(type(day) is int and 0 <= day <= 6 for day in channel.quiet_days):
        raise ConfigurationError("quiet_days: expected numbers from 0 (Monday) to 6")
    if not all(given):
        return
    try:
        hours = quiet_hours(channel)
    except (KeyError, ValueError, OSError):
        raise ConfigurationError(
            f"quiet_zone: {channel.quiet_zone[:64]!r} is no time zone, such as Europe/Berlin"
        ) from None
    if hours is not None and hours.never_end:
        raise ConfigurationError("quiet hours that never end: switch the channel off instead")


def _check_escalation(channel: AlertChannel) -> None:
    if (channel.escalate_minutes is None) != (channel.escalate_to is None):
        raise ConfigurationError("escalation: after how many minutes, and to which channel: expected both or none")
    if channel.escalate_to is None or channel.escalate_minutes is None:
        return
    if channel.escalate_to.tenant_id != channel.tenant_id or (channel.pk and channel.escalate_to.pk == channel.pk):
        raise ConfigurationError("escalate_to: expected another channel")
    if not 1 <= channel.escalate_minutes <= LONGEST_WAIT:
        raise ConfigurationError(f"escalate_minutes: expected 1 to {LONGEST_WAIT:,}")


def _entered(secret: str) -> dict[str, str]:
    """A leaf says that a secret was entered: of Slack it is where alerts go."""
    return {"secret": "entered"} if secret else {}


def own_secret(name: str) -> str:
    """The name under which a channel's secret is sealed."""
    return f"ALERT_{re.sub('[^A-Z0-9]', '_', name.upper())}"


def secret_of(channel: AlertChannel) -> str:
    """Raises ConfigurationError."""
    found = source_secret(channel.secret_env, channel.tenant) if channel.secret_env else None
    if not found:
        raise ConfigurationError(
            f"{channel.secret_env or 'the secret'} of alert channel {channel.name} is not set where the service runs"
        )
    return found.decode("latin-1").strip()


def recipients(channel: AlertChannel) -> list[str]:
    return [address.strip() for address in channel.address.split(",") if address.strip()]


def wanted(channel: AlertChannel) -> Wanted:
    return Wanted(channel.severity, tuple(channel.desks), channel.least_minor, channel.currency)


def quiet_hours(channel: AlertChannel) -> QuietHours | None:
    if not channel.quiet_zone or channel.quiet_from is None or channel.quiet_to is None:
        return None
    days = frozenset(channel.quiet_days) or frozenset(range(7))
    return QuietHours(ZoneInfo(channel.quiet_zone), channel.quiet_from, channel.quiet_to, days)


def has_mail() -> bool:
    """Whether the service has a mail server (ANSWERABLE_SMTP)."""
    return bool(settings.EMAIL_HOST)


def channels_of(tenant: Tenant) -> list[AlertChannel]:
    return list(AlertChannel.objects.filter(tenant=tenant).select_related("escalate_to", "tenant").order_by("name"))


def channel_of(tenant: Tenant, name: str) -> AlertChannel:
    found = AlertChannel.objects.select_related("tenant", "escalate_to").filter(tenant=tenant, name=name[:48]).first()
    if found is None:
        raise NotFound(f"no alert channel {name[:48]!r}")
    return found


def counts_of(tenant: Tenant) -> Mapping[int, dict[str, int]]:
    """By channel, how many alerts are in each state."""
    found: dict[int, dict[str, int]] = {}
    rows = Alert.objects.filter(tenant=tenant).values_list("channel_id", "state").annotate(count=Count("id"))
    for channel_id, state, count in rows.order_by("channel_id", "state"):
        found.setdefault(channel_id, {})[state] = count
    return found
