"""How the pages write things: times, money, parties, and what is unknown."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from auditlog.core.money.money import amount_text
from auditlog.core.reading import Reading
from auditlog.core.text import visible
from auditlog.reads.access import STOP

register = template.Library()
_GRADES = {
    "A": "object signature: the statement itself is signed and stays checkable by anyone with the public key",
    "B": "asymmetric transport signature: the request was signed",
    "C": "shared-secret MAC: whoever holds the secret, sender or we, could have made it",
    "D": "authenticated channel: believed because of how it arrived",
    "E": "fetched by us from the provider",
    "F": "self-asserted: nobody but its author stands behind it",
}
_SEVERITY_SIGNS = {"critical": "◆", "high": "▲", "medium": "■", "low": "●", "info": "○"}


@register.filter
def shown(text) -> str:
    """A sender's text with hidden characters written out; the template escapes it."""
    return visible(str(text))


@register.filter
def shown_lines(text) -> str:
    """As `shown`, with the line breaks kept."""
    return "\n".join(visible(line) for line in str(text).split("\n"))


@register.filter
def safe_text(value) -> str:
    """A value or a list of them as one visible line; the template escapes it."""
    many = value if isinstance(value, (list, tuple)) else [value]
    return visible("; ".join(str(one) for one in many))


@register.simple_tag
def unknown(missing: str = "nobody stated it", word: str = "unknown") -> SafeString:
    """The hatched mark. `missing` says what is missing and who could supply it."""
    return format_html('<span class="unknown" title="{}">{}</span>', missing, word)


@register.simple_tag
def withheld(what: str = "not shown to an abuse desk") -> SafeString:
    """In the place of what the viewer may not read, whether or not there is something."""
    return format_html('<span class="quiet">{}</span>', what)


@register.filter
def readings(rows: Iterable[Reading]) -> list[Reading]:
    """Findings as the viewer reads them. Raises TypeError for a row of the table: nobody decided what of it may be
    read.
    """
    rows = list(rows)
    if strange := {type(row).__name__ for row in rows if not isinstance(row, Reading)}:
        raise TypeError(f"expected readings (auditlog.reads.read_findings), found {', '.join(strange)}")
    return rows


@register.simple_tag
def known(value, missing: str = "nobody stated it") -> SafeString:
    return format_html("<bdi>{}</bdi>", visible(str(value))) if value not in ("", None) else unknown(missing)


@register.filter
def when(at: datetime | None, precision: str = "seconds") -> SafeString:
    """A time in UTC. `app.js` adds the reader's own zone to the title."""
    if at is None:
        return unknown("no time was stated")
    at = at.astimezone(UTC)
    text = at.strftime("%Y-%m-%d %H:%M:%S")
    if precision == "full" and at.microsecond:
        text += f".{at.microsecond:06d}".rstrip("0")
    if precision == "minutes":
        text = text[:-3]
    return format_html(
        '<time datetime="{}" title="{} UTC">{}{}</time>', at.isoformat().replace("+00:00", "Z"),
        at.strftime("%A %Y-%m-%d %H:%M:%S.%f"), text, SafeString('<span class="zone"> UTC</span>'),
    )  # fmt: skip


@register.filter
def ago(at: datetime | None) -> SafeString:
    """How long ago, in the largest unit that fits."""
    if at is None:
        return format_html('<span class="quiet">never</span>')
    seconds = (timezone.now() - at) / timedelta(seconds=1)
    words, ahead = "just now", seconds < -1
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if abs(seconds) >= size:
            amount = f"{int(abs(seconds) // size)} {unit}"
            words = f"in {amount}" if ahead else f"{amount} ago"
            break
    stamp = at.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        stamp.isoformat().replace("+00:00", "Z"), stamp.strftime("%Y-%m-%d %H:%M:%S UTC"), words,
    )  # fmt: skip


@register.simple_tag
def money(amount_minor: int | None, currency: str, missing: str = "no amount was stated") -> SafeString:
    if amount_minor is None:
        return unknown(missing)
    return format_html('<span class="money">{}</span>', amount_text(amount_minor, currency or "?"))


