"""Erasure, legal hold and retention: what goes, what stays provable, and what may not go."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.db.utils import DatabaseError
from nacl.signing import SigningKey

from auditlog.core.errors import NotFound, NotPossible
from auditlog.custody.erase import due, erase, held_now, hold, release, retain
from auditlog.custody.verify_ledger import verify
from auditlog.ledger.proofs import prove_inclusion
from auditlog.ledger.publish import publish, take_fence
from auditlog.models import Event, Finding, Leaf, Mention, Party, Payload, ProjectionState, RetentionPolicy
from auditlog.projection.project import rebuild
from auditlog.work.tasks import forget_erased
from auditlog.work.tasks import retain as run_all
from tests.integration.test_project import a_stream, snapshot, sources
from tests.support.effort import seeds

KEY = SigningKey(b"\x07" * 32)
BY = {"who": "dpo", "policy": "gdpr-17"}


@pytest.fixture
def log(world):
    world.source("conductor", "https://conductor.example")
    world.placed = [a.leaf_index for a in world.send(*(world.event("action.performed") for _ in range(4)))]
    world.project()
    return world


def gone(log, index):
    return not Payload.objects.filter(tenant=log.row, leaf_index=index).exists()


def test_an_erased_payload_is_gone_its_leaf_is_provable_and_the_log_says_who_and_why(log):
    publish(log.row, key=KEY, fence=take_fence(log.row), now=log.now)

    erased = erase(log.row, [log.placed[1]], why="asked for by the person", now=log.now, **BY)

    assert erased.count == 1 and gone(log, log.placed[1])
    assert Event.objects.filter(tenant=log.row).count() == 3
    publish(log.row, key=KEY, fence=take_fence(log.row), now=log.now)
    assert prove_inclusion(log.row, log.placed[1]).index == log.placed[1]
    assert verify(log.row, public_key=KEY.verify_key).erased == 1
    body = bytes(Payload.objects.get(tenant=log.row, leaf_index=erased.tombstone).raw).decode()
    assert all(part in body for part in ("dpo", "asked for by the person", "gdpr-17", f"[{log.placed[1]}]"))


def test_the_same_event_again_after_its_erasure_is_a_repeat_and_is_not_stored(log):
    again = log.event("action.performed")
    [first] = log.send(again)
    erase(log.row, [first.leaf_index], why="asked", now=log.now, **BY)

    [result] = log.send(again)

    assert result.repeated and gone(log, first.leaf_index)


@pytest.fixture
def found(log):
    """A finding that rests on two leaves and names people, a triage step of it, and one of another leaf."""
    about = {
        "principal": "https://idp.example|mallory",
        "actor": "https://idp.example|agent",
        "grant": "g-mallory",
        "provider": "hosted",
    }
    log.finding = Finding.objects.create(
        tenant=log.row, rule="spend.surge", rule_version=1, anchor="a", partition="[]", severity="high", title="Mallory spent",
        event_ids=[], leaves=log.placed[:2], first_at=log.now, last_at=log.now, detected_at=log.now,
        evidence={"words": "of Mallory"}, **about,
    )  # fmt: skip
    log.other = Finding.objects.create(
        tenant=log.row, rule="spend.surge", rule_version=1, anchor="b", partition="[]", severity="high", title="Another",
        event_ids=[], leaves=log.placed[3:], first_at=log.now, last_at=log.now, detected_at=log.now, evidence={"its": 1}, **about,
    )  # fmt: skip
    return log


def test_a_finding_tells_no_more_of_what_was_erased_and_names_nobody_once_all_of_it_is_gone(found):
    erase(found.row, found.placed[:1], why="asked", now=found.now, **BY)

    found.finding.refresh_from_db()
    assert "Mallory" not in found.finding.title and found.finding.evidence == {"erased": found.placed[:1]}
    assert found.finding.actor and found.finding.grant  # what is left still says so

    erase(found.row, found.placed[1:2], why="asked", now=found.now, **BY)

    found.finding.refresh_from_db()
    assert found.finding.evidence == {"erased": found.placed[:2]}
    assert (found.finding.principal, found.finding.actor, found.finding.grant) == ("", "", "")
    assert found.finding.rule == "spend.surge" and found.finding.leaves == found.placed[:2]
    found.other.refresh_from_db()
    assert found.other.title == "Another" and found.other.evidence == {"its": 1}


def test_what_is_under_a_hold_stays_in_findings(found):
    hold(found.row, first=found.placed[0], last=found.placed[0], who="sam", reason="dispute", now=found.now)

    with pytest.raises(NotPossible):
        erase(found.row, found.placed[:1], why="asked", now=found.now, **BY)

    found.finding.refresh_from_db()
    assert found.finding.title == "Mallory spent"


def test_a_finding_written_of_the_old_projections_while_they_are_rebuilt_is_cleared_too(found, monkeypatch):
    ProjectionState.objects.filter(tenant=found.row).update(has_mentions=False)

    def rebuilding(tenant, *, now):
        Finding.objects.filter(pk=found.finding.pk).update(title="Mallory again", evidence={"words": "of Mallory"})
        return rebuild(tenant, now=now)

    monkeypatch.setattr("auditlog.custody.erase.rebuild", rebuilding)

    erase(found.row, found.placed[:1], why="asked", now=found.now, **BY)

    found.finding.refresh_from_db()
    assert "Mallory" not in found.finding.title and "words" not in found.finding.evidence


def test_nothing_under_a_hold_is_erased_and_nothing_beside_it_either(log):
    hold(log.row, first=log.placed[1], last=log.placed[2], who="sam", reason="dispute", case="D-1", now=log.now)
    size = Leaf.objects.filter(tenant=log.row).count()

    with pytest.raises(NotPossible, match="legal hold"):
        erase(log.row, log.placed, why="asked", now=log.now, **BY)

    assert not any(gone(log, index) for index in log.placed)
    assert Leaf.objects.filter(tenant=log.row).count() == size  # no tombstone of an erasure that was refused


def test_a_released_hold_holds_nothing_and_cannot_be_released_twice(log):
    held = hold(log.row, first=0, last=log.placed[3], who="sam", reason="dispute", now=log.now)
    assert [h.leaf_index for h in held_now(log.row)] == [held]

    release(log.row, held, who="sam", reason="settled", now=log.now)

    assert held_now(log.row) == [] and erase(log.row, log.placed, why="asked", now=log.now, **BY).count == 4
    with pytest.raises(NotPossible, match="already"):
        release(log.row, held, who="sam", reason="again", now=log.now)
    with pytest.raises(NotFound):
        release(log.row, 0, who="sam", reason="no hold", now=log.now)


def test_the_service_cannot_erase_around_the_function(log):
    for statement in (
        "SELECT ledger_erase(%s, 1::smallint, %s, 0)",
        "SELECT ledger_erase(%s, 1::smallint, %s, 999999)",
        "DELETE FROM ledger_payload WHERE tenant_id = %s AND leaf_index = %s",
    ):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('answerable.erasing', %s, true)", [f"{log.row.pk}/{log.placed[0]}"])
            cursor.execute(statement, [log.row.pk, log.placed[0]])
    assert not gone(log, log.placed[0])


def test_a_tombstone_of_another_leaf_or_another_log_does_not_do(log, now):
    tombstone = erase(log.row, [log.placed[0]], why="asked", now=now, **BY).tombstone

    with pytest.raises(DatabaseError, match="no tombstone"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT ledger_erase(%s, 1::smallint, %s, %s)", [log.row.pk, log.placed[1], tombstone])


def test_our_own_leaves_are_not_erased(log):
    with pytest.raises(NotFound):
        erase(log.row, [0], why="asked", now=log.now, **BY)


def test_an_erasure_without_a_reason_is_refused(log):
    with pytest.raises(NotPossible, match="reason"):
        erase(log.row, [log.placed[0]], why=" ", now=log.now, **BY)


def test_a_policy_first_only_counts_and_erases_once_armed_but_never_what_is_held(log):
    policy = RetentionPolicy.objects.create(tenant=log.row, name="30 days", event_type="action.performed", keep_days=30)
    hold(log.row, first=log.placed[0], last=log.placed[0], who="sam", reason="dispute", now=log.now)
    later = log.now + timedelta(days=31)
    assert due(policy, now=log.now) == []

    assert retain(policy, now=later) == 3
    assert not any(gone(log, index) for index in log.placed)
    policy.is_armed = True
    assert retain(policy, now=later) == 3

    assert [gone(log, index) for index in log.placed] == [False, True, True, True]
    assert retain(policy, now=later) == 0


def test_a_policy_of_one_type_leaves_others(log):
    [other] = log.send(log.event("action.denied"))
    log.project()
    policy = RetentionPolicy.objects.create(
        tenant=log.row, name="p", event_type="action.denied", keep_days=0, is_armed=True
    )

    retain(policy, now=log.now + timedelta(days=1))

    assert gone(log, other.leaf_index) and not any(gone(log, index) for index in log.placed)


def conflict_with(log, event):
    """Other content under the same id: refused, and kept as a leaf of its own."""
    [result] = log.deliver(log.event("action.performed", jti=event.jti, verb="other")).refused.values()
    return (
        Leaf.objects.filter(tenant=log.row).order_by("-leaf_index").first().leaf_index
        if result.err == "duplicate_conflict"
        else None
    )


@pytest.mark.parametrize("event_type", ["", "action.denied"])
def test_what_was_refused_as_a_conflict_is_not_kept_longer_than_its_event(log, event_type):
    told = log.event("action.denied")
    [other] = log.send(told)
    held, conflict = log.placed[0], conflict_with(log, told)
    hold(log.row, first=held, last=held, who="sam", reason="dispute", now=log.now)
    log.project()
    policy = RetentionPolicy.objects.create(tenant=log.row, name="p", event_type=event_type, keep_days=1)
    later = log.now + timedelta(days=2)

    counted = retain(policy, now=later)
    policy.is_armed = True

    assert retain(policy, now=later) == counted
    assert gone(log, other.leaf_index) and gone(log, conflict) and not gone(log, held)
    assert [gone(log, index) for index in log.placed[1:]] == [event_type == ""] * 3


def test_a_conflict_that_comes_after_its_event_was_erased_goes_too(log):
    told = log.event("action.denied")
    [other] = log.send(told)
    conflict = conflict_with(log, told)
    log.project()
    erase(log.row, [other.leaf_index], why="asked", now=log.now, **BY)
    policy = RetentionPolicy.objects.create(
        tenant=log.row, name="p", event_type="action.denied", keep_days=0, is_armed=True
    )

    assert retain(policy, now=log.now + timedelta(days=1)) == 1 and gone(log, conflict)


def test_a_policy_of_every_type_takes_what_no_longer_parses(log):
    [odd] = log.send(log.event("action.performed"))  # not projected: as if no parser read it

    retain(
        RetentionPolicy.objects.create(tenant=log.row, name="p", keep_days=0, is_armed=True),
        now=log.now + timedelta(days=1),
    )

    assert gone(log, odd.leaf_index)


def test_what_was_erased_leaves_the_projections_even_if_whoever_erased_it_died_before(log, monkeypatch):
    def dies(*_, **__):
        raise KeyboardInterrupt

    ProjectionState.objects.filter(tenant=log.row).update(has_mentions=False)  # an older version wrote it
    with monkeypatch.context() as patched:
        patched.setattr("auditlog.custody.erase.rebuild", dies)
        with pytest.raises(KeyboardInterrupt):
            erase(log.row, [log.placed[1]], why="asked", now=log.now, **BY)
    assert Event.objects.filter(tenant=log.row, leaf_index=log.placed[1]).exists()

    forget_erased()

    assert gone(log, log.placed[1]) and not Event.objects.filter(tenant=log.row, leaf_index=log.placed[1]).exists()


def test_what_is_erased_while_a_rebuild_has_read_it_leaves_that_too(log, monkeypatch):
    def erase_elsewhere():
        monkeypatch.undo()
        with ThreadPoolExecutor(1) as other:  # of another session: what it does is not part of ours
            other.submit(_erase_and_close, log, log.placed[1]).result()

    monkeypatch.setattr("auditlog.projection.project.refresh_statistics", erase_elsewhere)

    rebuild(log.row, now=log.now)  # has read every leaf when they are erased

    assert gone(log, log.placed[1])
    assert not Event.objects.filter(tenant=log.row, leaf_index=log.placed[1]).exists()


def _erase_and_close(log, index):
    try:
        erase(log.row, [index], why="asked", now=log.now, **BY)  # not refused although a rebuild is under way
    finally:
        connections.close_all()


def test_a_policy_that_cannot_run_stops_no_other(log, monkeypatch):
    first, second = (RetentionPolicy.objects.create(tenant=log.row, name=name, keep_days=0) for name in ("a", "b"))

    def due_or_not(policy, *, now):
        if policy.pk == first.pk:
            raise DatabaseError("out of memory")
        return due(policy, now=now)

    monkeypatch.setattr("auditlog.custody.erase.due", due_or_not)
    run_all()

    second.refresh_from_db()
    assert second.last_run_at is not None and second.last_count == 4


def test_the_commands_hold_release_and_erase(log, capsys):
    from django.core.management import CommandError, call_command

    event = str(Event.objects.filter(tenant=log.row).order_by("leaf_index").first().event_id)
    said = {"who": "sam", "reason": "dispute", "tenant": log.tenant}
    erasing = {"who": "dpo", "why": "asked", "policy": "p", "tenant": log.tenant}
    call_command("hold", "add", "0", str(log.placed[-1]), **said)
    held = held_now(log.row)[0].leaf_index
    call_command("hold", "list", tenant=log.tenant)
    with pytest.raises(CommandError, match="legal hold"):
        call_command("erase", event, **erasing)
    call_command("hold", "release", str(held), **said)
    call_command("erase", event, **erasing)

    told = capsys.readouterr().out
    assert f"{held}\t0-{log.placed[-1]}" in told and "1 payloads erased" in told
    with pytest.raises(CommandError, match="no event"):
        call_command("erase", "00000000-0000-0000-0000-000000000000", **erasing)


# --- an erasure costs what it erases, and leaves what a rebuild of the rest leaves -----------------------------------


def assert_as_rebuilt(log):
    left = snapshot(log.row, ignoring={"generation"})
    rebuild(log.row, now=log.now)
    for table, (names, rows) in snapshot(log.row, ignoring={"generation"}).items():
        missing, extra = sorted(set(rows) - set(left[table][1])), sorted(set(left[table][1]) - set(rows))
        cells = [
            (name, a, b)
            for one, other in zip(missing, extra, strict=False)
            for name, a, b in zip(names, one, other, strict=True)
            if a != b
        ]
        assert not (missing or extra), (table, len(missing), len(extra), cells)


def unread(*_, **__):
    raise AssertionError("an erasure reads no other part of the record")


@pytest.mark.parametrize("seed", seeds(4, 8))
def test_what_an_erasure_leaves_in_the_projections_is_what_a_rebuild_of_the_rest_gives(world, monkeypatch, seed):
    sources(world)
    [placed] = [[a.leaf_index for each in a_stream(world) for a in world.send(each)]]
    world.project()
    chance = random.Random(seed)
    chance.shuffle(placed)

    while placed:
        some, placed = placed[: chance.randint(1, 3)], placed[3:]
        with monkeypatch.context() as patched:
            patched.setattr("auditlog.custody.erase.rebuild", unread)
            erase(world.row, some, why="asked", now=world.now, **BY)
        assert_as_rebuilt(world)


@pytest.mark.parametrize("seed", seeds(0, 3))
def test_of_thirty_days_of_many_agents_an_erasure_leaves_what_a_rebuild_gives(told, monkeypatch, seed):
    world = told
    leaves = list(Event.objects.filter(tenant=world.row).values_list("leaf_index", flat=True))
    monkeypatch.setattr("auditlog.custody.erase.rebuild", unread)

    erase(world.row, random.Random(seed).sample(leaves, len(leaves) // 10), why="asked", now=world.now, **BY)

    assert_as_rebuilt(world)


def test_a_party_that_only_the_erased_named_is_nowhere_any_more(log):
    told = log.event("action.performed", actor=log.agent("mallory", issuer="https://conductor.example"))
    [one] = log.send(told)
    log.project()
    assert Party.objects.filter(tenant=log.row, key__contains="mallory").exists()

    erase(log.row, [one.leaf_index], why="asked", now=log.now, **BY)

    assert not Party.objects.filter(tenant=log.row, key__contains="mallory").exists()
    assert not Mention.objects.filter(tenant=log.row, key__contains="mallory").exists()


def test_a_record_that_an_older_version_projected_is_rebuilt_once_and_not_again(log, monkeypatch):
    ProjectionState.objects.filter(tenant=log.row).update(has_mentions=False)
    Mention.objects.filter(tenant=log.row).delete()

    erase(log.row, log.placed[:1], why="asked", now=log.now, **BY)
    monkeypatch.setattr("auditlog.custody.erase.rebuild", unread)
    erase(log.row, log.placed[1:2], why="asked", now=log.now, **BY)

    assert Event.objects.filter(tenant=log.row).count() == 2
