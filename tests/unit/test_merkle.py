"""RFC 6962 trees, against the published good and bad proofs and against a tree built the slow way."""

import json
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.log.merkle import (
    EMPTY,
    EMPTY_ROOT,
    Edge,
    check_consistency,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_from_inclusion,
)
from tests import vectors


def slow_root(hashes):
    """MTH of RFC 6962 section 2.1, word for word."""
    if not hashes:
        return EMPTY_ROOT
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return node_hash(slow_root(hashes[:k]), slow_root(hashes[k:]))


LEAVES = [leaf_hash(bytes([n % 256, n // 256])) for n in range(300)]


def node(level, index):
    return slow_root(LEAVES[index << level : (index + 1) << level])


@given(st.integers(0, 300), st.lists(st.integers(0, 40), max_size=12))
def test_an_edge_grown_in_any_steps_has_the_tree_root(size, steps):
    edge, done = EMPTY, 0
    for step in [*steps, size]:
        edge = edge.extended(LEAVES[done : min(size, done + step)])
        done = edge.size

    assert edge.size == size
    assert edge.root() == slow_root(LEAVES[:size])
    assert Edge.unpacked(edge.size, edge.packed()) == edge


@given(st.integers(0, 9), st.integers(0, 4), st.integers(0, 70))
def test_an_edge_grown_by_whole_subtrees_is_the_one_grown_by_their_leaves(before, level, count):
    start = before << level
    whole = [node(level, before + n) for n in range(min(count, (len(LEAVES) >> level) - before))]

    grown = EMPTY.extended(LEAVES[:start]).extended(whole, level=level)

    assert grown == EMPTY.extended(LEAVES[: start + (len(whole) << level)])


def test_a_subtree_is_not_added_where_it_does_not_fit():
    with pytest.raises(ValueError, match="4 leaves cannot follow 6"):
        EMPTY.extended(LEAVES[:6]).extended([node(2, 2)], level=2)


@given(st.data())
def test_every_inclusion_proof_leads_to_the_root(data):
    size = data.draw(st.integers(1, 300))
    index = data.draw(st.integers(0, size - 1))

    proof = inclusion_proof(index, size, node)

    assert root_from_inclusion(index, size, LEAVES[index], proof) == slow_root(LEAVES[:size])


@given(st.data())
def test_every_consistency_proof_holds_and_a_changed_one_does_not(data):
    new = data.draw(st.integers(1, 300))
    old = data.draw(st.integers(1, new))
    proof = consistency_proof(old, new, node)
    roots = slow_root(LEAVES[:old]), slow_root(LEAVES[:new])

    check_consistency(old, new, *roots, proof)
    with pytest.raises(ValueError):
        check_consistency(old, new, LEAVES[0] if old > 1 else LEAVES[1], roots[1], proof)


def test_an_edge_with_a_hash_too_many_is_refused():
    with pytest.raises(ValueError, match="has 1 hashes"):
        Edge.unpacked(4, b"\0" * 64)


def test_published_inclusion_proofs_are_judged_as_published():
    files = vectors.files("merkle/inclusion/**/*.json")
    for file in files:
        case = json.loads(file.read_text())
        try:
            leaf, root = b64decode(case["leafHash"] or ""), b64decode(case["root"] or "")
            proof = [b64decode(part) for part in case["proof"] or []]
            good = root_from_inclusion(case["leafIdx"], case["treeSize"], leaf, proof) == root
        except ValueError:
            good = False
        assert good != case["wantErr"], f"{file}: {case['desc']}"
    assert len(files) > 80


def test_published_consistency_proofs_are_judged_as_published():
    files = vectors.files("merkle/consistency/**/*.json")
    for file in files:
        case = json.loads(file.read_text())
        try:
            check_consistency(
                case["size1"], case["size2"], b64decode(case["root1"] or ""), b64decode(case["root2"] or ""),
                [b64decode(part) for part in case["proof"] or []],
            )  # fmt: skip
            good = True
        except ValueError:
            good = False
        assert good != case["wantErr"], f"{file}: {case['desc']}"
    assert len(files) > 80
