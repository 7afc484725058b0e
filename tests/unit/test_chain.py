"""Chains of tokens and grants, built by hand: what becomes a hop, in which order, and what is shown as a conflict."""

from datetime import UTC, datetime, timedelta

import pytest

from auditlog.core.chain.chain import NO_PATH, Path, TokenPath, build_chain, tokens_to
from auditlog.core.chain.organisation import Organisations
from auditlog.core.chain.statement import History, Revocation, Statement, Token, resolve_token
from auditlog.core.event import Actor, Party, TokenObject, act_chain
from tests.unit.test_disputes_core import ADA, BUYER, SHOPPER, grant

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SERVER = "https://tokens.example"
HELPER = Party("https://conductor.example", "helper", "agent")


def token(jti, *, parent=None, actors=(), subject=ADA, standing="proven", **more):
    return Token(
        jti,
        standing,
        1,
        parent=parent,
        subject=subject,
        actors=tuple(actors),
        attester=SERVER,
        issued_at=NOW,
        grade="A",
        **more,
    )


def exchanged(*tokens):
    return tokens_to(tokens[-1].jti, {each.jti: each for each in tokens})


def parties(chain):
    return [(hop.party.sub, hop.standing, hop.derived_from) for hop in chain.hops]


def codes(chain):
    return [found.code for found in chain.breaks]


def test_exchanges_without_any_grant_give_the_hops_oldest_first_and_say_that_no_grant_stands_behind_them():
    chain = build_chain(path=NO_PATH, tokens=exchanged(token("t1", actors=[SHOPPER]), token("t2", parent="t1", actors=[SHOPPER, BUYER])),
                        acting=[BUYER])  # fmt: skip

    assert parties(chain) == [("ada", "proven", "token"), ("shopper", "proven", "token"), ("buyer", "proven", "token")]
    assert [hop.delegated_by for hop in chain.hops] == [None, ADA.key, SHOPPER.key]
    assert codes(chain) == ["no_grant"] and not chain.complete and chain.principal == ADA and chain.principal_claimed


def test_the_act_claim_of_rfc_8693_is_read_inside_out():
    """RFC 8693 section 4.1, figure 6: the outermost is the current actor, the deepest acted first."""
    nested = Actor(
        "https://consumer.example", "https://service16.example.com", act=Actor("https://service77.example.com", "first")
    )

    assert [party.sub for party in act_chain(nested)] == ["first", "https://service16.example.com"]


def test_a_token_at_its_holders_grant_is_the_same_hop():
    path = Path(
        (grant("g1", redelegate=True), grant("g2", parent="g1", subject=SHOPPER, actor=BUYER)), None, cycle=False
    )
    chain = build_chain(path=path, tokens=exchanged(token("t1", actors=[SHOPPER]), token("t2", parent="t1", actors=[SHOPPER, BUYER], grant="g2")),
                        acting=[SHOPPER, BUYER])  # fmt: skip

    assert [(hop.party.sub, hop.grant, hop.token) for hop in chain.hops] == [
        ("ada", None, None),
        ("shopper", "g1", "t1"),
        ("buyer", "g2", "t2"),
    ]
    assert codes(chain) == [] and chain.complete and chain.proven


@pytest.mark.parametrize(
    ("path", "shown", "code"),
    [
        (Path((grant("g1"),), None, cycle=False), [token("t1", actors=[SHOPPER], grant="g9")], "token_grant_conflict"),
        # The token shown agrees with the act; the one that it was exchanged from does not.
        (
            Path((grant("g1"),), None, cycle=False),
            [token("t1", actors=[SHOPPER], grant="g9"), token("t2", parent="t1", actors=[SHOPPER], grant="g1")],
            "token_grant_conflict",
        ),
        (Path((grant("g1"),), None, cycle=False), [token("t1", actors=[SHOPPER], subject=HELPER)], "subject_conflict"),
        (Path((grant("g1"),), None, cycle=False), [token("t1", actors=[HELPER])], "actor_not_granted"),
        (NO_PATH, [token("t1", actors=[SHOPPER]), token("t2", parent="t1", actors=[HELPER, BUYER])], "act_conflict"),
        (Path((grant("g1", conflicts=(7,)),), None, cycle=False), [], "conflicting_statements"),
        (NO_PATH, [token("t1", actors=[SHOPPER], conflicts=(7, 8))], "conflicting_statements"),
        (NO_PATH, [token("t1", parent="t0", actors=[SHOPPER])], "orphan_token"),
        (NO_PATH, [token("t1", parent="t2", actors=[SHOPPER]), token("t2", parent="t1", actors=[BUYER])], "cycle"),
    ],
)
def test_evidence_that_disagrees_is_a_break_that_is_shown(path, shown, code):
    chain = build_chain(path=path, tokens=exchanged(*shown) if shown else TokenPath(""), acting=[])

    assert code in codes(chain)


