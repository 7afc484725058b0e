"""Stories: which statements belong together, by which keys, in any order; and what two sources contradict."""

from datetime import UTC, datetime, timedelta
from itertools import combinations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.acts.story import disagreements, keys_of, possible_same, stories
from auditlog.core.chain.act import Act
from auditlog.core.chain.chain import NO_PATH
from auditlog.core.event import Payload
from auditlog.core.money.join import MANY

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
TEXTS = [
    f
    for f in Act.__dataclass_fields__
    if f
    not in (
        "leaf_index",
        "occurred_at",
        "received_at",
        "amount_minor",
        "within_remit",
        "principal_claimed",
        "payload",
        "path",
    )
]


def act(n, source, *, type="payment.captured", at=None, ray="", invoice="", **more):
    payload = {"outcome": more.get("outcome", "success")}
    if ray:
        payload["client"] = {"ray_id": ray}
    if invoice:
        payload["money"] = {"amount_minor": 1, "currency": "USD", "phase": "captured", "invoice": invoice}
    fields = dict.fromkeys(TEXTS, "") | {
        "event_id": f"e{n:04}", "leaf_index": n, "source": source, "type": type, "occurred_at": at or NOW + timedelta(seconds=n),
        "received_at": NOW, "outcome": "success", "environment": "live", "issuer": f"https://{source}.example", "amount_minor": None,
        "within_remit": True, "principal_claimed": False, "payload": msgspec.convert(payload, Payload), "path": NO_PATH,
    }  # fmt: skip
    return Act(**(fields | more))


def parts(acts):
    return {frozenset(a.event_id for a in story.acts) for story in stories(acts)}


def three(**rail):
    return [
        act(
            1,
            "conductor",
            type="resource.requested",
            provider="cloud",
            target="db-1",
            idempotency_key="k",
            rail="pay",
            amount_minor=900,
            currency="USD",
            phase="captured",
        ),
        act(2, "cloud", type="action.performed", provider="cloud", target="db-1", stated_verb="create", request_id="r"),
        act(
            3,
            "pay",
            **(
                {
                    "rail": "pay",
                    "charge": "c",
                    "idempotency_key": "k",
                    "amount_minor": 900,
                    "currency": "USD",
                    "phase": "captured",
                }
                | rail
            ),
        ),
    ]


def test_a_request_a_create_and_a_charge_are_one_story_seen_by_three():
    [story] = stories(three())

    assert story.sources == ("cloud", "conductor", "pay") and disagreements(story) == []
    assert {(s.key.kind, s.sources) for s in story.shared} == {
        ("idempotency", ("conductor", "pay")),
        ("thing", ("cloud", "conductor")),
    }


def test_an_id_means_something_only_where_the_call_went():
    assert (
        len(stories([act(1, "a", provider="x", idempotency_key="1"), act(2, "b", provider="y", idempotency_key="1")]))
        == 2
    )
    assert len(stories([act(1, "a", rail="x", charge="1"), act(2, "b", rail="y", charge="1")])) == 2
    assert len(stories([act(1, "a", request_id="1"), act(2, "b", request_id="1")])) == 2


@pytest.mark.parametrize("context", ["session", "task", "txn", "token", "grant", "project"])
def test_a_context_never_makes_two_acts_one(context):
    assert (
        len(stories([act(1, "a", provider="x", **{context: "same"}), act(2, "b", provider="x", **{context: "same"})]))
        == 2
    )


def test_a_ray_id_is_another_name_of_the_request():
    assert len(stories([act(1, "a", provider="x", request_id="ray-1"), act(2, "b", provider="x", ray="ray-1")])) == 1


def test_one_name_in_two_accounts_is_two_things():
    def asked(n, source, **more):
        return act(n, source, **({"type": "resource.requested", "provider": "cloud", "target": "main"} | more))

    ada, ben = asked(1, "conductor", account="a"), asked(2, "maestro", account="b")
    assert parts([ada, ben]) == {frozenset({"e0001"}), frozenset({"e0002"})}
    unsaid, made = asked(3, "bank"), asked(4, "cloud", type="resource.provisioned", account="a")
    assert parts([ada, made, unsaid]) == {frozenset({"e0001", "e0003", "e0004"})}
    assert parts([ada, ben, made, unsaid]) == {
        frozenset({"e0001", "e0004"}),
        frozenset({"e0002"}),
        frozenset({"e0003"}),
    }


