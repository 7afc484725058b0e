"""C2SP forms of the tree: tiles (tlog-tiles), their addresses, and the proof as text (tlog-proof).

A tile holds up to 256 hashes of one level, 8 tree levels apart; hash n of tile N at level L is the root over the
leaves [(N * 256 + n) * 256^L, + 256^L). Numbers in addresses are zero-padded by threes: 1234067 is `x001/x234/067`.
"""

import re
from base64 import b64encode
from dataclasses import dataclass

from auditlog.core.log.merkle import Edge

TILE = 256
PROOF_HEADER = "c2sp.org/tlog-proof@v1"
_ADDRESS = re.compile(r"(?P<level>entries|\d{1,2})/(?P<number>(?:x\d{3}/)*\d{3})(?:\.p/(?P<width>[1-9]\d{0,2}))?\Z")


@dataclass(frozen=True, slots=True)
class TileAddress:
    """Which tile is asked for. `level` -1 is an entry bundle; `width` 256 a full tile."""

    level: int
    number: int
    width: int = TILE

    def path(self) -> str:
        level = "entries" if self.level < 0 else str(self.level)
        digits = f"{self.number:03}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        number = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        return f"{level}/{number}" + ("" if self.width == TILE else f".p/{self.width}")


def parse_tile_address(path: str) -> TileAddress:
    """`<L>/<N>[.p/<W>]` of tlog-tiles. Raises ValueError for anything that is not its one canonical form."""
    match = _ADDRESS.match(path)
    if match is None:
        raise ValueError(f"not the address of a tile: {path[:80]!r}")
    level = -1 if match["level"] == "entries" else int(match["level"])
    number = int(match["number"].replace("/", "").replace("x", ""))
    address = TileAddress(level, number, int(match["width"]) if match["width"] else TILE)
    if level > 7 or (match["width"] and address.width >= TILE) or address.path() != path:
        raise ValueError(f"not the address of a tile: {path[:80]!r}")
    return address


def subtree_root(hashes: list[bytes]) -> bytes:
    return Edge(0, ()).extended(hashes).root()


def tile_of_node(level: int, index: int) -> tuple[TileAddress, int, int]:
    """The tile that tree node (level, index) is made from, and which of its hashes: [from, to)."""
    tile_level, within = divmod(level, 8)
    first = index << within
    number, offset = divmod(first, TILE)
    return TileAddress(tile_level, number), offset, offset + (1 << within)


def proof_text(index: int, hashes: list[bytes], note: str, *, extra: bytes = b"") -> str:
    """An inclusion proof that can be checked offline (tlog-proof): index, audit path, and the checkpoint verbatim."""
    lines = [PROOF_HEADER]
    if extra:
        lines.append(f"extra {b64encode(extra).decode()}")
    lines.append(f"index {index}")
    lines += [b64encode(part).decode() for part in hashes]
    return "\n".join(lines) + "\n\n" + note


def entry_bundle(entries: list[bytes]) -> bytes:
    """Entries with their big-endian 16-bit lengths (tlog-tiles, "Log entries")."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
