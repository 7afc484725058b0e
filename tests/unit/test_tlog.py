"""C2SP addresses of tiles and the proof as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.log.tlog import TileAddress, parse_tile_address, proof_text


@pytest.mark.parametrize(
    ("address", "path"),
    [
        (TileAddress(0, 0), "0/000"),
        (TileAddress(0, 273), "0/273"),
        (TileAddress(1, 1234067), "1/x001/x234/067"),
        (TileAddress(0, 273, 112), "0/273.p/112"),
        (TileAddress(-1, 5), "entries/005"),
        (TileAddress(2, 1000, 1), "2/x001/000.p/1"),
    ],
)
def test_addresses_are_those_of_the_specification(address, path):
    assert address.path() == path
    assert parse_tile_address(path) == address


@given(st.integers(-1, 7), st.integers(0, 2**40), st.integers(1, 256))
def test_every_address_round_trips(level, number, width):
    address = TileAddress(level, number, width)

    assert parse_tile_address(address.path()) == address


@pytest.mark.parametrize(
    "path", ["", "0", "0/1", "0/0001", "0/x000/001", "8/000", "-1/000", "0/000.p/0", "0/000.p/256", "0/000.p/01", "0/000/", "00/000",
             "0/000\n", "0/٠٠٠"],
)  # fmt: skip
def test_other_spellings_of_an_address_are_refused(path):
    with pytest.raises(ValueError):
        parse_tile_address(path)


def test_a_proof_is_header_index_hashes_and_the_checkpoint_verbatim():
    text = proof_text(7, [b"\0" * 32], "origin\n8\nroot\n\nsig\n")

    assert text == "c2sp.org/tlog-proof@v1\nindex 7\n" + "A" * 43 + "=\n\norigin\n8\nroot\n\nsig\n"