def test_an_invoice_of_many_calls_is_no_act_and_an_invoice_of_one_is():
    calls = [act(n, "meter", type="usage.metered", rail="pay", charge=f"m{n}", invoice="in") for n in (1, 2)]
    paid = act(9, "pay", type="invoice.paid", rail="pay", invoice="in")

    assert len(stories([*calls, paid])) == 3
    assert len(stories([calls[0], paid])) == 1


def test_a_key_that_very_many_state_glues_nothing():
    many = [act(n, "a", type=f"t{n}", provider="x", request_id="hub") for n in range(MANY + 1)]

    assert len(stories(many)) == MANY + 1


@pytest.mark.parametrize(
    "lies",
    [
        [
            act(10 + n, "liar", type="action.performed", provider="x", target=f"t{n}", idempotency_key="k1")
            for n in range(2)
        ],
        [act(10 + n, "liar", type=f"other.{n}", provider="x", idempotency_key="k1") for n in range(MANY + 1)],
    ],
    ids=["tells two acts apart", "states it very often"],
)
def test_a_source_that_repeats_the_key_of_others_takes_it_from_nobody_else(lies):
    honest = [
        act(1, "a", type="resource.requested", provider="x", idempotency_key="k1"),
        act(2, "x", type="resource.provisioned", provider="x", idempotency_key="k1"),
    ]

    assert [len(story.acts) for story in stories([*honest, *lies])] == [2] + [1] * len(lies)


def test_naming_the_keys_of_two_stories_does_not_make_them_one():
    one = [
        act(1, "a", type="resource.requested", provider="x", target="t1", idempotency_key="k1"),
        act(2, "x", type="resource.provisioned", provider="x", idempotency_key="k1"),
    ]
    two = [
        act(3, "a", type="resource.requested", provider="x", target="t2", request_id="r2"),
        act(4, "x", type="resource.failed", provider="x", request_id="r2"),
    ]
    bridge = act(5, "b", type="other.b.z", provider="x", idempotency_key="k1", request_id="r2")

    found = parts([*one, *two, bridge])

    assert frozenset({"e0003", "e0004"}) in found or not any({"e0001", "e0003"} <= part for part in found)
    assert not any({"e0001", "e0003"} <= part for part in found)
    assert frozenset({"e0001", "e0002", "e0005"}) in found


def test_a_claim_is_shown_beside_the_story_and_bridges_nothing():
    liar = act(7, "liar", rail="pay", charge="c", idempotency_key="other", within_remit=False)
    other = act(8, "conductor", type="resource.updated", provider="z", rail="pay", idempotency_key="other")

    found = stories([*three(), liar, other])

    [story] = [s for s in found if len(s.acts) > 1]
    assert story.claimed == set() or story.claimed == {"e0007"}
    assert not any({"e0003", "e0008"} <= {a.event_id for a in s.acts} for s in found)
    [alone] = [s for s in stories([*three(), liar]) if len(s.acts) > 1]
    assert alone.claimed == {"e0007"} and "liar" not in alone.sources and disagreements(alone) == []


@pytest.mark.parametrize(
    ("rail", "kind"),
    [
        ({"amount_minor": 1500}, "amount"),
        ({"type": "resource.requested", "occurred_at": NOW + timedelta(hours=1)}, "time"),
        ({"principal": "i|ben"}, "principal"),
    ],
)
def test_what_two_sources_contradict_is_said_in_words(rail, kind):
    acts = three(**rail)
    acts[0] = act(1, "conductor", type="resource.requested", provider="cloud", target="db-1", idempotency_key="k", rail="pay", amount_minor=900,
                  currency="USD", phase="captured", principal="i|ada")  # fmt: skip

    [each] = disagreements(stories(acts)[0])

    assert each.kind == kind and "conductor says" in each.words and "pay" in each.words


