"""Are the sources heard: missing numbers, silence, wrong clocks, and leaves that no longer parse."""

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from auditlog.core.errors import ConfigurationError
from auditlog.custody.erase import erase
from auditlog.custody.inspect_log import inspect
from auditlog.detection.detect import detect
from auditlog.formats import set as set_format
from auditlog.ingest.receive import ingest
from auditlog.models import Dirty, Event, Finding, Leaf, ProjectionState, SequenceRun, Source, UnparsedLeaf
from auditlog.projection.project import project, rebuild
from auditlog.reads.source_facts import Missing, missing_by_source
from auditlog.sources.configure import add_key, add_source, promise_heartbeat, set_source_state
from auditlog.work.drive import drive_every_tenant, drive_tenant
from auditlog.work.health import gauges
from tests.deliveries import TOKEN, with_token
from tests.digests import AWS_JWK, digest_bundle
from tests.integration.test_inspect import desk as logged_in

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def desk(world):
    world.source("conductor", "https://conductor.example")
    world.configure("conductor")
    return world


def numbered(world, *numbers, stream="", **event):
    return [world.event("action.performed", sequence={"number": n, "stream": stream}, **event) for n in numbers]


def heartbeat(world, **event):
    return world.event("source.heartbeat", **event)


def settled(world, *, after=MINUTE):
    """Walk the road as of `after` the world's now, as beat does."""
    drive_tenant(world.tenant, now=lambda: world.now + after)


def found(world, rule):
    return list(Finding.objects.filter(tenant=world.row, rule=rule).exclude(state="withdrawn").order_by("id"))


def gaps_found(world):
    return [finding.evidence["numbers"] for finding in found(world, "integrity.source_gap")]


def everything(world):
    """All that was found of how sources are heard, in a form to compare."""
    rows = Finding.objects.filter(tenant=world.row, rule__startswith="integrity.").exclude(state="withdrawn")
    return sorted((f.rule, f.anchor, f.title, f.leaves, f.event_ids, f.severity) for f in rows)


# --- gaps ---------------------------------------------------------------------------------------------------------------


def test_numbers_that_do_not_come_are_found_after_the_grace_period_and_named(desk):
    desk.send(*numbered(desk, 1, 2, 3, 7, 9))

    settled(desk, after=9 * SECOND)
    assert gaps_found(desk) == []
    settled(desk, after=11 * SECOND)

    [finding] = found(desk, "integrity.source_gap")
    assert finding.title == "conductor has not sent 4 numbers 4 to 6, 8"
    assert finding.evidence["numbers"] == [[4, 6], [8, 8]] and finding.evidence["missing"] == 4
    assert len(finding.event_ids) == 2  # those that showed it


def test_numbers_that_come_late_take_the_ground_away_and_name_the_leaf_that_did(desk):
    desk.send(*numbered(desk, 1, 2, 5))
    settled(desk)
    desk.send(*numbered(desk, 3), now=desk.now + MINUTE)
    settled(desk, after=2 * MINUTE)
    assert gaps_found(desk) == [[[4, 4]]]

    [last] = desk.send(*numbered(desk, 4), now=desk.now + 2 * MINUTE)
    settled(desk, after=2 * MINUTE)

    assert gaps_found(desk) == []
    withdrawn = Finding.objects.get(tenant=desk.row, rule="integrity.source_gap")
    assert withdrawn.state == "withdrawn" and withdrawn.withdrawn_by_leaf == last.leaf_index
    assert SequenceRun.objects.filter(tenant=desk.row).count() == 1


def test_the_numbers_of_a_busy_day_in_any_order_in_two_streams_and_twice_are_no_gap(desk):
    one, two = numbered(desk, *range(40, 60), stream="one"), numbered(desk, *range(20), stream="two")
    desk.send(*one[10:], *two[::2], *one[:10], *two[1::2], *one[:3], *numbered(desk, 45, stream="one"))
    desk.send(*(desk.event("action.performed") for _ in range(3)))
    settled(desk)

    assert gaps_found(desk) == []
    assert not Dirty.objects.filter(tenant=desk.row, kind="sequence").exists()


def test_a_gap_in_another_hour_is_another_finding_and_a_heartbeat_shows_what_was_lost_last(desk):
    desk.send(*numbered(desk, 1, 3))
    desk.send(heartbeat(desk, sequence={"number": 6}), now=desk.now + 2 * HOUR)
    settled(desk, after=3 * HOUR)

    assert gaps_found(desk) == [[[2, 2]], [[4, 5]]]


