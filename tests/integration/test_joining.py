"""One act told by several sources, one session over several orchestrators: from delivery to API and page."""

import html
import random
import re
from datetime import timedelta

import pytest
from django.test import Client

from auditlog.models import Charge, Finding
from auditlog.projection.project import rebuild
from tests.integration.test_api import Api, problem
from tests.integration.test_dashboard_pages import signed_in, text_of
from tests.joined import MINUTE, set_up

RULE = "integrity.sources_disagree"


@pytest.fixture
def desk(world):
    world.ids = {}
    deliver(world, set_up(world))
    world.settle()
    world.api = Api(world.row, "security")
    return world


def deliver(world, events):
    for signed, appended in zip(events, world.send(*events), strict=True):
        world.ids[signed.jti] = str(appended.event_id)


def story(world, signed, api=None):
    answer = (api or world.api).get(f"events/{world.ids[signed.jti]}/story")
    assert answer.status_code == 200, answer.content
    return answer.json()


def found(world):
    return list(Finding.objects.filter(tenant=world.row, rule=RULE).exclude(state="withdrawn").order_by("id"))


def test_a_resource_bought_is_one_story_seen_by_orchestrator_provider_and_rail_and_its_money_counts_once(desk):
    for signed in desk.first:
        told = story(desk, signed)

        assert told["sources"] == ["cloud", "conductor", "railbank"]
        assert [row["id"] for row in told["members"]] == [desk.ids[s.jti] for s in desk.first]
        assert {"idempotency", "request", "thing"} == {key["kind"] for key in told["keys"]} and all(
            k["corroborated"] for k in told["keys"]
        )
        [money] = told["money"]
        assert (money["spent_minor"], money["currency"], money["charge"], money["once"]) == (
            900,
            "USD",
            None,
            True,
        )  # one line, of the request that says what it is to cost
        assert set(money["counted"]) == {desk.ids[desk.first[0].jti], desk.ids[desk.first[2].jti]}
        assert told["disagreements"] == [] and told["hidden"] == 0
    assert found(desk) == []


def test_spend_over_everything_counts_each_payment_once(desk):
    rows = desk.api.rows("spend")

    assert {(row["currency"], row["spent_minor"]) for row in rows} == {("USD", 900 + 500 + 1_000 + 111)}


def test_a_session_that_goes_on_at_another_orchestrator_is_one_timeline_with_one_exposure_figure(desk, monkeypatch):
    monkeypatch.setattr("auditlog.api.views.timezone.now", lambda: desk.now)  # a hold lapses after seven days
    rows = desk.api.rows("timeline", {"session": "joined-a", "limit": "500"})
    exposure = desk.api.get("timeline/exposure", {"session": "joined-a"}).json()

    told = [desk.ids[s.jti] for s in (desk.over, *desk.first, *desk.second, desk.ceiling, desk.held, desk.drawn)]
    assert [row["id"] for row in rows] == told  # in order of time, and nothing of the other session under the same root
    why = {row["id"]: row["belongs"] for row in rows}
    assert (
        why[desk.ids[desk.drawn.jti]] is None
        and "handed work to another orchestrator" in why[desk.ids[desk.second[0].jti]]
    )
    assert "idempotency key key-1" in why[desk.ids[desk.first[2].jti]]
    assert exposure["currencies"] == [
        {
            "currency": "EUR",
            "spent_minor": 0,
            "credits_minor": 0,
            "in_flight_minor": 700,
            "unused_ceilings_minor": 0,
            "exposure_minor": 700,
        },
        {
            "currency": "USD",
            "spent_minor": 2_400,
            "credits_minor": 0,
            "in_flight_minor": 0,
            "unused_ceilings_minor": 4_000,
            "exposure_minor": 4_000,
        },
    ]
    assert (exposure["payments"], exposure["told_by_several"], exposure["recurring_due"], exposure["more"]) == (
        4,
        2,
        [],
        0,
    )


