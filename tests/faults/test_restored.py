"""Fault 3: an old backup is restored, or a lagging copy takes over. It signs nothing, says so, and witnesses refuse it."""

import pytest

from auditlog.core.errors import LedgerBehind
from auditlog.custody.witness import submit_all
from auditlog.ledger.append import append_note
from auditlog.ledger.heads import forget_head
from auditlog.ledger.proofs import newest_checkpoint
from auditlog.models import Witness
from tests.faults.test_crash import fill
from tests.faults.test_flipped_bit import is_signed, round_of_publishing
from tests.integration.test_witness import SmallWitness, add, roll_back
from tests.oracle import Violation


@pytest.fixture
def restored(log):
    """A witnessed log whose database has come back as it was three checkpoints ago."""
    log.witness = SmallWitness("w.example")
    add(log, log.witness)
    answers = []

    def post(url, body):
        status, answer = log.witness.post(url, body)
        answers.append(status)
        return status, answer

    log.submit = lambda: submit_all(log.row, now=lambda: log.now, post=post)
    log.answers = answers
    log.submit()
    old = newest_checkpoint(log.row)[0]
    for _ in range(3):
        fill(log, 2)
        log.oracle.sign()
        assert log.submit() == 1
    roll_back(log, old)
    Witness.objects.filter(tenant=log.row).update(last_size=old)  # that is in the backup too
    return log


@pytest.mark.parametrize("grown", [0, 20], ids=["behind", "grown past the head"])
def test_an_old_copy_is_not_signed_and_readyz_says_why_until_a_person_decides(restored, monkeypatch, grown):
    for n in range(grown):
        append_note(restored.row, "config", {"another": n}, now=restored.now)
    for _ in range(3):
        said = round_of_publishing(restored, monkeypatch)
        assert ("restored from an older copy" if not grown else "not those that were signed") in said
        with pytest.raises(LedgerBehind):
            restored.oracle.sign()

    # What was acknowledged since the backup is gone, and the outside can show it.
    with pytest.raises(Violation, match="in the ledger 0 times"):
        restored.oracle.check_events()
    with pytest.raises(Violation, match=r"signed leaves were lost|not consistent"):
        restored.oracle.check_heads()


@pytest.mark.parametrize("grown", [0, 20], ids=["behind", "grown past the head"])
def test_control_without_the_independent_head_a_second_history_is_signed_and_the_witness_refuses_it(
    restored, monkeypatch, grown
):
    forget_head(restored.tenant)
    for n in range(grown):
        append_note(restored.row, "config", {"another": n}, now=restored.now)
    append_note(restored.row, "config", {"another": "history"}, now=restored.now)
    assert not round_of_publishing(restored, monkeypatch) and is_signed(restored)
    restored.answers.clear()

    assert restored.submit() == 0

    assert restored.answers[0] == 409
    assert Witness.objects.get(tenant=restored.row).last_error
    with pytest.raises(Violation, match=r"signed leaves were lost|not consistent"):
        restored.oracle.check_heads()
