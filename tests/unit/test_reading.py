"""What an abuse desk reads of a finding, whatever a detector wrote into it."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.reading import Own, Reading, read_by_desk

AT = datetime(2026, 11, 20, tzinfo=UTC)
SECRET = "planted"  # in everything that is not the desk's own
PARTS = ("title", "money_at_risk", "shown", "uses")
declared = st.frozensets(st.sampled_from(PARTS))


def finding(events, **more):
    return Reading(
        **{
            "id": 1, "rule": "r", "rule_version": 1, "severity": "high", "state": "open", "title": f"{SECRET} title",
            "principal": f"{SECRET}|principal", "actor": f"{SECRET}|actor", "grant": f"{SECRET}-grant", "provider": "registrar",
            "events": tuple(events), "others": 0, "leaves": tuple(range(len(events))), "money_at_risk_minor": 777_777, "currency": "XTS",
            "first_at": AT - timedelta(days=777), "last_at": AT + timedelta(days=777), "detected_at": AT, "withdrawn_by_leaf": 777_777,
            "evidence": {"shown": f"{SECRET} shown", "uses": f"{SECRET} uses", "other": f"{SECRET} other"},
        } | more
    )  # fmt: skip


def desk_reads(whole, own, of_events, seen=frozenset(), withdrawn_by_own=False):
    def written(key):
        return key if not key or key in seen else "hidden-1"

    return read_by_desk(
        whole, own=own, withdrawn_by_own=withdrawn_by_own, title="general", of_events=of_events, written=written
    )


def own_of(numbers):
    return [
        Own(f"event-{number}", number, AT + timedelta(hours=number), grant=f"own-{number}", about=f"thing-{number}")
        for number in numbers
    ]


@given(mine=st.sets(st.integers(0, 5)), others=st.sets(st.integers(6, 9), min_size=1), of_events=declared)
def test_of_a_finding_with_any_event_of_others_nothing_but_own_events_is_read(mine, others, of_events):
    events = [f"event-{n}" for n in sorted(mine)] + [f"{SECRET}-event-{n}" for n in sorted(others)]
    leaves = (*sorted(mine), *sorted(others))

    read = desk_reads(finding(events, leaves=leaves), own_of(sorted(mine)), of_events)

    assert SECRET not in repr(read) and "777" not in repr(read)
    assert (read.title, read.evidence, read.money_at_risk_minor, read.grant) == ("general", {}, None, "")
    assert (read.events, read.leaves, read.others) == (tuple(events[: len(mine)]), tuple(sorted(mine)), len(others))
    times = [event.at for event in own_of(mine)]
    assert (read.first_at, read.last_at) == (min(times, default=None), max(times, default=None))


@given(
    count=st.integers(1, 5),
    of_events=declared,
    seen=st.sets(st.sampled_from([f"{SECRET}|principal", f"{SECRET}|actor"])),
)
def test_of_a_finding_of_its_own_events_what_the_rule_declares_is_read_and_its_words_only_where_every_party_is_seen(
    count, of_events, seen
):
    whole = finding([f"event-{n}" for n in range(count)])

    read = desk_reads(whole, own_of(range(count)), of_events, frozenset(seen))

    reads_title = "title" in of_events and len(seen) == 2
    assert read.title == (whole.title if reads_title else "general")
    assert read.evidence == {name: value for name, value in whole.evidence.items() if name in of_events}
    assert (read.money_at_risk_minor == 777_777) == ("money_at_risk" in of_events)
    assert {"title", "money_at_risk"} - set(read.withheld) == {
        n for n, reads in (("title", reads_title), ("money_at_risk", "money_at_risk" in of_events)) if reads
    }
    assert "evidence" in read.withheld  # "other" is never declared
    assert (read.principal, read.actor) == tuple(
        key if key in seen else "hidden-1" for key in (whole.principal, whole.actor)
    )
    assert bool(read.about) != reads_title


def test_a_leaf_that_is_not_its_own_makes_a_finding_rest_on_others():
    read = desk_reads(
        finding(["event-0"], leaves=(0, 9)), own_of([0]), frozenset(PARTS), {f"{SECRET}|principal", f"{SECRET}|actor"}
    )

    assert SECRET not in read.title and read.leaves == (0,) and read.evidence == {}


def test_a_grant_is_read_where_an_own_event_states_it():
    own = own_of([0])

    assert desk_reads(finding(["event-0"], grant="own-0"), own, frozenset()).grant == "own-0"
    assert desk_reads(finding(["event-0"], grant="other"), own, frozenset()).grant == ""
    assert "grant" in desk_reads(finding(["event-0"], grant=""), own, frozenset()).withheld  # as if there were one


def test_every_field_of_a_reading_is_decided():
    """A field that is added is either told above, or listed here as one that says nothing of others."""
    says_nothing = {"id", "rule", "rule_version", "severity", "state", "provider", "detected_at"}
    decided = {"title", "principal", "actor", "grant", "events", "total", "others", "leaves", "money_at_risk_minor", "currency", "first_at",
               "last_at", "withdrawn_by_leaf", "evidence", "about", "withheld"}  # fmt: skip

    assert {field.name for field in fields(Reading)} == says_nothing | decided