def test_what_recurs_is_unknown_and_not_zero_while_nobody_states_a_price(desk):
    plan = {"verb": "subscription.start", "provider": "cloud", "target": {"type": "subscription", "id": "sub-1"}}
    deliver(
        desk,
        [
            desk.event(
                "subscription.started",
                source="conductor",
                grant=desk.root,
                session="joined-a",
                at=desk.at + 8 * MINUTE,
                action=plan,
            )
        ],
    )
    desk.settle()

    exposure = desk.api.get("timeline/exposure", {"session": "joined-a"}).json()

    assert (exposure["live_subscriptions"], exposure["recurring_due"]) == (1, None)


def test_pages_of_a_timeline_hold_everything_once_also_what_is_taken_in(desk):
    pages = list(desk.api.walk("timeline", "session=joined-a&limit=2"))
    ids = [row["id"] for page in pages for row in page]

    assert len(ids) == len(set(ids)) == 10 and max(map(len, pages)) == 2


def test_a_transaction_of_many_sessions_glues_none_of_them(desk):
    hub = [
        desk.event(
            "action.performed",
            source="conductor",
            grant=desk.root,
            session=f"hub-{n}",
            txn="txn-hub",
            at=desk.at + n * MINUTE,
        )
        for n in range(30)
    ]
    deliver(desk, hub)
    desk.settle()

    assert len(desk.api.rows("timeline", {"session": "hub-1"})) == 1
    assert len(desk.api.rows("timeline", {"txn": "txn-hub", "limit": "500"})) == 30


@pytest.mark.parametrize("seed", range(4))
def test_order_of_arrival_changes_nothing_about_stories_money_or_findings(world, seed):
    world.ids = {}
    events = set_up(world)
    lies = world.told_by_three("db-7", orchestrator="maestro", provider=world.cloud, rail=world.rail, amount_minor=900, rail_says_minor=1_500,
                               grant=world.over, key="key-7", charge="rb-7", at=world.at + 9 * MINUTE, session="joined-b")  # fmt: skip
    events += lies
    chance = random.Random(seed)
    chance.shuffle(events)
    while events:
        cut = chance.randrange(1, 5)
        deliver(world, events[:cut])
        events = events[cut:]
        world.settle()
    world.api = Api(world.row, "security")

    [finding] = found(world)
    assert set(map(str, finding.event_ids)) == {world.ids[lies[0].jti], world.ids[lies[2].jti]}
    assert (finding.severity, finding.money_at_risk_minor, finding.currency) == ("medium", 600, "USD")
    assert sorted(c.spent for c in Charge.objects.filter(tenant=world.row)) == [0, 111, 500, 900, 1_000, 1_500]
    before = [story(world, s) for s in (*world.first, *lies)]
    rebuild(world.row, now=world.now)
    assert [story(world, s) for s in (*world.first, *lies)] == before


def test_a_contradiction_is_found_says_both_words_and_is_withdrawn_when_its_ground_goes(desk):
    asked, done, paid = desk.told_by_three("db-7", orchestrator="maestro", provider=desk.cloud, rail=desk.rail, amount_minor=900, rail_says_minor=1_500,
                                           grant=desk.over, key="key-7", charge="rb-7", at=desk.at + 9 * MINUTE)  # fmt: skip
    deliver(desk, [asked, done, paid])
    desk.settle()
    [finding] = found(desk)
    assert "maestro says 9.00 USD, railbank says 15.00 USD" in finding.title and finding.principal.endswith("|ada")
    assert story(desk, asked)["money"][0]["spent_minor"] == 1_500  # the greatest of captured and settled stands

    # The orchestrator had used the key for something else: it names no one act any more.
    again = desk.event("resource.requested", source="maestro", at=desk.at + 10 * MINUTE, grant=desk.over, call={"idempotency_key": "key-7"},
                       action={"provider": "cloud", "target": {"type": "database", "id": "db-8"}},
                       money={"amount_minor": 600, "currency": "USD", "phase": "captured", "rail": "rb"})  # fmt: skip
    deliver(desk, [again])
    desk.settle()

    assert found(desk) == []
    assert Finding.objects.get(tenant=desk.row, rule=RULE).withdrawn_by_leaf is not None
    assert story(desk, paid)["sources"] == ["railbank"]


