"""Missing bytes are destroyed evidence unless a tombstone leaf covers them: whoever reads, exports or verifies says which."""

from datetime import timedelta
from io import BytesIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from auditlog.core.errors import LedgerCorrupt
from auditlog.core.log.checkpoint import vkey
from auditlog.custody.bundle import NotCovered, export_log
from auditlog.custody.erase import erase, hold, release
from auditlog.custody.verify_ledger import verify
from auditlog.ledger.append import append_note, identity
from auditlog.ledger.publish import origin_of
from auditlog.models import Payload, UnparsedLeaf
from auditlog.projection.project import rebuild
from auditlog.reads.access import issue_token
from auditlog.reads.acts import load_acts
from auditlog.reads.leaves import integrity_of
from auditlog.verifier import answerable_verify as verifier
from tests.faults.insider import by_force
from tests.faults.test_crash import fill
from tests.integration.test_dashboard_pages import signed_in, text_of
from tests.oracle import KEY

BY = {"who": "dpo", "why": "asked for", "policy": "gdpr-17"}


@pytest.fixture
def full(log):
    """Four more events, projected; `log.leaf` is the leaf of the second, `log.event_id` its event."""
    fill(log, 4)
    log.project()
    [_, log.leaf, *_] = (
        Payload.objects.filter(tenant=log.row, source_event_id__in=[j for _, j in log.oracle.acked])
        .values_list("leaf_index", flat=True)
        .order_by("leaf_index")
    )
    given = Payload.objects.get(tenant=log.row, leaf_index=log.leaf).source_event_id
    log.event_id = str(identity(bytes(log.row.pepper), "conductor", given))
    return log


def destroy(log, leaf):
    by_force(("DELETE FROM ledger_payload WHERE tenant_id = %s AND leaf_index = %s", [log.row.pk, leaf]))


def bundle(log, **what):
    log.oracle.sign()
    file = BytesIO()
    done = export_log(log.row, file, **what)
    report = verifier.verify(file, [vkey(origin_of(log.row), bytes(KEY.verify_key))])
    return done, report


def asked(log, path):
    token = issue_token(log.row, name="t", role="auditor", expires_at=timezone.now() + timedelta(hours=1))
    from django.test import Client

    return Client().get(f"/api/v1/events/{log.event_id}{path}", headers={"authorization": f"Bearer {token}"})


def says_destroyed(log, leaf, words="destroyed evidence"):
    with pytest.raises(LedgerCorrupt, match=rf"leaf {leaf}: {words}"):
        verify(log.row, public_key=KEY.verify_key)
    for what in ({}, {"leaves": range(leaf, leaf + 1)}):
        done, report = bundle(log, **what)
        assert [absence.leaf_index for absence in done.destroyed] == [leaf] and done.erased == 0
        assert (report["result"], report["problem"]["where"]) == ("bad", f"leaf {leaf}")


def test_a_payload_that_somebody_deleted_is_destroyed_evidence_to_every_reader(full, tmp_path, capsys):
    destroy(full, full.leaf)

    says_destroyed(full, full.leaf)
    raw = asked(full, "/raw")
    assert (
        raw.status_code == 500
        and raw.json()["title"] == "Evidence destroyed"
        and "no tombstone" in raw.json()["detail"]
    )
    assert "destroyed evidence" in asked(full, "/proof").json()["absence"]
    page = text_of(signed_in(full, "auditor").get(f"/events/{full.event_id}/"))
    assert "estroyed evidence" in page and "Erased" not in page
    act = load_acts(full.row, [full.event_id])[full.event_id]
    check = integrity_of(full.row, [act])[full.event_id]
    assert not check.commitment_ok and "destroyed evidence" in check.reason
    with pytest.raises(CommandError, match="1 payloads were destroyed"):
        call_command("export_log", tenant=full.tenant, out=tmp_path / "b.zip")
    with pytest.raises(SystemExit):
        call_command("verify_packet", str(tmp_path / "b.zip"))

    rebuild(full.row, now=full.now)
    left_out = UnparsedLeaf.objects.get(tenant=full.row)
    assert left_out.leaf_index == full.leaf and "destroyed evidence" in left_out.reason


def test_one_that_was_erased_says_by_which_leaf(full):
    erased = erase(full.row, [full.leaf], now=full.now, **BY)

    done, report = bundle(full)
    assert (done.erased, done.destroyed, report["result"]) == (1, (), "ok")
    done, report = bundle(full, leaves=range(full.leaf, full.leaf + 1))
    assert (done.erased, done.destroyed, report["result"]) == (1, (), "ok")
    assert verify(full.row, public_key=KEY.verify_key).erased == 1
    raw = asked(full, "/raw")
    assert raw.status_code == 410 and f"by leaf {erased.tombstone}" in raw.json()["detail"]
    assert f"Erased, by leaf {erased.tombstone}" in text_of(signed_in(full, "auditor").get(f"/events/{full.event_id}/"))
    rebuild(full.row, now=full.now)
    assert not UnparsedLeaf.objects.filter(tenant=full.row).exists()


