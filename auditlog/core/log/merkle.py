"""The Merkle tree of RFC 6962 section 2.1: hashes, the right edge of a growing tree, proofs and their checks.

`Edge` is what an appender needs to add leaves: the roots of the perfect subtrees that make up the tree, largest
first. Proofs are computed from any `node(level, index)` lookup, `level` 0 being leaves, so that tiles, lists and
databases can serve them. All hashes are 32 bytes of SHA-256.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()
Node = Callable[[int, int], bytes]


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Edge:
    """The right edge of a tree of `size` leaves: one hash per set bit of `size`, largest subtree first."""

    size: int
    hashes: tuple[bytes, ...]

    def root(self) -> bytes:
        if not self.hashes:
            return EMPTY_ROOT
        *rest, root = self.hashes
        for left in reversed(rest):
            root = node_hash(left, root)
        return root

    def extended(self, hashes: Sequence[bytes], *, level: int = 0) -> "Edge":
        """The edge after `hashes` were added, each the root over 2^level leaves; amortised one hash for each.

        The tree's size must be a multiple of 2^level. Works level by level: what has no right sibling yet is the
        edge's.
        """
        if self.size & (1 << level) - 1:
            raise ValueError(f"subtrees of {1 << level} leaves cannot follow {self.size} leaves")
        before, after = list(self.hashes), []
        row, size = list(hashes), self.size + (len(hashes) << level)
        while row or before:
            if self.size >> level & 1:
                row.insert(0, before.pop())
            if len(row) & 1:
                after.append(row.pop())
            row = [sha256(b"\x01" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=True)]
            level += 1
        return Edge(size, tuple(reversed(after)))

    def nodes(self) -> dict[tuple[int, int], bytes]:
        """The edge's hashes by their place (level, index) in the tree."""
        found, start = {}, 0
        for hash_ in self.hashes:
            level = (self.size - start).bit_length() - 1
            found[level, start >> level] = hash_
            start += 1 << level
        return found

    def packed(self) -> bytes:
        return b"".join(self.hashes)

    @classmethod
    def unpacked(cls, size: int, packed: bytes) -> "Edge":
        """Raises ValueError when the number of hashes does not fit the size."""
        if len(packed) != 32 * size.bit_count():
            raise ValueError(f"an edge of size {size} has {size.bit_count()} hashes, found {len(packed)} bytes")
        return cls(size, tuple(packed[at : at + 32] for at in range(0, len(packed), 32)))


EMPTY = Edge(0, ())


def _split(size: int) -> int:
    """The largest power of two below `size` (k in RFC 6962 section 2.1)."""
    return 1 << (size - 1).bit_length() - 1


def _subtree(node: Node, start: int, end: int) -> bytes:
    """Root over leaves [start, end); `start` is a multiple of the power of two that covers the range."""
    width = end - start
    if width & (width - 1) == 0:
        return node(width.bit_length() - 1, start // width)
    k = _split(width)
    return node_hash(node(k.bit_length() - 1, start // k), _subtree(node, start + k, end))


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Audit path of leaf `index` in a tree of `size` leaves, nearest sibling first (RFC 6962 section 2.1.1)."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size} leaves")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        k = _split(end - start)
        if index < start + k:
            path.append(_subtree(node, start + k, end))
            end = start + k
        else:
            path.append(_subtree(node, start, start + k))
            start += k
    path.reverse()
    return path


def consistency_proof(old_size: int, new_size: int, node: Node) -> list[bytes]:
    """Proof that a tree of `new_size` extends one of `old_size` (RFC 6962 section 2.1.2)."""
    if not 0 <= old_size <= new_size:
        raise ValueError(f"no consistency between sizes {old_size} and {new_size}")
    if old_size in (0, new_size):
        return []
    path: list[bytes] = []
    start, end, whole = 0, new_size, True
    while old_size != end:
        k = _split(end - start)
        if old_size <= start + k:
            path.append(_subtree(node, start + k, end))
            end = start + k
        else:
            path.append(_subtree(node, start, start + k))
            start, whole = start + k, False
    if not whole:
        path.append(_subtree(node, start, end))
    path.reverse()
    return path


def root_from_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that `proof` leads to from leaf hash `leaf` (RFC 9162 section 2.1.3.2). Raises ValueError."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size} leaves")
    if len(leaf) != 32 or any(len(part) != 32 for part in proof):
        raise ValueError("hashes are 32 bytes")
    first, last, root = index, size - 1, leaf
    for part in proof:
        if last == 0:
            raise ValueError("proof is too long")
        if first & 1 or first == last:
            root = node_hash(part, root)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            root = node_hash(root, part)
        first, last = first >> 1, last >> 1
    if last:
        raise ValueError("proof is too short")
    return root


def check_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check a consistency proof (RFC 9162 section 2.1.4.2). Raises ValueError saying what does not fit."""
    if not 0 <= old_size <= new_size:
        raise ValueError(f"sizes run backwards: {old_size} to {new_size}")
    if any(len(part) != 32 for part in proof):
        raise ValueError("hashes are 32 bytes")
    if old_size == new_size or old_size == 0:
        if proof:
            raise ValueError("expected an empty proof")
        if old_size == new_size and old_root != new_root:
            raise ValueError("same size, other root")
        return
    if not proof:
        raise ValueError("proof is empty")
    parts = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    first, last = old_size - 1, new_size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old = new = parts[0]
    for part in parts[1:]:
        if last == 0:
            raise ValueError("proof is too long")
        if first & 1 or first == last:
            old, new = node_hash(part, old), node_hash(part, new)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            new = node_hash(new, part)
        first, last = first >> 1, last >> 1
    if last:
        raise ValueError("proof is too short")
    if old != old_root:
        raise ValueError("proof does not lead to the old root")
    if new != new_root:
        raise ValueError("proof does not lead to the new root")
