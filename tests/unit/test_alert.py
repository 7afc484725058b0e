"""Alerts, pure: what is news, when it is quiet, and that what each kind of channel is sent has the shape that it publishes.

Slack: docs.slack.dev/reference/block-kit/blocks/header-block and .../section-block; how much all blocks may hold together is on none
of its pages, and is taken from slackapi/bolt-js issue 2509. PagerDuty: PagerDuty/developer-docs, docs/events-API-v2/02-Trigger-Events.md.
"""

import json
import re
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.alert.hours import QuietHours, quiet_until
from auditlog.core.alert.message import Entry, Message, counts, escaped, mail, pagerduty, slack, webhook
from auditlog.core.alert.news import Facts, Told, Wanted, after, baseline, news_of, told_in

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HOSTILE = "<!channel> *bold* <https://evil.example|click> & \u202egnp.exe\r\nBcc: victim@example.org"
KEY = "R" * 32


def facts(**more):
    values = {
        "ref": "INC-000012", "severity": "high", "findings": 5, "events": 12, "is_open": True, "over": {"EUR": 4_000},
        "rules": ("spend.retry_loop",), "desks": ("finance",), "title": HOSTILE, "principal": "https://id.example|ada", "actors": (HOSTILE,),
    }  # fmt: skip
    return Facts(**values | more)


def message(kind="news", *, of=(None,), with_texts=False, **more):
    entries = tuple(
        Entry(
            each or facts(**more),
            news_of(None, each or facts(**more), now=NOW),
            "https://a.example/incidents/INC-000012/",
        )
        for each in of
    )
    entries = () if kind.startswith("test") else entries
    return Message(kind, "key-1", "acme", "oncall", NOW, "https://a.example/alerts/", entries, 0, with_texts)


def whats(told, now=NOW, escalated_from="", **more):
    return [each.what for each in news_of(told, facts(**more), now=now, escalated_from=escalated_from)]


# --- news ---------------------------------------------------------------------------------------------------------------


def test_an_incident_is_news_once_and_then_only_what_is_more_than_was_told():
    assert whats(None) == ["opened"]
    told = after(None, facts(), now=NOW)
    assert whats(told) == []
    assert whats(told, findings=9, over={"EUR": 7_999}) == []
    assert whats(told, findings=10) == ["findings"]
    assert whats(told, over={"EUR": 8_000}) == ["money"]
    assert whats(told, over={"EUR": 4_000, "USD": 1}) == ["money"]
    assert whats(told, severity="critical") == ["severity"]
    assert whats(told, severity="low", findings=1, over={}) == []
    assert whats(told, escalated_from="first") == ["escalated"]


def test_what_is_closed_is_no_news_and_open_again_it_is():
    assert whats(None, is_open=False) == [] == whats(None, is_open=False, escalated_from="x")
    told = after(None, facts(), now=NOW)
    assert whats(Told(told.severity, told.findings, False, told.over)) == ["reopened"]


def test_each_end_of_the_time_to_undo_is_announced_once():
    soon = NOW + timedelta(hours=20)
    assert whats(None, undo_until=NOW + timedelta(hours=30)) == ["opened"]
    assert whats(None, undo_until=NOW - timedelta(hours=1)) == ["opened"]
    told = after(None, facts(), now=NOW)
    assert whats(told, undo_until=soon) == ["due_soon"]
    told = after(told, facts(undo_until=soon), now=NOW)
    assert whats(told, undo_until=soon) == []
    assert whats(told, undo_until=soon + timedelta(hours=1)) == ["due_soon"]
    assert after(told, facts(undo_until=None), now=NOW).undo_told == soon


def test_an_incident_that_was_there_before_is_told_of_only_as_it_grows():
    assert whats(baseline(facts())) == [] and whats(baseline(facts()), findings=10) == ["findings"]


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60))
def test_however_an_incident_grows_its_alerts_are_as_many_as_it_doubles(sizes):
    told, alerts, largest = None, 0, 0
    for size in sizes:
        largest = max(largest, size)  # it never shrinks
        now = facts(findings=largest, over={"EUR": largest})
        if news_of(told, now, now=NOW):
            alerts, told = alerts + 1, after(told, now, now=NOW)
            assert not news_of(told, now, now=NOW)

    assert alerts <= 1 + 2 * 31


@given(
    st.builds(
        Told, st.sampled_from(["info", "high"]), st.integers(0, 10**6), st.booleans(),
        st.dictionaries(st.text(max_size=5), st.integers(0, 10**30), max_size=3), st.none() | st.datetimes(timezones=st.just(UTC)),
    )
)  # fmt: skip
def test_what_a_channel_knows_is_kept_as_it_was(told):
    assert told_in(json.loads(json.dumps(told.as_json()))) == told