def test_who_guesses_anothers_ids_outside_its_layers_is_a_claim_and_changes_no_figure(desk):
    spent = desk.api.rows("spend")
    liar = desk.event("payment.captured", source="shop", at=desk.at + 2 * MINUTE, call={"idempotency_key": "key-1"}, action={"provider": "cloud"},
                      money={"amount_minor": 0, "currency": "USD", "phase": "captured", "rail": "rb"})  # fmt: skip
    deliver(desk, [liar])
    desk.settle()

    told = story(desk, desk.first[0])

    assert told["sources"] == ["cloud", "conductor", "railbank"]
    assert [row["source"] for row in told["members"] if row["claimed"]] == ["shop"]
    assert [key["claimed_by"] for key in told["keys"] if key["kind"] == "idempotency"] != [[]]
    assert [row["spent_minor"] for row in desk.api.rows("spend")] == [row["spent_minor"] for row in spent] and found(
        desk
    ) == []


def test_the_same_amount_without_a_common_key_is_shown_as_possible_and_counts_twice(desk):
    loose = desk.event("payment.settled", source="railbank", at=desk.at + 7 * MINUTE, principal=desk.ada,
                       money={"amount_minor": 1_000, "currency": "USD", "phase": "settled", "rail": "bank", "charge": "b-1"})  # fmt: skip
    deliver(desk, [loose])
    desk.settle()

    told = story(desk, desk.drawn)

    [one] = told["possibly_same"]
    assert one["event"] == desk.ids[loose.jti] and 0 < one["confidence"] < 1 and told["sources"] == ["conductor"]
    assert [row["spent_minor"] for row in desk.api.rows("spend")] == [900 + 500 + 1_000 + 1_000 + 111]


def test_an_abuse_desk_sees_its_own_part_of_a_story_and_stubs_of_the_rest(desk):
    api = Api(desk.row, "abuse", provider="cloud")
    told = story(desk, desk.first[1], api)

    assert {row["provider"] for row in told["members"]} == {"cloud"} and told["hidden"] == 1
    assert "railbank" not in str(told) and told["money"] == [] and told["possibly_same"] == []
    problem(api.get(f"events/{desk.ids[desk.first[2].jti]}/story"), 404)
    assert {row["provider"] for row in api.rows("timeline", {"session": "joined-a"})} == {"cloud"}
    assert "key-" not in str([row["belongs"] for row in api.rows("timeline", {"session": "joined-a"})])
    exposure = api.get("timeline/exposure", {"session": "joined-a"}).json()
    assert [(row["currency"], row["spent_minor"], row["unused_ceilings_minor"]) for row in exposure["currencies"]] == [
        ("USD", 1_400, 0)
    ]


def test_nobody_asks_without_a_token_nor_with_a_wrong_question(desk):
    assert Client().get(f"/api/v1/events/{desk.ids[desk.first[0].jti]}/story").status_code == 401
    assert Client().get("/api/v1/timeline/exposure?session=joined-a").status_code == 401
    problem(desk.api.get("timeline/exposure"), 400)
    problem(desk.api.get("timeline/exposure", {"session": "a", "txn": "b"}), 400)
    problem(desk.api.get("events/00000000-0000-0000-0000-000000000000/story"), 404)
    assert "/login/" in Client().get("/timeline/?session=joined-a").headers["Location"]
    assert "/login/" in Client().get("/sessions/").headers["Location"]


def test_the_sessions_page_lists_by_kind_a_page_at_a_time_and_leads_to_the_timeline(desk):
    many = [desk.event("session.started", source="conductor", session=f"s-{n:03}", at=desk.at) for n in range(120)]
    desk.send_together(many)
    desk.settle()
    client, query, seen = signed_in(desk, "finance"), "?beginning=s-", []
    while query:
        page = client.get(f"/sessions/{query}").content.decode()
        seen += re.findall(r"<bdi>(s-\d+)</bdi>", page)
        following = re.search(r'href="(\?[^"]*before=[^"]*)"', page)
        query = following and html.unescape(following[1])

    assert seen == [f"s-{n:03}" for n in reversed(range(120))]  # told last, shown first
    assert "txn-a" in client.get("/sessions/?kind=txn").content.decode()
    assert client.get("/sessions/?kind=nonsense").status_code == 200