def test_an_amount_that_tax_may_explain_is_minor_and_one_that_it_cannot_is_not():
    [tax] = disagreements(stories(three(amount_minor=1071))[0])
    [more] = disagreements(stories(three(amount_minor=1200))[0])

    assert tax.is_minor and not more.is_minor and (more.amount_minor, more.currency) == (300, "USD")


@pytest.mark.parametrize("rail", [{"phase": "quoted", "amount_minor": 5}, {"currency": "EUR", "amount_minor": 830}, {"occurred_at": NOW + timedelta(minutes=3)},
                                  {"actor": "https://keys.example|key-7"}])  # fmt: skip
def test_a_quote_another_currency_a_clock_within_reason_and_another_issuers_name_are_no_contradiction(rail):
    assert disagreements(stories(three(**rail))[0]) == []


def test_actors_of_one_issuer_and_outcomes_are_compared():
    acts = [act(1, "a", provider="x", type="resource.provisioned", target="t", actor="i|one"),
            act(2, "x", provider="x", type="resource.failed", target="t", actor="i|two", outcome="failure")]  # fmt: skip

    assert {each.kind for each in disagreements(stories(acts)[0])} == {"actor", "outcome"}


def test_the_same_amount_party_and_hour_is_possible_never_joined_and_ambiguous_with_two():
    mine = act(1, "a", amount_minor=900, currency="USD", phase="captured", principal="i|ada", rail="pay")
    near = act(2, "b", amount_minor=900, currency="USD", phase="settled", principal="i|ada", rail="bank")

    [one] = possible_same(mine, [near])

    assert one.other == "e0002" and 0.9 < one.confidence < 1 and len(stories([mine, near])) == 2
    again = act(3, "b", amount_minor=900, currency="USD", phase="settled", principal="i|ada", rail="bank")
    assert [each.confidence for each in possible_same(mine, [near, again])] == [None, None]
    often = [
        act(
            9 + n,
            "b",
            amount_minor=900,
            currency="USD",
            phase="settled",
            principal="i|ada",
            rail="bank",
            at=NOW + timedelta(hours=1 + n / 4),
        )
        for n in range(40)
    ]
    assert possible_same(mine, [near, *often])[0].confidence < one.confidence
    assert (
        possible_same(mine, [act(4, "b", amount_minor=900, currency="USD", phase="settled", principal="i|ben")]) == []
    )


ACTS = st.lists(
    st.builds(
        act, st.integers(0, 60), st.sampled_from("abc"), type=st.sampled_from(["payment.captured", "resource.provisioned", "action.performed"]),
        provider=st.sampled_from(["", "x"]), rail=st.sampled_from(["", "pay"]), charge=st.sampled_from(["", "c", "d"]), target=st.sampled_from(["", "t", "u"]),
        idempotency_key=st.sampled_from(["", "k", "l"]), request_id=st.sampled_from(["", "r"]), invoice=st.sampled_from(["", "i"]),
        within_remit=st.sampled_from([True, True, True, False]),
    ), max_size=8, unique_by=lambda a: a.event_id,
)  # fmt: skip


@given(ACTS, st.randoms())
def test_stories_partition_the_acts_are_the_same_in_any_order_and_no_source_tells_one_apart(acts, random):
    before = parts(acts)
    shuffled = [*acts, *acts[:2]]
    random.shuffle(shuffled)

    assert parts(shuffled) == before
    assert sorted(e for part in before for e in part) == sorted(a.event_id for a in acts)
    for story in stories(acts):
        own = [a for a in story.acts if a.event_id not in story.claimed]
        for a, b in combinations(own, 2):
            if a.source == b.source:
                assert not (a.rail == b.rail and a.charge and b.charge and a.charge != b.charge)


@given(ACTS)
def test_whoever_is_in_a_story_reaches_everybody_in_it_by_keys_that_both_sides_state(acts):
    for story in stories(acts):
        reached, pending = {story.acts[0].event_id}, [story.acts[0]]
        while pending:
            one = pending.pop()
            for other in story.acts:
                if other.event_id not in reached and set(keys_of(one)) & set(keys_of(other)):
                    reached.add(other.event_id)
                    pending.append(other)
        assert len(reached) == len(story.acts)
