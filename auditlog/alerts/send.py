"""Send: fix what an alert says, write that down, and then send it; and again later where it fails.

What a channel is told of an incident, and that it knows it from then on, are one transaction, before the call: so no
news goes out twice as two alerts. Whoever dies between the two leaves the message with its key, and it is sent again,
the same: PagerDuty and webhooks know it by that key, mail by its Message-ID; Slack has nothing of the kind, and may
show it twice.

In quiet hours an alert is held; when they end, one summary says what of it is still open and new. PagerDuty keeps a
state for each incident, and is told of each.
"""

import json
import smtplib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F, Min, Q

from auditlog.alerts.channels import has_mail, quiet_hours, recipients, secret_of, wanted
from auditlog.alerts.facts import facts_of
from auditlog.alerts.notice import look_at
from auditlog.core.alert import message as told_as
from auditlog.core.alert.hours import quiet_until
from auditlog.core.alert.message import Entry, Message
from auditlog.core.alert.news import Facts, News, after, news_of, told_in
from auditlog.core.errors import AnswerableError, ConfigurationError, NotConfigured, NotPossible, UnexpectedAnswer
from auditlog.core.text import visible
from auditlog.core.wire.request import Request, Response
from auditlog.formats.standard_webhooks import signature
from auditlog.models import Alert, AlertChannel, AlertTold, Incident
from auditlog.reads.access import Viewer
from auditlog.sources import configuration, outbound
from auditlog.sources.pull import alone

log = structlog.get_logger()
BOUNDS = outbound.Bounds(connect=3.0, read=8.0, total=10.0, size=64 * 1024)
PAGERDUTY = "https://events.pagerduty.com"
GIVEN_UP = timedelta(hours=24)
WAITS = (2, 5, 15, 60, 300, 900, 3_600)  # seconds; the last one again and again
MOST = 20  # of one channel in one round
REFUSED = (400, 401, 403, 404, 410, 413, 422)  # said no for good
Kind, State = Alert.Kind, Alert.State
TESTS = (Kind.TEST, Kind.TEST_OVER)
DUE = Q(state__in=[State.WAITING, State.FAILED, State.HELD])


def due_channels(*, now: datetime) -> list[int]:
    """Channels that have something to be sent, the longest waiting first."""
    due = Alert.objects.filter(DUE, due_at__lte=now, channel__state=AlertChannel.State.ON)
    return list(
        due.values("channel_id")
        .annotate(since=Min("due_at"))
        .order_by("since", "channel_id")
        .values_list("channel_id", flat=True)
    )


def send(channel_id: int, *, now: Callable[[], datetime], call: outbound.Call = outbound.call) -> int:
    """Send what one channel is owed. Returns how much it took. Does nothing while somebody else is at it."""
    channel = AlertChannel.objects.select_related("tenant").get(pk=channel_id)
    with alone(channel, "alert") as mine:
        if not mine:
            return 0
        try:
            configuration.refuse_if_differs(channel.tenant, ("alert channel", channel.pk))
            if configuration.binds(channel.tenant, ("alert channel", channel.pk)) is not None:
                return 0  # who is told is not published yet
        except AnswerableError as error:
            put_off(channel_id, str(error), now=now())
            return 0
        _end_of_quiet(channel, now=now())
        taken = 0
        for alert in _next(channel, now=now()):
            try:
                if not alert.body and not _fix(channel, alert, now=now()):
                    continue
                was_taken = _try(channel, alert, now=now, call=call)
            except (OperationalError, InterfaceError):
                raise
            except Exception as error:  # of ours: it holds up no other
                log.exception("alert not sent", tenant=channel.tenant.name, channel=channel.name, alert=alert.pk)
                Alert.objects.filter(pk=alert.pk).update(attempts=F("attempts") + 1)
                alert.refresh_from_db()
                _failed(alert, RuntimeError(f"a fault of ours, which is in our log: {type(error).__name__}"), now=now())
                continue
            taken += was_taken
            if not was_taken and Alert.objects.filter(pk=alert.pk, state=State.FAILED).exists():
                break  # whoever does not answer is not asked twenty times in a row
        return taken