def test_the_timeline_page_shows_lanes_folded_acts_and_one_figure(desk):
    answer = signed_in(desk, "security").get("/timeline/", {"session": "joined-a"})
    page, text = answer.content.decode(), re.sub(r"\s+", " ", text_of(answer))

    assert (
        page.count("seen by 3 sources") == 2
        and "24.00 USD spent" in text
        and "40.00 USD" in text
        and "7.00 EUR" in text
    )
    for signed in (*desk.first, *desk.second, desk.held):
        assert f"/events/{desk.ids[signed.jti]}/" in page
    assert "handed work to another orchestrator" in text and "Recurring: none known" in text
    assert signed_in(desk, "security").get("/timeline/", {"session": "nowhere"}).status_code == 404
    assert signed_in(desk, "security").get("/timeline/").status_code == 302


def test_an_event_page_says_who_else_saw_it_and_what_counts_once(desk):
    text = re.sub(r"\s+", " ", text_of(signed_in(desk, "finance").get(f"/events/{desk.ids[desk.first[0].jti]}/")))

    assert "Also seen by" in text and "Counted once: 9.00 USD spent, told by 2 statements" in text
    assert "2 statements counted once" in text_of(signed_in(desk, "finance").get("/spend/"))


def test_an_abuse_desk_page_names_nobody_elses_part(desk):
    client = signed_in(desk, "abuse", provider="cloud")
    text = text_of(client.get("/timeline/", {"session": "joined-a"}))

    assert "railbank" not in text and "txn-root" not in text and "key-1" not in text
    assert "railbank" not in text_of(client.get(f"/events/{desk.ids[desk.first[1].jti]}/"))
    assert "railbank" not in text_of(client.get("/sessions/"))
    assert client.get("/timeline/", {"txn": "txn-root"}).status_code == 404


def test_hostile_names_are_escaped_on_the_timeline(desk):
    evil = "<script>alert(1)</script>\u202e"
    deliver(desk, [desk.event("action.performed", source="conductor", session=evil, at=desk.at, grant=desk.root,
                              action={"verb": evil, "provider": evil, "target": {"type": evil, "id": evil}})])  # fmt: skip
    desk.settle()

    client = signed_in(desk, "security")
    for page in (client.get("/timeline/", {"session": evil}), client.get("/sessions/")):
        assert (
            page.status_code == 200 and b"<script>alert" not in page.content and "\u202e" not in page.content.decode()
        )


def test_a_story_that_crosses_days_and_a_late_settlement_is_still_one(desk):
    late = desk.event("payment.settled", source="railbank", at=desk.at + timedelta(days=0, hours=4),
                      money={"amount_minor": 900, "currency": "USD", "phase": "settled", "rail": "rb", "charge": "rb-1"})  # fmt: skip
    deliver(desk, [late])
    desk.settle()

    assert len(story(desk, late)["members"]) == 4 and found(desk) == []


def test_a_partys_page_leads_to_its_latest_sessions(desk):
    page = signed_in(desk, "security").get("/parties/", {"key": f"{desk.lead.iss}|lead"}).content.decode()

    assert "/timeline/?session=joined-a" in page


# --- longer than is followed ------------------------------------------------------------------------------------------------