@register.simple_tag
def party(key: str, claimed: bool = False, missing: str = "no source named a party") -> SafeString:
    """A party by its subject, its issuer small beneath; linked to its page."""
    if not key:
        return unknown(missing)
    if "|" not in key:  # a stub: see queries.conceal
        return format_html(
            '<span class="quiet" title="a party outside your provider; the same stub everywhere">{}</span>', key
        )
    iss, _, sub = key.partition("|")
    mark = SafeString(' <span class="claimed" title="named by the act alone; no grant proves it">claimed</span>')
    return format_html(
        '<span class="party"><a href="{}?{}" title="{}"><bdi>{}</bdi></a>{} <bdi class="iss">{}</bdi></span>',
        reverse("dashboard:parties"), urlencode({"key": key}), visible(key), visible(sub or key),
        mark if claimed else "", visible(_bare(iss)),
    )  # fmt: skip


def _bare(issuer: str) -> str:
    return issuer.removeprefix("https://").rstrip("/")


@register.simple_tag
def grant(grant_id: str, missing: str = "the event names no grant, and no token leads to one") -> SafeString:
    if not grant_id:
        return unknown(missing)
    return format_html(
        '<a class="id" href="{}"><bdi>{}</bdi></a>', reverse("dashboard:grant", args=[grant_id]), visible(grant_id)
    )


@register.simple_tag
def by(name: str, value: str, text: str = "") -> SafeString:
    """A value as a link to all events that share it."""
    if not value:
        return unknown(f"the event states no {name.replace('_', ' ')}")
    return format_html(
        '<a class="id" href="{}?{}"><bdi>{}</bdi></a>', reverse("dashboard:events"), urlencode({name: value}),
        visible(text or value),
    )  # fmt: skip


@register.filter
def said(mapping, name: str):
    """What a mapping says under a name; "" where it says nothing. For what may rightly be missing: else the name is
    misspelt.
    """
    return mapping.get(name, "")


@register.simple_tag
def event(event_id: UUID | str) -> SafeString:
    return format_html(
        '<a class="id" href="{}" title="{}">{}</a>', reverse("dashboard:event", args=[event_id]), event_id,
        str(event_id)[:8],
    )  # fmt: skip


@register.simple_tag
def severity(name: str) -> SafeString:
    return format_html(
        '<span class="severity severity-{}"><span aria-hidden="true">{}</span> {}</span>',
        name, _SEVERITY_SIGNS.get(name, ""), name,
    )  # fmt: skip


@register.filter
def grade_meaning(grade: str) -> str:
    return _GRADES.get(grade, "unknown grade")


@register.filter
def rate(events: int) -> str:
    """Events of a day, in the unit that makes a number one can grasp."""
    for seconds, unit in ((1, "s"), (60, "min"), (3_600, "h")):
        if (each := events * seconds / 86_400) >= 1:
            return f"{each:,.0f} / {unit}"
    return "under 1 / h"


@register.filter
def lag(pace) -> str:
    """Least to most time from a source's own clock to our receipt."""
    least, most = _span(pace.least_lag), _span(pace.most_lag)
    return least if least == most else f"{least} to {most}"


def _span(length: timedelta) -> str:
    seconds = length / timedelta(seconds=1)
    sign, seconds = ("−" if seconds < 0 else ""), abs(seconds)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{sign}{seconds / size:.0f} {unit}"
    return f"{sign}{seconds:.1f} s" if seconds < 10 else f"{sign}{seconds:.0f} s"


@register.filter
def percent(part: int, whole: int) -> str:
    return (
        f"{1000 * part // whole / 10:.1f} %" if whole else ""
    )  # rounded down: 100 % is said of nothing that lacks one


@register.filter
def words(name: str) -> str:
    return str(name).replace("_", " ")


@register.simple_tag(takes_context=True)
def here(context, **changes) -> str:
    """This page's address with some parameters changed; None takes one away."""
    query = context["request"].GET.copy()
    for name, value in changes.items():
        if value in (None, ""):
            query.pop(name, None)
        else:
            query[name] = value
    return f"?{query.urlencode()}" if query else context["request"].path


@register.filter
def pretty_size(size: int) -> str:
    return f"{size:,} bytes"


@register.simple_tag(takes_context=True)
def stop_link(context, kind: str, key: str, finding: int | None = None) -> SafeString:
    """Where a stop of this subject is pressed, for whoever may."""
    viewer = context.get("viewer")
    if not key or viewer is None or not viewer.may(STOP):
        return SafeString("")
    query = urlencode({"kind": kind, "key": key, **({"finding": finding} if finding else {})})
    words = {
        "party": "Stop this agent",
        "grant": "Stop this grant",
        "token": "Stop this token",
        "session": "Stop this session",
    }[kind]
    return format_html('<a class="stop" href="{}?{}">{}</a>', reverse("dashboard:stop_it"), query, words)