def _next(channel: AlertChannel, *, now: datetime) -> list[Alert]:
    """What is due, in order; of one incident nothing overtakes what came before it."""
    open_ = Alert.objects.filter(channel=channel, state__in=[State.WAITING, State.FAILED]).order_by("id")
    found, held_up = [], set()
    for alert in open_.select_related("incident")[: MOST * 50]:
        if alert.due_at is not None and alert.due_at > now:
            held_up.add(alert.incident_id)
        elif alert.incident_id is None or alert.incident_id not in held_up:
            found.append(alert)
            held_up.add(alert.incident_id)
        if len(found) == MOST:
            break
    return found


# --- what it says -----------------------------------------------------------------------------------------------------


@transaction.atomic
def _fix(channel: AlertChannel, alert: Alert, *, now: datetime) -> bool:
    """Fix what an alert says, and what the channel knows with it. Returns whether it is to be sent now."""
    row = alert.incident
    known = _known(channel, row)
    alert = Alert.objects.select_for_update().get(pk=alert.pk)  # after what is known, as notice.py locks
    if alert.kind == Kind.SUMMARY:
        _write_again(
            channel, alert, [one.incident for one in alert.holds.select_related("incident").order_by("id")], now=now
        )
        return True
    if row is None or alert.kind in (Kind.ACKNOWLEDGED, Kind.RESOLVED):
        entries = [Entry(facts_of(channel.tenant, [row])[row.pk], (), link_to(row.ref))] if row is not None else []
        _write(channel, alert, entries, now=now)
        return True
    facts = facts_of(channel.tenant, [row])[row.pk]
    if alert.news:
        _write_again(channel, alert, [row], now=now)
        return True
    news = _news(channel, alert, facts, known, now=now)
    if not news:
        alert.state, alert.due_at, alert.answer = State.CANCELLED, None, "nothing of it was new any more"
        alert.save(update_fields=["state", "due_at", "answer"])
        return False
    until = quiet_until(quiet_hours(channel), now)
    if until is not None and not (channel.critical_passes and facts.severity == "critical"):
        alert.state, alert.due_at = State.HELD, until
        alert.save(update_fields=["state", "due_at"])
        return False
    _write(channel, alert, [Entry(facts, news, link_to(row.ref))], now=now)
    _knows(channel, row, facts, known, now=now)
    return True


def _known(channel: AlertChannel, row: Incident | None) -> AlertTold | None:
    return (
        AlertTold.objects.select_for_update().filter(channel=channel, incident=row).first() if row is not None else None
    )


def _news(
    channel: AlertChannel, alert: Alert, facts: Facts, known: AlertTold | None, *, now: datetime
) -> tuple[News, ...]:
    if not alert.escalated_from and not wanted(channel).takes(facts):
        return ()
    before = told_in(known.data) if known is not None else None
    return news_of(before, facts, now=now, escalated_from=alert.escalated_from)


def _write(channel: AlertChannel, alert: Alert, entries: list[Entry], *, now: datetime, more: int = 0) -> None:
    message = Message(
        alert.kind,
        alert.key,
        channel.tenant.name,
        channel.name,
        now,
        link_to(""),
        tuple(entries),
        more,
        channel.with_texts,
    )
    alert.body, alert.state = json.dumps(_body(channel, message)), State.WAITING
    if alert.kind not in TESTS:
        alert.due_at = now
    alert.news = (
        [f"{e.facts.ref}: {e.news[0].words if e.news else ''}" for e in entries]
        if alert.kind == Kind.SUMMARY
        else [each.words for entry in entries for each in entry.news]
    )
    alert.save(update_fields=["body", "state", "due_at", "news"])


