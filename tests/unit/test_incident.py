"""Gathering: which findings are about one thing, whatever comes first."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.incident import ActKeys, Apart, Linked, Stake, desks_of, gather, linked, over_of, share_acts

AT = datetime(2026, 11, 1, tzinfo=UTC)
ADA, BEN = "https://id.example|ada", "https://id.example|ben"


def act(leaf, principal=ADA, *, claimed=False, task="", session="", provider="registrar", **keys):
    return ActKeys(leaf, principal, claimed, task, session, provider, **keys)


def of(id, acts, *, rule="intent.price_exceeded", principal=ADA, days=0.0, lasts=0.0, is_sum=False, anchor="a"):
    first = AT + timedelta(days=days)
    return linked(id, rule, anchor, principal, acts, first, first + timedelta(days=lasts), is_sum=is_sum)


def is_one(*findings):
    return len(gather(findings)) == 1


def test_findings_on_one_act_are_one():
    assert is_one(of(1, [act(5)]), of(2, [act(4), act(5)]))


def test_findings_on_several_statements_of_one_payment_are_one():
    assert is_one(of(1, [act(5, charge="ch_1")]), of(2, [act(9, provider="", charge="ch_1")], days=40))


def test_a_request_is_one_at_its_provider_only():
    assert is_one(of(1, [act(5, request_id="r")]), of(2, [act(9, request_id="r")]))
    assert not is_one(of(1, [act(5, request_id="r")]), of(2, [act(9, request_id="r", provider="cloud")]))


def test_findings_of_one_task_are_one_and_those_of_a_session_only_where_no_task_is_stated():
    assert is_one(of(1, [act(5, task="film")]), of(2, [act(6, task="film")]))
    assert is_one(of(1, [act(5, session="s")]), of(2, [act(6, session="s")]))
    assert not is_one(of(1, [act(5, task="a", session="s")]), of(2, [act(6, task="b", session="s")]))
    assert not is_one(of(1, [act(5, task="a", session="s")]), of(2, [act(6, session="s")]))


def test_two_loops_of_one_agent_a_month_apart_are_two():
    loops = [
        of(n, [act(n * 100 + i, task="default") for i in range(80)], rule="spend.retry_loop", days=30 * n)
        for n in (1, 2)
    ]

    assert gather(loops) == [(1,), (2,)]


def test_one_principal_provider_or_agent_alone_joins_nothing():
    assert gather([of(1, [act(5)]), of(2, [act(6)])]) == [(1,), (2,)]


def test_different_principals_are_never_one_whatever_they_share():
    mine, theirs = [act(5, task="t", charge="c")], [act(5, BEN, task="t", charge="c")]

    assert not is_one(of(1, mine), of(2, theirs, principal=BEN))
    assert not is_one(of(1, mine), of(2, mine, principal=""))


def test_a_task_that_a_source_merely_claims_is_somebodys_joins_nothing():
    assert not is_one(of(1, [act(5, task="film")]), of(2, [act(6, task="film", claimed=True)]))


def test_a_sum_belongs_where_most_of_its_acts_do_and_joins_nobody_else():
    loop = of(1, [act(n, task="loop") for n in range(60)], rule="spend.retry_loop")
    wrong = of(2, [act(100, task="name")], rule="intent.domain_mismatch")
    cap = [act(n, task="loop") for n in range(60)] + [act(100, task="name"), *(act(n) for n in range(200, 220))]
    spread = [act(n, task="loop") for n in range(5)] + [act(100, task="name"), *(act(n) for n in range(200, 220))]

    assert gather([loop, wrong, of(3, cap, rule="spend.cap_exceeded", is_sum=True)]) == [(1, 3), (2,)]
    assert gather([loop, wrong, of(3, spread, rule="spend.cap_exceeded", is_sum=True)]) == [(1,), (2,), (3,)]


def test_a_sum_without_tasks_belongs_to_the_finding_that_most_of_its_acts_are_in():
    loop = of(1, [act(n) for n in range(60)], rule="spend.retry_loop")

    assert is_one(loop, of(2, [act(n) for n in range(20, 70)], rule="spend.velocity", is_sum=True))
    assert not is_one(loop, of(2, [act(n) for n in range(50, 90)], rule="spend.velocity", is_sum=True))


def test_acts_after_the_end_of_one_grant_are_one_and_after_the_ends_of_two_are_two():
    late = [of(n, [act(n)], rule="authority.used_after_revocation", anchor=f"grant g{n // 2}") for n in (2, 3, 4)]

    assert gather(late) == [(2, 3), (4,)]


def test_what_a_source_does_wrong_stands_by_itself():
    kinds = {"rule": "integrity.signature_failed", "principal": ""}
    hours = [of(n, [], anchor=f"till k 2026-11-01T0{n}:00", **kinds) for n in (1, 2)]
    other = of(3, [], anchor="cloud k 2026-11-01T01:00", **kinds)
    silent = [of(n, [act(1)], rule="integrity.source_silent", anchor="till x", principal="") for n in (4, 5)]

    assert gather([*hours, other, *silent]) == [(1, 2), (3,), (4,), (5,)]


def test_what_a_person_took_apart_stays_so_and_what_comes_goes_with_the_older_side():
    whole = [of(n, [act(n, task="t")]) for n in (1, 2, 3)]
    apart = [Apart(frozenset({2}), frozenset({1, 3}))]

    assert gather(whole, apart=apart) == [(1, 3), (2,)]
    assert gather([*whole, of(4, [act(2, task="t")])], apart=apart) == [(1, 3, 4), (2,)]
    assert gather([*whole, of(4, [act(2)])], apart=apart) == [(1, 3), (2, 4)]


def test_what_a_person_put_together_stays_so():
    assert gather([of(1, [act(1)]), of(2, [act(2)])], together=[(2, 1)]) == [(1, 2)]


# --- of any set -------------------------------------------------------------------------------------------------------

words = st.sampled_from(["", "", "a", "b"])
acts = st.builds(
    act, st.integers(0, 12), st.sampled_from([ADA, BEN]), claimed=st.booleans(), task=words, session=words, charge=words
)


@st.composite
def sets(draw):
    found = []
    for id in range(1, draw(st.integers(1, 9)) + 1):
        found.append(
            of(id, draw(st.lists(acts, max_size=5)), principal=draw(st.sampled_from([ADA, BEN, ""])), days=draw(st.integers(0, 30)),
               lasts=draw(st.integers(0, 12)), is_sum=draw(st.booleans()), rule=draw(st.sampled_from(["spend.retry_loop", "authority.used_after_expiry"])),
               anchor=draw(st.sampled_from(["grant x", "grant y"])))
        )  # fmt: skip
    return found


@st.composite
def hands(draw, most=9):
    ids = st.frozensets(st.integers(1, most), max_size=3)
    return [Apart(one, draw(ids) - one) for one in draw(st.lists(ids, max_size=2))]


@given(sets(), hands(), st.randoms(use_true_random=False))
def test_any_order_gives_the_same_incidents(findings, apart, chance):
    shuffled = findings[:]
    chance.shuffle(shuffled)

    assert gather(shuffled, apart=apart) == gather(findings, apart=apart)


@given(sets(), st.randoms(use_true_random=False))
def test_one_by_one_gives_the_same_as_all_at_once(findings, chance):
    """Each that comes joins the incidents that it is linked to, by what is kept of those alone."""
    chance.shuffle(findings)
    groups: list[list[Linked]] = []
    for new in findings:
        touched = [group for group in groups if any(len(gather([new, old])) == 1 for old in group)]
        groups = [group for group in groups if not any(group is one for one in touched)]
        groups.append([new, *(old for group in touched for old in group)])

    assert sorted(tuple(sorted(each.id for each in group)) for group in groups) == gather(findings)


@given(sets(), hands())
def test_no_incident_holds_what_a_person_took_apart_or_two_principals(findings, apart):
    principal = {each.id: each.principal for each in findings}
    for group in gather(findings, apart=apart):
        assert len({principal[id] for id in group}) == 1
        assert not any(set(group) & one and set(group) & other for one, other in apart)


@given(sets())
def test_sharing_acts_is_the_same_from_both_sides(findings):
    for one in findings:
        for other in findings:
            assert share_acts(one, other) == share_acts(other, one)


def test_money_is_counted_once_however_many_findings_tell_of_it():
    loop = frozenset(range(80))
    stakes = [Stake("spend.retry_loop", loop, 39_500, "USD"), Stake("intent.price_exceeded", loop - {0}, 39_500, "USD"),
              Stake("spend.velocity", loop, 33_524, "USD", is_sum=True)]  # fmt: skip

    assert over_of(stakes) == {"USD": 39_500}
    assert over_of([*stakes, Stake("intent.domain_mismatch", frozenset({900}), 1_100, "USD")]) == {"USD": 40_600}
    assert over_of([*stakes, Stake("spend.forecast_breach", loop, 10**9, "USD")]) == {"USD": 39_500}
    assert over_of([Stake("spend.cap_exceeded", loop, 700, "EUR", is_sum=True), *stakes]) == {"EUR": 700, "USD": 39_500}


def test_an_order_and_the_charge_for_it_are_one_payment_and_too_much_once():
    order, charge = (
        Stake("intent.price_exceeded", frozenset({5}), 900, "USD"),
        Stake("spend.duplicate_charge", frozenset({9}), 900, "USD"),
    )

    assert over_of([order, charge]) == {"USD": 1_800}  # nothing says that they are one
    assert over_of([order, charge], [[9, 5]]) == {"USD": 900}
    assert over_of([order, charge], [[9], [5, 7]]) == {"USD": 1_800}


def test_an_incident_is_on_the_desks_of_its_rules():
    assert desks_of(["spend.retry_loop"]) == ["finance"]
    assert desks_of(["squatting.lookalike", "spend.retry_loop"]) == ["security", "finance", "abuse"]
    assert desks_of(["integrity.source_gap"]) == ["security", "auditor"]
