"""Notice: look at incidents that were written, or whose time has come, and write down who is to be told of them.

Nothing is sent here. What a channel is told is fixed when it is sent (send.py), so that all that comes within WINDOW is
one alert; and only what is more than it was told then is news (core.alert.news). That somebody took an incident up, or
closed it, is told to channels with a state of their own (PagerDuty, webhooks), and only of incidents that they were
told of.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction

from auditlog.alerts.channels import wanted
from auditlog.alerts.facts import facts_of
from auditlog.core.alert.news import SOON, Facts, baseline, ends_of, news_of, told_in
from auditlog.models import Alert, AlertChannel, AlertLook, AlertTold, Incident, IncidentStep, Tenant

log = structlog.get_logger()
ROUND = 50  # incidents
AGAIN = timedelta(minutes=1)  # after a fault of ours
WINDOW = timedelta(seconds=20)  # what comes within it is one alert
Kind, State = Alert.Kind, Alert.State
WITH_STATE = (AlertChannel.Kind.PAGERDUTY, AlertChannel.Kind.WEBHOOK)


def is_due(*, now: datetime) -> bool:
    return AlertLook.objects.filter(due_at__lte=now).exists()


@transaction.atomic
def notice(*, now: datetime, limit: int = ROUND, tenant: Tenant | None = None) -> int:
    """One round. Returns how many incidents it looked at; 0 when there is nothing to look at, or another is at it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext('answerable.alert-notice'))")
        if not cursor.fetchone()[0]:
            return 0
    by_tenant = _take(now=now, limit=limit, tenant=tenant)
    for tenant_id, ids in by_tenant.items():
        channels = AlertChannel.objects.select_related("tenant", "escalate_to").filter(tenant=tenant_id)
        channels = list(channels.filter(state=AlertChannel.State.ON).order_by("id"))
        if channels:
            _look_at_all(Tenant.objects.get(pk=tenant_id), channels, ids, now=now)
    return sum(map(len, by_tenant.values()))


def _take(*, now: datetime, limit: int, tenant: Tenant | None) -> dict[int, set[int]]:
    only = "AND tenant_id = %(tenant)s" if tenant else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM alert_look WHERE id IN (SELECT id FROM alert_look WHERE due_at <= %(now)s {only}"
            " ORDER BY due_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED) RETURNING tenant_id, incident_id",
            {"now": now, "limit": limit, "tenant": tenant.pk if tenant else None},
        )
        found: dict[int, set[int]] = defaultdict(set)
        for tenant_id, incident_id in cursor.fetchall():
            found[tenant_id].add(incident_id)
    return found


def _look_at_all(tenant: Tenant, channels: Sequence[AlertChannel], ids: Collection[int], *, now: datetime) -> None:
    """All at once; where that fails, one by one, so that one incident which cannot be read holds up no other."""
    try:
        with transaction.atomic():
            _look(tenant, channels, ids, now=now)
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # whatever it is: one incident that cannot be read holds up no other
        if len(ids) > 1:
            for id in ids:
                _look_at_all(tenant, channels, [id], now=now)
            return
        log.exception("not looked at for news", tenant=tenant.name, incident=list(ids))
        AlertLook.objects.bulk_create(AlertLook(tenant=tenant, incident_id=id, due_at=now + AGAIN) for id in ids)


def _look(tenant: Tenant, channels: Sequence[AlertChannel], ids: Collection[int], *, now: datetime) -> None:
    rows = list(Incident.objects.filter(tenant=tenant, pk__in=ids).order_by("id"))
    told = {(one.channel_id, one.incident_id): one for one in _locked(tenant, ids)}
    facts = facts_of(tenant, rows)
    for row in rows:
        for channel in channels:
            known = told.get((channel.pk, row.pk))
            _tell(channel, row, facts[row.pk], known, now=now)
        _plan(tenant, row, facts[row.pk], now=now)


def _locked(tenant: Tenant, ids: Collection[int]) -> list[AlertTold]:
    return list(AlertTold.objects.select_for_update().filter(tenant=tenant, incident__in=ids).order_by("id"))


