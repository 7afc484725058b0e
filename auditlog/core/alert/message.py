"""An alert as each kind of channel is sent it: Slack, PagerDuty, a signed webhook, a mail.

Slack: `text` and `blocks` of an incoming webhook (docs.slack.dev/reference/block-kit/blocks): a header holds 150
characters, a text 3,000, a message 50 blocks; of `&`, `<` and `>` mentions and links are made, so they are escaped.
Slack also refuses a message whose blocks hold more than about 12,000 characters together (`msg_blocks_too_long`); no
page of its documentation says so, its people do in slackapi/bolt-js issue 2509. PagerDuty: Events API v2
(PagerDuty/developer-docs, docs/events-API-v2/02-Trigger-Events.md): a summary holds 1,024 characters, a dedup key 255,
an integration key 32, severity is one of four words.

What senders and agents wrote is hostile. It goes out only where the channel asks for it (`with_texts`), with hidden
characters written out, and to Slack only as plain text, in which nothing is formatted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from auditlog.core.alert.news import Facts, News
from auditlog.core.amount import amount_text
from auditlog.core.text import visible

HEADER, TEXT, SUMMARY, SUBJECT, DEDUP = 150, 3_000, 1_024, 180, 255  # characters
ALL_BLOCKS = 9_000  # characters of all blocks of a message: well under what Slack was seen to refuse
LISTED = 20  # incidents of a summary that are named
LONGEST = 500  # characters of a title or a party
TEST = "This is a test of an alert channel. Nothing happened."
ACTIONS = {
    "news": "trigger",
    "test": "trigger",
    "acknowledged": "acknowledge",
    "resolved": "resolve",
    "test_over": "resolve",
}
SEVERITIES = {
    "critical": "critical",
    "high": "error",
    "medium": "warning",
    "low": "info",
    "info": "info",
}  # PagerDuty's


@dataclass(frozen=True, slots=True)
class Entry:
    """One incident of an alert."""

    facts: Facts
    news: tuple[News, ...]
    link: str


@dataclass(frozen=True, slots=True)
class Message:
    """One alert to one channel. Only a summary has several entries; a test has none."""

    kind: str  # news | summary | test | test_over | acknowledged | resolved
    id: str  # the same whenever it is tried again
    tenant: str
    channel: str
    at: datetime
    link: str
    entries: tuple[Entry, ...] = ()
    more: int = 0  # incidents of a summary that are not named
    with_texts: bool = False


def headline(message: Message) -> str:
    """In words of ours alone."""
    if message.kind in ("test", "test_over"):
        return "TEST of an alert channel of Answerable"
    if message.kind == "summary":
        return f"{len(message.entries) + message.more:,} incidents are still open after the quiet hours"
    [entry] = message.entries
    what = {"acknowledged": "taken up", "resolved": "no longer open"}.get(message.kind, "") or entry.news[0].words
    return f"{entry.facts.ref}, {entry.facts.severity}: {what}"


def counts(facts: Facts) -> str:
    """`5 findings on 12 acts; 40.00 EUR too much`. An amount that nobody stated is not told as 0."""
    findings, acts = _many(facts.findings, "finding"), _many(facts.events, "act")
    over = [shown(amount_text(amount, currency)) for currency, amount in sorted(facts.over.items())]
    return f"{findings} on {acts}; {', '.join(over[:5]) + ' too much' if over else 'money at risk unknown'}"


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def shown(text: str, longest: int = LONGEST) -> str:
    """What somebody else wrote, as one line of which everything is seen."""
    return cut(visible(text), longest)


def cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _told(entry: Entry) -> list[tuple[str, str]]:
    """What senders and agents wrote of it, by label."""
    facts = entry.facts
    said = [("What happened", facts.title), ("Principal", facts.principal), ("Agents", ", ".join(facts.actors[:5]))]
    return [(label, shown(text)) for label, text in said if text]


# --- Slack ------------------------------------------------------------------------------------------------------------


def escaped(text: str, longest: int = TEXT) -> str:
    """For Slack: `&`, `<` and `>` as entities, of which none is cut in two."""
    whole = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if len(whole) <= longest:
        return whole
    found, size = [], 1
    for character in text:
        entity = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}.get(character, character)
        if size + len(entity) > longest:
            break
        found.append(entity)
        size += len(entity)
    return "".join(found) + "…"


def slack(message: Message) -> dict[str, Any]:
    head = headline(message)
    blocks: list[dict[str, Any]] = [{"type": "header", "text": _plain(head, HEADER)}]
    lines = [head]
    if message.kind in ("test", "test_over"):
        lines.append(TEST)
        blocks.append({"type": "section", "text": _plain(TEST)})
    size, more = 0, message.more
    for n, entry in enumerate(message.entries):
        news = ". ".join(each.words for each in entry.news)
        rules = ", ".join(entry.facts.rules[:5])
        line = f"{entry.facts.severity}: {news}. {counts(entry.facts)}. {rules}"
        words = f"<{entry.link}|{escaped(entry.facts.ref)}> {escaped(line, TEXT - 500)}"
        mine: list[dict[str, Any]] = [{"type": "section", "text": {"type": "mrkdwn", "text": words, "verbatim": True}}]
        if message.with_texts and (told := _told(entry)):
            mine.append({"type": "section", "text": _plain("\n".join(f"{label}: {text}" for label, text in told))})
        size += sum(len(block["text"]["text"]) for block in mine)
        if n and size > ALL_BLOCKS:
            more += len(message.entries) - n
            break
        lines.append(f"{entry.facts.ref}, {line}")
        blocks += mine
    if more:
        blocks.append({"type": "section", "text": _plain(f"and {more:,} more")})
    return {"text": escaped("\n".join(lines)), "blocks": blocks[:50], "unfurl_links": False, "unfurl_media": False}


def _plain(text: str, longest: int = TEXT) -> dict[str, Any]:
    return {"type": "plain_text", "text": escaped(text, longest), "emoji": False}


# --- PagerDuty --------------------------------------------------------------------------------------------------------


def dedup_key(message: Message) -> str:
    """Of an incident its reference, under its tenant: one integration may hear of several. Of a test its own."""
    return (
        f"{message.tenant}/{message.entries[0].facts.ref}"
        if message.entries
        else f"{message.tenant}/test/{message.channel}"
    )[:DEDUP]


def pagerduty(message: Message, routing_key: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": ACTIONS[message.kind],
        "dedup_key": dedup_key(message),
    }
    if body["event_action"] != "trigger":
        return body
    entry = message.entries[0] if message.entries else None
    payload: dict[str, Any] = {
        "summary": cut(f"{headline(message)}. {counts(entry.facts) if entry else TEST}", SUMMARY),
        "severity": SEVERITIES[entry.facts.severity] if entry else "info",
        "source": f"answerable/{message.tenant}",
        "timestamp": message.at.isoformat(),
        "custom_details": _entry_json(entry, message.with_texts) if entry else {"test": True},
    }
    if entry and entry.facts.rules:
        payload |= {"class": entry.facts.rules[0], "group": entry.facts.desks[0] if entry.facts.desks else "security"}
    link = {"href": entry.link if entry else message.link, "text": "Open it in Answerable"}
    return body | {"payload": payload, "links": [link], "client": "Answerable", "client_url": message.link}


# --- webhook ----------------------------------------------------------------------------------------------------------

TYPES = {
    "news": "incident.alert",
    "summary": "incidents.summary",
    "test": "test",
    "test_over": "test.over",
    "acknowledged": "incident.acknowledged",
    "resolved": "incident.resolved",
}


def webhook(message: Message) -> dict[str, Any]:
    """As Standard Webhooks has it: {type, timestamp, data}."""
    data: dict[str, Any] = {"tenant": message.tenant, "channel": message.channel}
    incidents = [_entry_json(entry, message.with_texts) for entry in message.entries]
    if message.kind == "summary":
        data |= {"incidents": incidents, "more": message.more}
    elif incidents:
        data |= {"incident": incidents[0]}
    else:
        data |= {"text": TEST}
    return {"type": TYPES[message.kind], "timestamp": message.at.isoformat(), "data": data}


def _entry_json(entry: Entry, with_texts: bool) -> dict[str, Any]:
    facts = entry.facts
    told: Mapping[str, Any] = {
        "ref": facts.ref,
        "severity": facts.severity,
        "news": [{"what": each.what, "text": each.words} for each in entry.news],
        "findings": facts.findings,
        "acts": facts.events,
        "rules": list(facts.rules[:20]),
        "desks": list(facts.desks),
        "link": entry.link,
        "too_much": [
            {"currency": shown(currency, 20), "amount_minor": amount}
            for currency, amount in sorted(facts.over.items())[:20]
        ],
        "undo_until": facts.undo_until.isoformat() if facts.undo_until else None,
    }
    if not with_texts:
        return dict(told)
    actors = [shown(actor) for actor in facts.actors[:5]]
    return {**told, "title": shown(facts.title), "principal": shown(facts.principal), "agents": actors}


# --- mail -------------------------------------------------------------------------------------------------------------


def mail(message: Message) -> tuple[str, str]:
    """Subject and plain text. The subject is one line, of words of ours alone."""
    lines = []
    if message.kind in ("test", "test_over"):
        lines.append(TEST)
    for entry in message.entries:
        lines += [
            f"{entry.facts.ref}, {entry.facts.severity}",
            *(f"  {each.words}" for each in entry.news),
            f"  {counts(entry.facts)}",
        ]
        lines.append(f"  Rules: {', '.join(entry.facts.rules[:20])}")
        if message.with_texts:
            lines += [f"  {label}: {text}" for label, text in _told(entry)]
        lines += [f"  {entry.link}", ""]
    if message.more:
        lines += [f"and {message.more:,} more", ""]
    lines += ["--", f"Alert channel {message.channel} of {message.tenant}, set on {message.link}"]
    return cut(visible(f"[Answerable {message.tenant}] {headline(message)}"), SUBJECT), "\n".join(lines) + "\n"