def test_a_channel_takes_what_is_bad_enough_for_its_desks_and_an_unknown_amount_reaches_no_least_amount():
    assert Wanted("high").takes(facts()) and not Wanted("critical").takes(facts())
    assert Wanted(desks=("finance", "abuse")).takes(facts()) and not Wanted(desks=("abuse",)).takes(facts())
    assert Wanted(least_minor=4_000, currency="EUR").takes(facts())
    assert not Wanted(least_minor=4_001, currency="EUR").takes(facts())
    assert not Wanted(least_minor=0, currency="USD").takes(facts())


# --- quiet hours --------------------------------------------------------------------------------------------------------

BERLIN = ZoneInfo("Europe/Berlin")


def berlin(*at, fold=0):
    return datetime(*at, tzinfo=BERLIN, fold=fold).astimezone(UTC)


def test_quiet_hours_go_over_midnight():
    hours = QuietHours(BERLIN, time(22), time(7))

    assert quiet_until(None, NOW) is None
    assert quiet_until(hours, berlin(2026, 11, 20, 21, 59)) is None
    assert quiet_until(hours, berlin(2026, 11, 20, 22, 0)) == berlin(2026, 11, 21, 7, 0)
    assert quiet_until(hours, berlin(2026, 11, 21, 3, 0)) == berlin(2026, 11, 21, 7, 0)
    assert quiet_until(hours, berlin(2026, 11, 21, 7, 0)) is None


def test_the_days_are_those_on_which_they_begin():
    friday = QuietHours(BERLIN, time(22), time(7), frozenset({4}))

    assert quiet_until(friday, berlin(2026, 11, 21, 3, 0)) == berlin(2026, 11, 21, 7, 0)  # Saturday, begun on Friday
    assert quiet_until(friday, berlin(2026, 11, 21, 23, 0)) is None
    assert quiet_until(friday, berlin(2026, 11, 20, 3, 0)) is None  # Friday, begun on Thursday


def test_hours_that_touch_are_one_and_a_weekend_is_two_whole_days():
    weekend = QuietHours(BERLIN, time(0), time(0), frozenset({5, 6}))

    assert quiet_until(weekend, berlin(2026, 11, 21, 9, 0)) == berlin(2026, 11, 23, 0, 0)
    assert QuietHours(BERLIN, time(0), time(0)).never_end and not weekend.never_end


def test_a_night_in_which_clocks_change_is_quiet_by_the_wall_and_an_hour_that_comes_twice_is_quiet_twice():
    hours = QuietHours(BERLIN, time(22), time(7))
    assert quiet_until(hours, berlin(2026, 3, 28, 23, 0)) == datetime(2026, 3, 29, 5, 0, tzinfo=UTC)  # 8 hours
    assert quiet_until(hours, berlin(2026, 10, 24, 23, 0)) == datetime(2026, 10, 25, 6, 0, tzinfo=UTC)  # 10 hours

    twice = QuietHours(BERLIN, time(1), time(2, 30))
    assert quiet_until(twice, berlin(2026, 10, 25, 2, 15, fold=0)) == berlin(2026, 10, 25, 2, 30, fold=1)
    assert quiet_until(twice, berlin(2026, 10, 25, 2, 45, fold=0)) == berlin(2026, 10, 25, 2, 30, fold=1)
    assert quiet_until(twice, berlin(2026, 10, 25, 2, 30, fold=1)) is None

    skipped = QuietHours(BERLIN, time(2, 30), time(4))  # 02:30 is 03:30 that night
    assert quiet_until(skipped, datetime(2026, 3, 29, 1, 15, tzinfo=UTC)) is None
    assert quiet_until(skipped, datetime(2026, 3, 29, 1, 45, tzinfo=UTC)) == datetime(2026, 3, 29, 2, 0, tzinfo=UTC)


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)), st.times(), st.times(),
    st.frozensets(st.integers(0, 6), min_size=1, max_size=6), st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"]),
)  # fmt: skip
def test_when_they_end_it_is_not_quiet_any_more(at, begins, ends, days, zone):
    hours = QuietHours(ZoneInfo(zone), begins.replace(fold=0), ends.replace(fold=0), days)
    until = quiet_until(hours, at)

    if until is not None:
        assert at < until <= at + timedelta(days=8) and quiet_until(hours, until) is None


def test_quiet_hours_that_end_in_the_hour_that_is_skipped_last_until_the_one_after_it():
    hours = QuietHours(BERLIN, time(22), time(2, 30))
    assert quiet_until(hours, berlin(2026, 3, 28, 23, 0)) == berlin(2026, 3, 29, 3, 30)
    inside = QuietHours(BERLIN, time(1, 45), time(2, 15))
    assert quiet_until(inside, berlin(2026, 3, 29, 1, 50)) == berlin(2026, 3, 29, 3, 15)