def _tell(channel: AlertChannel, row: Incident, facts: Facts, known: AlertTold | None, *, now: datetime) -> None:
    if known is None:
        if row.opened_at < channel.since and facts.is_open:
            AlertTold.objects.create(
                tenant=channel.tenant, channel=channel, incident=row, data=baseline(facts).as_json()
            )
        elif wanted(channel).takes(facts) and news_of(None, facts, now=now):
            ask(channel, row, now=now)
        return
    if not facts.is_open:
        _over(channel, row, known, now=now)
        return
    if wanted(channel).takes(facts) and news_of(told_in(known.data), facts, now=now):
        ask(channel, row, now=now)
    if facts.has_owner and not known.is_taken and known.told_at is not None and told_in(known.data).is_open:
        known.is_taken = True
        known.save(update_fields=["is_taken"])
        _say(channel, row, Kind.ACKNOWLEDGED, now=now)
    if known.is_taken and not facts.has_owner:
        known.is_taken = False
        known.save(update_fields=["is_taken"])
    _escalate(channel, row, known, now=now)


def ask(channel: AlertChannel, row: Incident, *, now: datetime, escalated_from: str = "") -> None:
    """Have a channel told, once for all that comes until it is."""
    # Locked: one that is just being fixed is waited for, and what came since is told by another.
    waiting = Alert.objects.select_for_update().filter(channel=channel, incident=row, kind=Kind.NEWS, body="", news=[])
    alert = waiting.filter(state__in=[State.WAITING, State.HELD]).first()
    if alert is None:
        alert = Alert.objects.create(
            tenant=channel.tenant, channel=channel, incident=row, kind=Kind.NEWS, created_at=now, due_at=now + WINDOW
        )
    elif alert.state == State.HELD:  # perhaps it is bad enough now
        Alert.objects.filter(pk=alert.pk).update(state=State.WAITING, due_at=now + WINDOW)
    if escalated_from and not alert.escalated_from:
        Alert.objects.filter(pk=alert.pk).update(escalated_from=escalated_from)


def _over(channel: AlertChannel, row: Incident, known: AlertTold, *, now: datetime) -> None:
    """It is no longer open: once it is again, that is news."""
    if not told_in(known.data).is_open:
        return
    known.data = {**known.data, "is_open": False}
    known.is_taken, known.asked_at, known.escalated_at = False, None, None
    known.save(update_fields=["data", "is_taken", "asked_at", "escalated_at"])
    if known.told_at is not None:
        _say(channel, row, Kind.RESOLVED, now=now)


def _say(channel: AlertChannel, row: Incident, kind: str, *, now: datetime) -> None:
    if channel.kind in WITH_STATE:
        Alert.objects.create(
            tenant=channel.tenant, channel=channel, incident=row, kind=kind, created_at=now, due_at=now
        )


# --- nobody took it up ------------------------------------------------------------------------------------------------


def _escalate(channel: AlertChannel, row: Incident, known: AlertTold, *, now: datetime) -> None:
    """Nobody owns it, and nobody did anything with it, since the channel was told: another is told. Once, until it
    opens again.
    """
    other, minutes = channel.escalate_to, channel.escalate_minutes
    if other is None or minutes is None or known.asked_at is None or known.escalated_at is not None:
        return
    if now < (due := known.asked_at + timedelta(minutes=minutes)):
        look_at(channel.tenant, row, due)
        return
    if is_taken_up(row, since=known.asked_at):
        return
    known.escalated_at = now
    known.save(update_fields=["escalated_at"])
    if other.state == AlertChannel.State.ON:
        ask(other, row, now=now, escalated_from=channel.name)


def is_taken_up(row: Incident, *, since: datetime) -> bool:
    """Somebody owns it, or wrote to it or judged one of its findings since."""
    if row.owner or IncidentStep.objects.filter(incident=row, at__gte=since).exclude(by="").exists():
        return True
    places = row.places.filter(stands=True, finding__triage__at__gte=since)
    return places.exists()


def _plan(tenant: Tenant, row: Incident, facts: Facts, *, now: datetime) -> None:
    """Look again when an end is near. The next one is enough: at that look the one after it is planned."""
    near = [end - SOON for end in ends_of(facts) if end - SOON > now]
    if facts.is_away and facts.away_until is not None and facts.away_until > now:
        near.append(facts.away_until)
    if facts.is_open and near:
        look_at(tenant, row, min(near))


def look_at(tenant: Tenant, row: Incident, at: datetime) -> None:
    if not AlertLook.objects.filter(tenant=tenant, incident_id=row.pk, due_at=at).exists():
        AlertLook.objects.create(tenant=tenant, incident_id=row.pk, due_at=at)