def test_numbers_among_erased_payloads_are_not_called_lost(desk):
    appended = desk.send(*numbered(desk, 1, 2, 3, 4))
    erase(desk.row, [appended[1].leaf_index], who="dpo", why="asked to", policy="p", now=desk.now)
    settled(desk)

    [finding] = found(desk, "integrity.source_gap")
    assert finding.severity == "info" and "erased payloads" in finding.title


@pytest.mark.parametrize(
    "bad", [{"number": -1}, {"number": 2**53}, {"number": 1.5}, {"stream": "x"}, {"number": 1, "stream": "x" * 121}]
)
def test_a_number_that_is_none_is_refused(desk, bad):
    assert "sequence" in str(desk.refused(desk.event("action.performed", sequence=bad)))


# --- digest files that name the one before them ---------------------------------------------------------------------------


@pytest.fixture
def trail(world, monkeypatch):
    """Posts digest files of an AWS trail, each as of the world's now and some hours."""
    monkeypatch.setenv("TEST_TRAIL_TOKEN", TOKEN)
    source = add_source(
        world.row,
        "aws",
        format="cloudtrail",
        issuer="https://aws.example",
        secret_env="TEST_TRAIL_TOKEN",
        now=world.now,
    )
    add_key(source, AWS_JWK, now=world.now)

    def post(*bundles, after=timedelta(0)):
        for bundle in bundles:
            ingest(world.tenant, "aws", with_token(json.dumps(bundle).encode()), now=world.now + after)

    return post


def test_a_digest_file_that_was_removed_between_two_is_found_once_it_is_late_and_not_when_it_comes(trail, world):
    trail(digest_bundle(hour=0), digest_bundle(hour=1), digest_bundle(hour=4))

    settled(world, after=59 * MINUTE)
    assert gaps_found(world) == []
    settled(world, after=61 * MINUTE)

    [finding] = found(world, "integrity.source_gap")
    assert finding.title == (
        "aws has not sent number 20261121000131 (and whatever lies between it and 20261120220131)"
        " of 111122223333_CloudTrail-Digest_us-east-2_trail_us-east-2"
    )
    trail(digest_bundle(hour=3), after=2 * HOUR)
    settled(world, after=4 * HOUR)
    assert [numbers[-1][1] for numbers in gaps_found(world)] == [
        20261120230131
    ]  # and the one before that is still missing
    trail(digest_bundle(hour=2), after=4 * HOUR)
    settled(world, after=6 * HOUR)
    assert gaps_found(world) == []


def test_before_the_first_digest_file_after_the_last_and_between_two_chains_nothing_is_called_removed(trail, world):
    trail(digest_bundle(hour=5), digest_bundle(hour=6), digest_bundle(hour=30, first=True), digest_bundle(hour=31))
    trail(digest_bundle(hour=9, trail="another"), digest_bundle(hour=6, kind="_backfill"))
    settled(world, after=9 * HOUR)

    assert gaps_found(world) == [] and missing_by_source(world.row) == {}
    trail(digest_bundle(hour=33), after=9 * HOUR)
    settled(world, after=11 * HOUR)
    assert missing_by_source(world.row) == {"aws": Missing(1, 1)} and len(gaps_found(world)) == 1
    before = everything(world)
    rebuild(world.row, now=world.now + 11 * HOUR)
    settled(world, after=11 * HOUR)
    assert everything(world) == before


# --- silence ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def promised(desk):
    promise_heartbeat(Source.objects.get(tenant=desk.row, name="conductor"), 60, now=desk.now)
    return desk


def test_a_source_that_promised_to_be_heard_and_is_not_is_found_by_beat_and_withdrawn_when_it_speaks(quiet, promised):
    desk = promised
    [last] = desk.send(heartbeat(desk))
    settled(desk, after=SECOND)
    drive_every_tenant(now=lambda: desk.now + 69 * SECOND)
    assert found(desk, "integrity.source_silent") == []

    drive_every_tenant(now=lambda: desk.now + 71 * SECOND)

    [finding] = found(desk, "integrity.source_silent")
    assert finding.leaves == [last.leaf_index] and finding.event_ids == [last.event_id]
    assert (
        finding.title
        == f"conductor promised to be heard every 60 s, and nothing came from it since leaf {last.leaf_index}"
    )
    [spoke] = desk.send(desk.event("action.performed"), now=desk.now + 5 * MINUTE)  # any word will do
    settled(desk, after=5 * MINUTE)
    finding.refresh_from_db()
    assert finding.state == "withdrawn" and finding.withdrawn_by_leaf == spoke.leaf_index
    drive_every_tenant(now=lambda: desk.now + 7 * MINUTE)
    assert len(found(desk, "integrity.source_silent")) == 1  # and again when it falls silent again