def links(world, length, *, session=""):
    """Each statement states its own key and the one of the statement before: one as idempotency key, one as request id."""
    made = []
    for n in range(length):
        source = (world.conductor, world.cloud)[(n // 2) % 2]
        key, request = (f"k-{(n + 1) // 2}", f"r-{n // 2}")
        made.append(world.event("action.performed", source=source, grant=world.root, at=world.at + n * timedelta(seconds=1), request_id=request,
                                call={"operation": "x", "idempotency_key": key}, action={"verb": "x", "provider": "cloud"},
                                **({"session": session} if session and not n else {})))  # fmt: skip
    return made


def test_a_story_that_joins_on_and_on_says_that_it_is_cut_and_one_that_ends_does_not(desk):
    short = links(desk, 5)
    deliver(desk, short)
    desk.settle()
    assert (story(desk, short[0])["cut"], len(story(desk, short[0])["members"])) == (False, 5)
    assert "joins on and on" not in text_of(signed_in(desk, "finance").get(f"/events/{desk.ids[short[0].jti]}/"))

    long = links(desk, 30, session="endless")
    deliver(desk, long)
    desk.settle()

    told = story(desk, long[0])
    assert told["cut"] is True and 1 < len(told["members"]) < 30
    page = text_of(signed_in(desk, "finance").get(f"/events/{desk.ids[long[0].jti]}/"))
    assert "join on and on" in page
    exposure = desk.api.get("timeline/exposure", {"session": "endless"}).json()
    assert (
        exposure["at_least"] is True
        and desk.api.get("timeline", {"session": "endless"}).headers["Answerable-Cut"] == "true"
    )
    assert "so the figures are at least what they say" in text_of(
        signed_in(desk, "finance").get("/timeline/?session=endless")
    )
    assert desk.api.get("timeline/exposure", {"session": "joined-a"}).json()["at_least"] is False
    assert "at least" not in text_of(signed_in(desk, "finance").get("/timeline/?session=joined-a"))


def test_a_figure_of_a_cut_session_is_marked_where_it_stands(desk):
    paid = desk.payment(
        "captured",
        1_200,
        charge="rb-77",
        key="k-0",
        rail="rb",
        source=desk.conductor,
        grant=desk.root,
        at=desk.at,
        session="endless",
    )
    deliver(desk, [paid, *links(desk, 30, session="endless")])
    desk.settle()

    text = re.sub(r"\s+", " ", text_of(signed_in(desk, "finance").get("/timeline/?session=endless")))

    assert "at least 12.00 USD spent" in text and "could still be charged: at least 0.00 USD" in text


# --- the list of sessions ---------------------------------------------------------------------------------------------------


def names_on(world, role="finance", query="", **more):
    client, seen, following = signed_in(world, role, **more), [], f"?{query}"
    while following:
        page = client.get(f"/sessions/{following}").content.decode()
        seen.append(re.findall(r'<a class="id"[^>]*><bdi>([^<]*)</bdi>', page))
        following = re.search(r'href="(\?[^"]*before=[^"]*)"', page)
        following = following and html.unescape(following[1])
    return seen


def test_a_session_that_is_heard_of_again_comes_first(desk):
    for name in ("one", "two", "three"):
        deliver(desk, [desk.event("session.started", source="conductor", session=name, at=desk.at)])
    deliver(
        desk, [desk.event("session.ended", source="conductor", session="one", at=desk.at - timedelta(days=9))]
    )  # told late
    desk.settle()

    assert names_on(desk)[0][:3] == ["one", "three", "two"]
    assert names_on(desk, query="beginning=t") == [["three", "two"]]


@pytest.mark.parametrize("walked", [(1,), (7, 50), (20_000,)])
def test_however_far_is_walked_the_list_is_the_same(desk, walked, monkeypatch):
    """A busy session between quiet ones, and events that name none."""
    events = [desk.event("session.started", source="conductor", session=f"q-{n:03}", at=desk.at) for n in range(60)]
    events[30:30] = [desk.event("action.performed", source="conductor", session="busy", at=desk.at) for _ in range(40)]
    events += [desk.event("action.performed", source="conductor", at=desk.at) for _ in range(30)]
    desk.send_together(events)
    desk.settle()
    monkeypatch.setattr("auditlog.reads.threads.WALKED", walked)

    pages = names_on(desk)

    flat = [name for page in pages for name in page]
    expected = [f"q-{n:03}" for n in reversed(range(30, 60))] + ["busy"] + [f"q-{n:03}" for n in reversed(range(30))]
    assert flat[:61] == expected and len(flat) == len(set(flat)) == 61 + 3 and len(pages) == 2


def test_an_abuse_desk_lists_sessions_by_its_own_providers_part_of_them(desk):
    client = {"role": "abuse", "provider": "shop"}
    for name, provider in (("mixed", "shop"), ("theirs", "cloud"), ("later", "shop"), ("mixed", "cloud")):
        deliver(
            desk,
            [
                desk.event(
                    "action.performed",
                    source="conductor",
                    session=name,
                    at=desk.at,
                    action={"verb": "x", "provider": provider},
                )
            ],
        )
    desk.settle()

    assert names_on(desk, **client) == [["later", "mixed"]]


@pytest.mark.parametrize("query", ["before=x", "before=-1", "before=99999999999999999999", "before="])
def test_a_place_that_is_none_shows_no_error(desk, query):
    assert signed_in(desk, "finance").get(f"/sessions/?{query}").status_code == 200
