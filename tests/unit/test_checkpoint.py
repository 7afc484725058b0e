"""Checkpoints as signed notes."""

import pytest
from nacl.signing import SigningKey

from auditlog.core.log.checkpoint import Checkpoint, opened, signed, vkey

KEY = SigningKey(b"\x01" * 32)
NOTE = signed(Checkpoint("answerable.example/log/t", 7, b"\x02" * 32), KEY)


def reopen(note, origin="answerable.example/log/t", key=KEY):
    return opened(note, origin=origin, public_key=bytes(key.verify_key))


def test_a_note_opens_to_what_was_signed():
    assert reopen(NOTE) == Checkpoint("answerable.example/log/t", 7, b"\x02" * 32)


def test_signing_again_gives_the_same_bytes():
    assert signed(reopen(NOTE), KEY) == NOTE


@pytest.mark.parametrize(
    "note",
    [
        NOTE.replace("\n7\n", "\n8\n"),
        NOTE.replace("\n7\n", "\n07\n"),
        NOTE.replace("/t\n", "/u\n", 1),
        NOTE.partition("\n\n")[0],
        NOTE.replace("\u2014", "-"),
        "",
        "\n\n",
    ],
)
def test_a_changed_note_does_not_open(note):
    with pytest.raises(ValueError):
        reopen(note)


def test_another_key_or_another_log_does_not_open_it():
    with pytest.raises(ValueError):
        reopen(NOTE, key=SigningKey(b"\x03" * 32))
    with pytest.raises(ValueError):
        reopen(NOTE, origin="answerable.example/log/u")


def test_a_verifier_key_is_name_id_and_key():
    name, identifier, key = vkey("example.com/log", bytes(KEY.verify_key)).split("+", 2)

    assert (name, len(identifier)) == ("example.com/log", 8) and key.startswith("AY")