def test_a_token_exchanged_by_its_own_holder_is_no_conflict():
    wide, narrow = (
        token("t1", actors=[SHOPPER, BUYER], scope=("a", "b")),
        token("t2", parent="t1", actors=[SHOPPER, BUYER], scope=("a",)),
    )
    forged = token("t2", parent="t1", actors=[HELPER, BUYER])

    assert "act_conflict" not in codes(build_chain(path=NO_PATH, tokens=exchanged(wide, narrow)))
    assert "act_conflict" in codes(build_chain(path=NO_PATH, tokens=exchanged(wide, forged)))


def test_who_could_supply_what_is_missing_is_said():
    chain = build_chain(
        path=Path((grant("g2", parent="g1"),), "g1", cycle=False),
        tokens=exchanged(token("t1", parent="t0", actors=[SHOPPER])),
    )

    suppliers = {found.code: found.supplier for found in chain.breaks}
    assert suppliers["missing_parent"] == "https://conductor.example" and suppliers["orphan_token"] == SERVER


@pytest.mark.parametrize(
    ("organisations", "gains"),
    [
        (Organisations(), [None, True]),  # the human's issuer may belong to anybody
        (Organisations({"https://conductor.example": "Acme", "https://id.acme.example": "Acme"}), [True, True]),
        (Organisations({"https://conductor.example": "Conductor", "https://id.acme.example": "Acme"}), [False, True]),
        (Organisations({"https://conductor.example": "Conductor"}, {SHOPPER.key: "Acme"}), [None, False]),
    ],
)
def test_who_vouches_for_a_party_it_answers_for_gains_by_it(organisations, gains):
    chain = build_chain(path=Path((grant("g1"),), None, cycle=False))  # conductor.example says that its shopper may act

    assert [organisations.gain_of(hop).gains for hop in chain.hops] == gains


def said(jti="t1", *, leaf, at=NOW, proven=True, **more):
    return Statement(TokenObject(jti, **more), at, leaf, f"ev-{leaf}", "tokens", SERVER, "A", proven, at)


def test_what_stands_of_a_token_does_not_depend_on_the_order_of_arrival():
    first, other, ended = (said(leaf=1, scope="read"), said(leaf=2, scope="write", at=NOW + timedelta(seconds=1)),
                           Revocation(NOW, NOW, 3, "tokens", "", True))  # fmt: skip
    forward = resolve_token("t1", History().with_more([first], []).with_more([other], [ended]))
    backward = resolve_token("t1", History().with_more([], [ended]).with_more([other], []).with_more([first], []))

    assert (
        forward == backward and forward.scope == ("read",) and forward.conflicts == (2,) and forward.revoked_at == NOW
    )


def test_a_proven_statement_stands_before_an_earlier_claimed_one():
    claimed = said(leaf=1, scope="admin", at=NOW - timedelta(days=1), proven=False)

    assert resolve_token("t1", History().with_more([claimed, said(leaf=2, scope="read")], [])).scope == ("read",)


def test_a_token_of_which_only_the_end_is_known_is_missing_from_the_path():
    ended = resolve_token("t1", History().with_more([], [Revocation(NOW, NOW, 3, "tokens", "cloud", True)]))

    assert not ended.stated and ended.notified == {"cloud": NOW}
    assert tokens_to("t1", {"t1": ended}).missing == "t1"


def test_exchanges_two_hundred_deep_are_followed_without_recursion():
    many = {f"t{n}": token(f"t{n}", parent=f"t{n - 1}" if n else None, actors=[replace_sub(n)]) for n in range(200)}

    found = tokens_to("t199", many)

    assert len(found.tokens) == 200 and not found.cycle
    assert len(build_chain(path=NO_PATH, tokens=found).hops) == 201


def replace_sub(number):
    return Party(SHOPPER.iss, f"agent{number}", "agent")