def test_a_source_heard_every_minute_is_not_silent_and_leaves_one_look_planned(promised):
    desk = promised
    for minute in range(6):
        desk.send(heartbeat(desk), now=desk.now + minute * MINUTE)
        settled(desk, after=minute * MINUTE + SECOND)

    assert not Finding.objects.filter(tenant=desk.row).exists()
    assert Dirty.objects.filter(tenant=desk.row, kind="silence").count() <= 2


def test_a_source_that_was_never_heard_at_all_is_silent_too(promised):
    settled(promised, after=SECOND)
    settled(promised, after=2 * MINUTE)

    [finding] = found(promised, "integrity.source_silent")
    assert finding.title.endswith("nothing came from it ever") and finding.leaves == []


def test_a_source_that_promised_nothing_or_is_suspended_may_be_silent(promised):
    desk = promised
    source = Source.objects.get(tenant=desk.row, name="conductor")
    desk.source("quiet", "https://quiet.example")
    desk.send(heartbeat(desk), desk.event("action.performed", source="quiet"))
    settled(desk, after=2 * MINUTE)
    assert len(found(desk, "integrity.source_silent")) == 1

    set_source_state(source, "suspended", now=desk.now + 2 * MINUTE)
    settled(desk, after=3 * MINUTE)
    assert found(desk, "integrity.source_silent") == []
    settled(desk, after=HOUR)
    assert found(desk, "integrity.source_silent") == []  # nor later: we refuse what it says
    set_source_state(source, "active", now=desk.now + HOUR)
    settled(desk, after=HOUR + MINUTE)
    assert found(desk, "integrity.source_silent") == []  # it has a minute from now on
    promise_heartbeat(source, None, now=desk.now + HOUR)
    settled(desk, after=9 * HOUR)
    assert found(desk, "integrity.source_silent") == []


def test_the_promise_is_configured_by_command_and_stands_in_the_log(desk, tmp_path):
    call_command("source", "heartbeat", "conductor", "30", "--tenant", desk.tenant)
    assert Source.objects.get(tenant=desk.row, name="conductor").heartbeat_seconds == 30
    with pytest.raises((CommandError, ConfigurationError)):
        call_command("source", "heartbeat", "conductor", "-5", "--tenant", desk.tenant)
    call_command("source", "heartbeat", "conductor", "0", "--tenant", desk.tenant)

    assert Source.objects.get(tenant=desk.row, name="conductor").heartbeat_seconds is None
    add_source(
        desk.row,
        "hooks",
        format="stripe",
        issuer="https://s.example",
        secret_env="X",
        heartbeat_seconds=9,
        now=desk.now,
    )
    assert Dirty.objects.filter(tenant=desk.row, kind="silence", key='["hooks"]').exists()


# --- clocks -------------------------------------------------------------------------------------------------------------


def dated(world, *, off, receipts, **event):
    """Events whose `iat` is `off` from their receipt; when they happened says something else entirely."""
    for at in receipts:
        world.issued_at = world.now + at + off
        world.send(world.event("action.performed", at=world.now - timedelta(days=300), **event), now=world.now + at)
    world.issued_at = None


def test_a_statement_from_the_future_is_a_wrong_clock_counted_by_source_key_and_hour(desk):
    dated(desk, off=5 * MINUTE, receipts=[n * SECOND for n in range(3)])
    dated(desk, off=timedelta(0), receipts=[n * SECOND for n in range(4)])
    dated(desk, off=2 * HOUR, receipts=[HOUR])
    settled(desk, after=2 * HOUR)

    first, second = found(desk, "integrity.clock_skew")
    assert first.title == "conductor dated 3 of 7 statements ahead of their receipt, by up to 5 minutes"
    assert (first.severity, second.severity) == ("medium", "high")
    assert Leaf.objects.get(tenant=desk.row, leaf_index=first.leaves[0]).event_id == first.event_ids[0]