def test_each_end_of_the_time_to_undo_is_told_once_and_an_end_that_was_moved_anew():
    first, last = NOW + timedelta(hours=5), NOW + timedelta(days=3)
    ends = {"undo_until": last, "undo_ends": (first, last)}
    [news] = news_of(after(None, facts(), now=NOW), facts(**ends), now=NOW)
    told = after(None, facts(**ends), now=NOW)

    assert news.what == "due_soon" and news.words == "Some of it can be undone until 2026-11-20 17:00 UTC"
    assert whats(told, **ends) == [] == whats(told, now=first + timedelta(hours=1), **ends)
    assert whats(told, now=last - timedelta(hours=2), **ends) == ["due_soon"]
    assert whats(after(told, facts(**ends), now=last - timedelta(hours=2)), now=last - timedelta(hours=1), **ends) == []
    assert whats(told, undo_until=first - timedelta(hours=1)) == ["due_soon"]


# --- Slack --------------------------------------------------------------------------------------------------------------


def texts(body):
    for block in body["blocks"]:
        yield block["type"], block["text"]


def slack_shape(body):
    """The published shape of what an incoming webhook takes, as far as we use it."""
    assert set(body) <= {"text", "blocks", "unfurl_links", "unfurl_media"} and 1 <= len(body["blocks"]) <= 50
    assert sum(len(text["text"]) for _, text in texts(body)) <= 12_000
    for kind, text in texts(body):
        assert kind in ("header", "section") and 1 <= len(text["text"]) <= (150 if kind == "header" else 3_000)
        assert text["type"] in ("plain_text", "mrkdwn") and (kind != "header" or text["type"] == "plain_text")
        assert set(text) <= {"type", "text"} | ({"emoji"} if text["type"] == "plain_text" else {"verbatim"})
    json.dumps(body)


@pytest.mark.parametrize("kind", ["news", "test"])
def test_slack_is_sent_text_and_blocks(kind):
    body = slack(message(kind))

    slack_shape(body)
    assert ("TEST" in body["text"]) == (kind == "test")
    if kind == "news":
        assert "INC-000012" in body["text"] and "40.00 EUR too much" in body["text"]


def test_slack_is_told_what_agents_wrote_only_if_asked_for_and_then_as_plain_text():
    assert "evil" not in json.dumps(slack(message()))
    body = slack(message(with_texts=True))

    slack_shape(body)
    hostile = [text for _, text in texts(body) if "evil" in text["text"]]
    assert len(hostile) == 1 and hostile[0]["type"] == "plain_text" and "evil" not in body["text"]
    assert "<" not in hostile[0]["text"] and "⟨U+202E⟩" in hostile[0]["text"] and "\r" not in hostile[0]["text"]


def test_a_summary_of_many_incidents_with_long_texts_stays_under_what_slack_takes_and_counts_the_rest():
    many = tuple(
        facts(ref=f"INC-{n:06d}", title="x" * 500, principal="y" * 500, actors=("z" * 500,)) for n in range(20)
    )
    body = slack(message("summary", of=many, with_texts=True))

    slack_shape(body)
    named = len(set(re.findall(r"\|INC-0000\d\d", json.dumps(body["blocks"]))))
    assert 3 <= named < 20 and f"and {20 - named} more" in body["blocks"][-1]["text"]["text"]
    assert len(slack(message("summary", of=many[:3], with_texts=False))["blocks"]) == 4


def test_a_currency_is_a_senders_word_too():
    body = slack(message(over={"<!here>": 1, "*x*\nInjected": 2}))
    [news] = news_of(Told("high", 5, True), facts(over={"x\nInjected": 2}), now=NOW)

    assert (
        "\n" not in news.words
        and not re.search(r"<(?!https://a\.example/)", json.dumps(body))
        and "\nInjected" not in json.dumps(body)
    )


@given(st.text(), st.integers(2, 400))
def test_what_is_escaped_makes_no_mention_and_no_entity_is_cut(text, longest):
    found = escaped(text, longest)

    assert len(found) <= longest and not set("<>") & set(found)
    assert re.sub(r"&(amp|lt|gt);", "", found).count("&") == 0
    whole = found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert whole == text or (whole.endswith("…") and text.startswith(whole[:-1]))