def _write_again(channel: AlertChannel, alert: Alert, rows: list[Incident], *, now: datetime) -> None:
    """What it said was erased with what it rested on: it is put anew, as the incidents are now. The news is the same
    news.
    """
    words, facts = alert.news, facts_of(channel.tenant, rows)
    news = (
        tuple(News("again", str(each)) for each in words)
        if alert.kind == Kind.NEWS
        else (News("again", "Told before"),)
    )
    _write(
        channel,
        alert,
        [Entry(facts[row.pk], news, link_to(row.ref)) for row in rows[: told_as.LISTED]],
        now=now,
        more=max(0, len(rows) - told_as.LISTED),
    )
    if alert.kind == Kind.SUMMARY:
        Alert.objects.filter(pk=alert.pk).update(news=words)


def _knows(channel: AlertChannel, row: Incident, facts: Facts, known: AlertTold | None, *, now: datetime) -> None:
    """From now on the channel knows this; and somebody is waited for, where it escalates."""
    before = told_in(known.data) if known is not None else None
    begins = before is None or not before.is_open or (known is not None and known.told_at is None)
    if known is None:
        known = AlertTold(tenant=channel.tenant, channel=channel, incident=row)
    known.data, known.told_at = after(before, facts, now=now).as_json(), now
    if begins:
        known.asked_at, known.is_taken, known.escalated_at = now, False, None
    known.save()
    # For what came while it was fixed, that somebody owns it already, and when it is to be escalated.
    look_at(channel.tenant, row, now)


def _body(channel: AlertChannel, message: Message) -> dict[str, Any]:
    """As it is kept until it is sent: without what is secret."""
    if channel.kind == AlertChannel.Kind.SLACK:
        return told_as.slack(message)
    if channel.kind == AlertChannel.Kind.PAGERDUTY:
        return told_as.pagerduty(message, "")
    if channel.kind == AlertChannel.Kind.WEBHOOK:
        return told_as.webhook(message)
    subject, text = told_as.mail(message)
    return {
        "subject": subject,
        "text": text,
        "thread": message.entries[0].facts.ref if len(message.entries) == 1 else "",
    }


def link_to(ref: str) -> str:
    """An incident's page; without a reference, that of the channels."""
    return f"{settings.ISSUER}/incidents/{ref}/" if ref else f"{settings.ISSUER}/alerts/"


@transaction.atomic
def _end_of_quiet(channel: AlertChannel, *, now: datetime) -> None:
    """What was held and is still new is told at once: as one summary, where it is more than one incident."""
    if quiet_until(quiet_hours(channel), now) is not None:
        # The hours may have been changed meanwhile: then it is held until those end.
        Alert.objects.filter(channel=channel, state=State.HELD, due_at__lte=now).update(
            due_at=quiet_until(quiet_hours(channel), now)
        )
        return
    held = Alert.objects.filter(channel=channel, state=State.HELD).order_by("id")
    incidents = list(held.values_list("incident", flat=True))
    if not incidents:
        return
    known = {
        one.incident_id: one
        for one in AlertTold.objects.select_for_update().filter(channel=channel, incident__in=incidents).order_by("id")
    }
    alerts = list(held.select_for_update(of=("self",)).select_related("incident"))
    rows = [alert.incident for alert in alerts if alert.incident is not None]
    facts = facts_of(channel.tenant, rows)
    entries = []
    for alert, row in zip(alerts, rows, strict=True):
        news = _news(channel, alert, facts[row.pk], known.get(row.pk), now=now)
        if news:
            entries.append((alert, row, Entry(facts[row.pk], news, link_to(row.ref))))
    fresh = [alert.pk for alert, _, _ in entries]
    held.exclude(pk__in=fresh).update(state=State.CANCELLED, due_at=None, answer="over when the quiet hours ended")
    if len(entries) == 1 or channel.kind == AlertChannel.Kind.PAGERDUTY:
        held.filter(pk__in=fresh).update(state=State.WAITING, due_at=now)
        return
    if not entries:
        return
    entries.sort(key=lambda one: (-one[1].rank, one[1].number))
    summary = Alert.objects.create(
        tenant=channel.tenant, channel=channel, kind=Kind.SUMMARY, created_at=now, due_at=now
    )
    named = [entry for _, _, entry in entries[: told_as.LISTED]]
    _write(channel, summary, named, now=now, more=len(entries) - len(named))
    for _, row, entry in entries:
        _knows(channel, row, entry.facts, known.get(row.pk), now=now)
    held.filter(pk__in=fresh).update(state=State.SUMMED, due_at=None, summary=summary)