def test_a_steady_delay_over_many_minutes_is_a_clock_that_runs_behind(desk):
    dated(desk, off=-timedelta(days=1), receipts=[3 * n * MINUTE for n in range(6)])
    settled(desk, after=HOUR)

    [finding] = found(desk, "integrity.clock_skew")
    assert "1 day" in finding.title or "24 hours" in finding.title


def test_a_backlog_a_slow_queue_a_second_or_two_and_acts_of_long_ago_are_no_wrong_clock(desk):
    desk.source("backfill", "https://backfill.example")
    desk.source("queue", "https://queue.example")
    for day in range(20):  # a year's backlog in one go
        dated(desk, off=-timedelta(days=day), receipts=[SECOND], source="backfill")
    for n in range(12):  # a queue that runs fuller and fuller
        dated(desk, off=-(10 + n) * MINUTE, receipts=[3 * n * MINUTE], source="queue")
    dated(desk, off=30 * SECOND, receipts=[n * MINUTE for n in range(20)])
    settled(desk, after=2 * HOUR)

    assert found(desk, "integrity.clock_skew") == []


def test_a_statement_in_time_takes_the_ground_from_a_clock_that_seemed_behind(desk):
    dated(desk, off=-HOUR, receipts=[3 * n * MINUTE for n in range(6)])
    settled(desk, after=30 * MINUTE)
    assert len(found(desk, "integrity.clock_skew")) == 1

    dated(desk, off=timedelta(0), receipts=[31 * MINUTE])
    settled(desk, after=HOUR)

    assert found(desk, "integrity.clock_skew") == []


def test_our_own_clock_set_back_a_day_shows_as_every_source_from_the_future(desk):
    desk.source("other", "https://other.example")
    for name in ("conductor", "other"):
        desk.send(desk.event("action.performed", source=name), now=desk.now - timedelta(days=1))
    settled(desk)

    assert {finding.evidence["source"] for finding in found(desk, "integrity.clock_skew")} == {"conductor", "other"}


# --- all of them --------------------------------------------------------------------------------------------------------


def a_bad_day(world):
    """Gaps that stay and gaps that close, clocks ahead and behind, in two sources."""
    world.source("other", "https://other.example")
    sent = []
    for minute, numbers in enumerate([(1, 2, 5), (9, 3), (4, 12), (6,), (7, 8), (20,)]):
        world.issued_at = world.now + minute * MINUTE + (HOUR if minute == 2 else timedelta(0))
        sent += [(signed, minute * MINUTE) for signed in numbered(world, *numbers)]
        world.issued_at = world.now - HOUR + 3 * minute * MINUTE
        sent.append(
            (
                world.event("action.performed", source="other", sequence={"number": 2 * minute, "stream": "s"}),
                3 * minute * MINUTE,
            )
        )
    world.issued_at = None
    return sent


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_batches_and_a_rebuild_change_nothing_of_what_is_found(desk, batch):
    for signed, at in a_bad_day(desk):
        desk.send(signed, now=desk.now + at)
    later = desk.now + HOUR
    while project(desk.row, now=later, limit=batch) or detect(desk.row, now=later, limit=batch):
        pass
    incremental = everything(desk)
    runs = list(
        SequenceRun.objects.filter(tenant=desk.row)
        .order_by("source", "stream", "first")
        .values_list("source", "stream", "first", "last", "events", "leaf_index")
    )

    rebuild(desk.row, now=later)
    settled(desk, after=HOUR)

    assert everything(desk) == incremental and len(incremental) >= 3
    assert runs == list(
        SequenceRun.objects.filter(tenant=desk.row)
        .order_by("source", "stream", "first")
        .values_list("source", "stream", "first", "last", "events", "leaf_index")
    )
    assert {rule for rule, *_ in incremental} == {"integrity.source_gap", "integrity.clock_skew"}


def test_found_while_it_happens_or_afterwards_in_one_go_is_the_same(desk, request):
    for signed, at in a_bad_day(desk):
        desk.send(signed, now=desk.now + at)
        settled(desk, after=at)
    settled(desk, after=HOUR)
    step_by_step = everything(desk)

    Finding.objects.filter(tenant=desk.row).delete()
    rebuild(desk.row, now=desk.now + HOUR)
    settled(desk, after=HOUR)

    assert everything(desk) == step_by_step