def test_a_bundle_waits_for_the_checkpoint_that_covers_its_tombstone(full):
    full.oracle.sign()
    erase(full.row, [full.leaf], now=full.now, **BY)

    with pytest.raises(NotCovered, match="is not covered yet"):
        export_log(full.row, BytesIO(), leaves=range(full.leaf, full.leaf + 1))


def test_what_is_deleted_under_a_hold_names_the_hold(full):
    held = hold(full.row, first=full.leaf, last=full.leaf, who="counsel", reason="case 12", now=full.now)
    destroy(full, full.leaf)

    says_destroyed(full, full.leaf, f"destroyed evidence: .*leaf {held} holds it")


def test_a_hold_whose_row_was_deleted_holds_all_the_same(full):
    """The database's own function looks at the row; whoever verifies looks at the leaf."""
    held = hold(full.row, first=full.leaf, last=full.leaf, who="counsel", reason="case 12", now=full.now)
    by_force(("DELETE FROM ledger_hold WHERE tenant_id = %s", [full.row.pk]))
    erase(full.row, [full.leaf], now=full.now, **BY)

    says_destroyed(full, full.leaf, f"destroyed evidence: .*while leaf {held} held it")
    assert asked(full, "/raw").status_code == 500


def test_a_hold_that_was_released_before_holds_nothing(full):
    held = hold(full.row, first=full.leaf, last=full.leaf, who="counsel", reason="case 12", now=full.now)
    release(full.row, held, who="counsel", reason="over", now=full.now)
    erase(full.row, [full.leaf], now=full.now, **BY)
    hold(full.row, first=0, last=full.leaf, who="counsel", reason="too late", now=full.now)

    done, report = bundle(full)
    assert (done.destroyed, report["result"]) == ((), "ok")
    assert verify(full.row, public_key=KEY.verify_key).erased == 1


def test_a_tombstone_that_was_deleted_authorises_nothing_and_is_missed_itself(full):
    erased = erase(full.row, [full.leaf], now=full.now, **BY)
    destroy(full, erased.tombstone)

    with pytest.raises(LedgerCorrupt, match=f"leaf {full.leaf}: destroyed evidence"):
        verify(full.row, public_key=KEY.verify_key)
    done, report = bundle(full)
    assert [absence.leaf_index for absence in done.destroyed] == [full.leaf, erased.tombstone]
    assert report["result"] == "bad"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"leaves": "6"}', b'{"leaves": [true, null]}', b"\xff", b"[" * 50_000])
def test_a_tombstone_that_cannot_be_read_authorises_nothing_and_stops_nobody(full, body):
    note = append_note(full.row, "tombstone", {"change": "erased", "leaves": [full.leaf]}, now=full.now)
    by_force(("UPDATE ledger_payload SET raw = %s WHERE tenant_id = %s AND leaf_index = %s", [body, full.row.pk, note]))
    destroy(full, full.leaf)

    assert asked(full, "/raw").status_code == 500


def test_what_the_service_wrote_itself_is_never_erased_so_a_tombstone_over_it_covers_nothing(full):
    append_note(full.row, "tombstone", {"change": "erased", "leaves": [1]}, now=full.now)
    destroy(full, 1)

    says_destroyed(full, 1)


def test_the_leaves_of_the_service_are_found_by_their_index(log):
    many = (
        "INSERT INTO ledger_leaf (tenant_id, epoch, leaf_index, kind, event_id, received_at, grade, key, commitment)"
        " SELECT %s, 7, n, CASE WHEN n %% 1000 = 0 THEN 3 ELSE 0 END, CASE WHEN n %% 1000 <> 0 THEN gen_random_uuid() END, now(), 'A', '-', ''"
        " FROM generate_series(1, 20000) n"
    )
    by_force((many, [log.row.pk]), ("ANALYZE ledger_leaf", []))
    try:
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN SELECT leaf_index FROM ledger_leaf WHERE tenant_id = %s AND epoch = 7 AND event_id IS NULL AND kind = ANY('{3,4}')",
                           [log.row.pk])  # fmt: skip
            assert "leaf_own" in str(cursor.fetchall())
    finally:
        by_force(
            ("DELETE FROM ledger_leaf WHERE tenant_id = %s AND epoch = 7", [log.row.pk]), ("ANALYZE ledger_leaf", [])
        )