# --- to whom ----------------------------------------------------------------------------------------------------------


def _try(channel: AlertChannel, alert: Alert, *, now: Callable[[], datetime], call: outbound.Call) -> bool:
    """One try, with what became of it. Returns whether it was taken."""
    alert.refresh_from_db()
    alert.tried_at, alert.attempts = now(), alert.attempts + 1
    alert.save(update_fields=["tried_at", "attempts"])  # before the call: whoever dies in it has tried
    try:
        answer = _carry_out(channel, alert, now=now(), call=call)
    except AnswerableError as error:
        _failed(alert, error, now=now())
        log.warning("alert not taken", tenant=channel.tenant.name, channel=channel.name, reason=str(error)[:200])
        return False
    alert.state, alert.sent_at, alert.due_at, alert.body, alert.answer = State.SENT, now(), None, "", answer
    alert.save(update_fields=["state", "sent_at", "due_at", "body", "answer"])
    if alert.kind == Kind.TEST:
        AlertChannel.objects.filter(pk=channel.pk).update(tested_at=alert.sent_at)
    return True


def _carry_out(channel: AlertChannel, alert: Alert, *, now: datetime, call: outbound.Call) -> str:
    """What the other side said. Raises OutboundError."""
    said = json.loads(alert.body)
    if channel.kind == AlertChannel.Kind.MAIL:
        return _mail(channel, alert, said)
    request = request_of(channel, alert, said, now=now)
    answer = call(request, allow_private=channel.allow_private, bounds=BOUNDS)
    told = _told_by(answer)
    if not 200 <= answer.status < 300:
        raise UnexpectedAnswer(
            f"{request.host} answered {answer.status}, expected 2xx{': ' + told if told else ''}",
            status=answer.status,
            retry_after=answer.retry_after(now=now),
        )
    return f"{answer.status} {told}".strip()


def request_of(channel: AlertChannel, alert: Alert, said: dict[str, Any], *, now: datetime) -> Request:
    """What is sent. Raises NotConfigured where a secret is missing."""
    try:
        secret = secret_of(channel)
    except ConfigurationError as error:
        raise NotConfigured(str(error)) from None
    headers = {"Content-Type": "application/json"}
    if channel.kind == AlertChannel.Kind.SLACK:
        return Request(secret, "POST", json.dumps(said).encode(), headers)
    if channel.kind == AlertChannel.Kind.PAGERDUTY:
        base = (channel.address or PAGERDUTY).rstrip("/")
        return Request(f"{base}/v2/enqueue", "POST", json.dumps({**said, "routing_key": secret}).encode(), headers)
    body, at = json.dumps(said).encode(), str(int(now.timestamp()))
    headers |= {
        "webhook-id": alert.key,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{signature(secret.encode(), alert.key, at, body)}",
    }
    return Request(channel.address, "POST", body, headers)


def _told_by(answer: Response) -> str:
    """The beginning of an answer, as one line: Slack says `no_service`, PagerDuty a message. A stranger wrote it."""
    text = answer.body[:2_000].decode("utf-8", "replace").strip()
    try:
        said = json.loads(text)
        if isinstance(said, dict):
            text = str(said.get("message") or said.get("status") or "")
    except (ValueError, RecursionError):
        pass
    return visible(text)[:120]