def test_the_integrity_page_shows_which_sources_are_late_silent_or_have_gaps(promised):
    desk = promised
    desk.send(*numbered(desk, 1, 4))
    settled(desk, after=5 * MINUTE)

    [health] = inspect(desk.row, now=desk.now + 5 * MINUTE).sources
    assert health.late == 4 * MINUTE and health.missing.numbers == 2 and health.heard.events == 2
    assert {finding.rule for finding in health.found} == {"integrity.source_gap", "integrity.source_silent"}
    text = logged_in(desk, "auditor").get("/integrity/").content.decode()
    assert "<strong>late</strong>" in text and "every 60 s" in text and "has not sent 2 numbers 2 to 3" in text
    [gap] = found(desk, "integrity.source_gap")
    page = logged_in(desk, "security").get(f"/findings/{gap.pk}/").content.decode()
    assert "have them sent again" in page  # the rule's runbook


# --- leaves that no longer parse ----------------------------------------------------------------------------------------


@pytest.fixture
def unreadable(desk, monkeypatch):
    """Three events, the second of which the parser of today falls over."""
    good, bad, better = (desk.event("action.performed") for _ in range(3))
    appended = desk.send(good, bad, better)
    real = set_format.parse

    def parse(raw, headers, sender):
        if bytes(raw) == bad.raw:
            raise IndexError("list index out of range <b>")
        return real(raw, headers, sender)

    monkeypatch.setattr(set_format, "parse", parse)
    desk.bad = appended[1]
    return desk


def test_a_leaf_that_no_longer_parses_is_left_out_kept_counted_and_shown_and_stops_nobody(unreadable):
    desk = unreadable
    settled(desk)

    assert Event.objects.filter(tenant=desk.row).count() == 2
    assert (
        ProjectionState.objects.get(tenant=desk.row, is_current=True).position
        == Leaf.objects.filter(tenant=desk.row).count()
    )
    [left_out] = UnparsedLeaf.objects.filter(tenant=desk.row)
    assert (left_out.leaf_index, left_out.source) == (desk.bad.leaf_index, "conductor")
    text = logged_in(desk, "auditor").get("/integrity/").content.decode()
    assert (
        "Leaves that no longer parse" in text
        and str(desk.bad.event_id) in text
        and "IndexError" in text
        and "<b>" not in text
    )
    assert ("answerable_unparsed_leaves", {"tenant": desk.tenant, "source": "conductor"}, 1) in [
        (name, labels, value) for name, _, labels, value in gauges(desk.now)
    ]
    assert Leaf.objects.filter(tenant=desk.row, leaf_index=desk.bad.leaf_index).exists()


def test_a_rebuild_with_a_parser_that_reads_it_brings_it_back(unreadable, monkeypatch):
    settled(unreadable)
    rebuild(unreadable.row, now=unreadable.now)
    assert UnparsedLeaf.objects.filter(tenant=unreadable.row).count() == 1

    monkeypatch.undo()
    rebuild(unreadable.row, now=unreadable.now)

    assert not UnparsedLeaf.objects.filter(tenant=unreadable.row).exists()
    assert Event.objects.filter(tenant=unreadable.row).count() == 3


def test_a_rebuild_that_reads_more_takes_the_ground_from_what_was_missing(desk, monkeypatch):
    one, two, three = numbered(desk, 1, 2, 3)
    real = set_format.parse
    monkeypatch.setattr(set_format, "parse", lambda raw, *more: 1 / 0 if bytes(raw) == two.raw else real(raw, *more))
    desk.send(one, two, three)
    settled(desk)
    assert gaps_found(desk) == [[[2, 2]]]

    monkeypatch.undo()
    rebuild(desk.row, now=desk.now + MINUTE)
    settled(desk, after=2 * MINUTE)

    assert gaps_found(desk) == []


def test_a_leaf_whose_content_the_tables_do_not_take_is_found_among_thousands_and_left_out(desk, monkeypatch):
    signed = [desk.event("action.performed") for _ in range(40)]
    appended = desk.send(*signed)
    real = set_format.parse

    def parse(raw, headers, sender):
        event = real(raw, headers, sender)
        # As another format's parser might give it: half a character, which no encoding has.
        return (
            event.__class__(**{f: getattr(event, f) for f in event.__struct_fields__} | {"txn": "\ud800"})
            if bytes(raw) == signed[17].raw
            else event
        )

    monkeypatch.setattr(set_format, "parse", parse)
    settled(desk)

    assert Event.objects.filter(tenant=desk.row).count() == 39
    [left_out] = UnparsedLeaf.objects.filter(tenant=desk.row)
    assert left_out.leaf_index == appended[17].leaf_index