@given(st.text(max_size=4_000), st.text(max_size=4_000), st.text(min_size=1, max_size=30), st.booleans())
def test_whatever_agents_write_each_body_keeps_its_shape(title, principal, currency, with_texts):
    told = message(title=title, principal=principal, over={currency: 7}, actors=(title,), with_texts=with_texts)

    slack_shape(slack(told))
    links = re.findall(r"<[^>]*>", "".join(text["text"] for _, text in texts(slack(told)) if text["type"] == "mrkdwn"))
    assert links == ["<https://a.example/incidents/INC-000012/|INC-000012>"]
    pagerduty_shape(pagerduty(told, KEY))
    json.dumps(webhook(told))
    subject, text = mail(told)
    assert subject.isprintable() and len(subject) <= 180
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


# --- PagerDuty ----------------------------------------------------------------------------------------------------------


def pagerduty_shape(body):
    """Events API v2: what it requires, and how long it may be."""
    assert len(body["routing_key"]) == 32 and body["event_action"] in ("trigger", "acknowledge", "resolve")
    assert 1 <= len(body["dedup_key"]) <= 255
    if body["event_action"] != "trigger":
        assert set(body) == {"routing_key", "event_action", "dedup_key"}
        return
    assert set(body) <= {
        "routing_key",
        "event_action",
        "dedup_key",
        "payload",
        "links",
        "images",
        "client",
        "client_url",
    }
    payload = body["payload"]
    assert {"summary", "severity", "source"} <= set(payload) <= {
        "summary", "severity", "source", "timestamp", "component", "group", "class", "custom_details",
    }  # fmt: skip
    assert 1 <= len(payload["summary"]) <= 1_024 and payload["severity"] in ("critical", "error", "warning", "info")
    assert datetime.fromisoformat(payload["timestamp"]).tzinfo and len(json.dumps(body)) < 512 * 1024
    assert all(set(link) == {"href", "text"} for link in body["links"])


@pytest.mark.parametrize(
    ("severity", "theirs"), [("critical", "critical"), ("high", "error"), ("medium", "warning"), ("low", "info")]
)
def test_pagerduty_is_triggered_by_the_incidents_reference(severity, theirs):
    body = pagerduty(message(severity=severity), KEY)

    pagerduty_shape(body)
    assert body["event_action"] == "trigger" and body["dedup_key"] == "acme/INC-000012"
    assert body["payload"]["severity"] == theirs and "evil" not in json.dumps(body)
    assert body["payload"]["custom_details"]["findings"] == 5
    assert "evil" in json.dumps(pagerduty(message(with_texts=True), KEY))


@pytest.mark.parametrize(
    ("kind", "action"),
    [("acknowledged", "acknowledge"), ("resolved", "resolve"), ("test", "trigger"), ("test_over", "resolve")],
)
def test_pagerduty_is_told_who_took_it_and_that_it_is_over_under_the_same_key(kind, action):
    body = pagerduty(message(kind), KEY)

    pagerduty_shape(body)
    assert body["event_action"] == action
    assert body["dedup_key"] == ("acme/test/oncall" if kind.startswith("test") else "acme/INC-000012")


# --- webhook and mail ---------------------------------------------------------------------------------------------------


def test_a_webhook_is_sent_type_timestamp_and_data():
    body = webhook(message())

    assert set(body) == {"type", "timestamp", "data"} and body["type"] == "incident.alert"
    incident = body["data"]["incident"]
    assert incident["ref"] == "INC-000012" and incident["news"] == [{"what": "opened", "text": "New incident"}]
    assert incident["too_much"] == [{"currency": "EUR", "amount_minor": 4_000}] and "title" not in incident
    assert "title" in webhook(message(with_texts=True))["data"]["incident"]
    assert webhook(message("test"))["type"] == "test"


def test_a_mail_is_one_line_and_plain_text_in_which_nobody_forges_a_header():
    subject, text = mail(message(with_texts=True))

    assert subject == "[Answerable acme] INC-000012, high: New incident"
    assert "\nBcc:" not in text and "⟨U+000D⟩" in text and "https://a.example/incidents/INC-000012/" in text
    assert "evil" not in "".join(mail(message()))


def test_an_amount_that_nobody_stated_is_unknown_and_not_nothing():
    assert counts(facts(over={})) == "5 findings on 12 acts; money at risk unknown"
    assert counts(facts(findings=1, events=1)) == "1 finding on 1 act; 40.00 EUR too much"


def test_a_summary_names_each_incident_and_counts_those_that_it_does_not():
    many = tuple(facts(ref=f"INC-{n:06d}") for n in range(20))
    told = message("summary", of=many)
    told = Message(told.kind, told.id, told.tenant, told.channel, told.at, told.link, told.entries, 7, False)

    assert "27 incidents are still open" in slack(told)["text"]
    slack_shape(slack(told))
    assert "INC-000019" in mail(told)[1] and "and 7 more" in mail(told)[1]
    assert len(webhook(told)["data"]["incidents"]) == 20 and webhook(told)["data"]["more"] == 7