def _mail(channel: AlertChannel, alert: Alert, said: dict[str, Any]) -> str:
    if not has_mail():
        raise NotConfigured("no mail server is configured where the service runs (ANSWERABLE_SMTP)")
    host = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].strip(">") or "answerable.invalid"
    headers = {"Message-ID": f"<{alert.key}@{host}>", "Auto-Submitted": "auto-generated"}
    if said["thread"]:
        headers["References"] = f"<{channel.tenant.name}.{said['thread']}@{host}>"  # mail programs show them together
    to = recipients(channel)
    try:
        with get_connection() as line:
            EmailMessage(
                said["subject"], said["text"], settings.DEFAULT_FROM_EMAIL, to, headers=headers, connection=line
            ).send()
    except smtplib.SMTPRecipientsRefused as error:
        codes = sorted({code for code, _ in error.recipients.values()})
        permanent = all(code >= 500 for code in codes)
        raise UnexpectedAnswer(
            f"the mail server refused the recipients: {codes}", status=422 if permanent else 0
        ) from None
    except smtplib.SMTPResponseException as error:
        raise UnexpectedAnswer(f"the mail server answered {error.smtp_code}") from None
    except (smtplib.SMTPException, OSError) as error:
        raise UnexpectedAnswer(f"the mail server did not take it: {type(error).__name__}") from None
    return f"the mail server took it for {len(to)} address{'es' if len(to) > 1 else ''}"


def _failed(alert: Alert, error: Exception, *, now: datetime) -> None:
    """Tried again soon, later each time; given up after a day, or where the other side says no for good."""
    alert.answer = str(error).replace("\x00", "")[:300]
    alert.due_at = now + outbound.wait_after(alert.attempts, error, WAITS)
    if alert.kind in TESTS or getattr(error, "status", 0) in REFUSED or now - alert.created_at > GIVEN_UP:
        alert.state, alert.due_at = State.DEAD, None
    else:
        alert.state = State.FAILED
    alert.save(update_fields=["answer", "due_at", "state"])


def put_off(channel_id: int, fault: str, *, now: datetime) -> None:
    """After a fault of ours: what is due waits a minute, and says why."""
    due = Alert.objects.filter(
        channel_id=channel_id, state__in=[State.WAITING, State.FAILED, State.HELD], due_at__lte=now
    )
    due.update(answer=fault[:300], due_at=now + timedelta(minutes=1))


# --- by hand ----------------------------------------------------------------------------------------------------------


def send_test(channel: AlertChannel, *, now: Callable[[], datetime], call: outbound.Call = outbound.call) -> Alert:
    """Send a marked test at once, whatever the hour, and say what came of it. One that fails is not tried again."""
    if channel.state != AlertChannel.State.ON:
        raise NotPossible(f"{channel.name} is off: switch it on first")
    configuration.refuse_unless_in_force(channel.tenant, ("alert channel", channel.pk))
    made = [_test(channel, Kind.TEST, now=now(), call=call)]
    if channel.kind == AlertChannel.Kind.PAGERDUTY and made[0].state == State.SENT:
        _test(channel, Kind.TEST_OVER, now=now(), call=call)  # nobody is left with an alert about nothing
    return made[0]


def _test(channel: AlertChannel, kind: str, *, now: datetime, call: outbound.Call) -> Alert:
    # Due for a worker only where this process dies.
    due = now + 6 * timedelta(seconds=BOUNDS.total)
    alert = Alert.objects.create(tenant=channel.tenant, channel=channel, kind=kind, created_at=now, due_at=due)
    _fix(channel, alert, now=now)
    _try(channel, alert, now=lambda: now, call=call)
    alert.refresh_from_db()
    return alert


@transaction.atomic
def resend(viewer: Viewer, alert: Alert, *, now: datetime) -> None:
    """Try anew what was given up, with the same key. Raises NotPermitted or NotPossible."""
    viewer.must("configure")
    held = Alert.objects.select_for_update().get(pk=alert.pk, tenant=viewer.tenant)
    if held.state != State.DEAD or held.kind in TESTS:
        raise NotPossible("only what was given up is sent again")
    if held.channel.state != AlertChannel.State.ON:
        raise NotPossible(f"{held.channel.name} is off: switch it on first")
    held.state, held.due_at, held.created_at, held.attempts = State.WAITING, now, now, 0
    held.save(update_fields=["state", "due_at", "created_at", "attempts"])
