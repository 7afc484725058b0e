"""What a sceptical reader asks of a chain: was it approved, who gains by the word given, was it on record before the act,
what was in force at a moment, and what is allowed and used.
"""

import re
from datetime import timedelta

import pytest

from auditlog.models import Finding
from auditlog.projection.project import rebuild
from auditlog.sources.configure import add_organisation
from tests.integration.test_api import Api, problem
from tests.integration.test_dashboard_pages import signed_in, source_of, text_of

ID, BOTS, MINT = "https://id.acme.example", "https://bots.example", "https://conductor.example"
HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)


@pytest.fixture
def desk(world):
    """Ada lets an agent buy names, and wants to be asked before each purchase."""
    world.source("conductor", MINT)
    world.source("registrar", "https://registrar.example", provider="registrar")
    world.ada, world.bot = world.human("ada", issuer=ID), world.agent("bot", issuer=BOTS)
    world.at = world.now - HOUR
    world.root = world.grant(
        world.ada, world.bot, actions=["**"], resources=["**"], gates=["purchase"], redelegate=True, at=world.at - HOUR
    )
    world.api = Api(world.row, "security")
    return world


def settled(world, *many):
    told = world.send(*many)
    world.settle()
    return str(told[-1].event_id)


def chain(world, event_id, **query):
    answer = world.api.get(f"events/{event_id}/chain", query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def page(world, event_id, **query):
    return signed_in(world, "security").get(f"/events/{event_id}/", query)


# --- approvals ------------------------------------------------------------------------------------------------------


def answers(world):
    by, asked = (
        {"kind": "purchase", "by": world.ada.ref},
        {"request_id": "req-1", "principal": world.ada, "at": world.at - MINUTE},
    )
    return {
        "approved": world.event("approval.decided", gate=by, actor=world.ada, **asked),
        "refused": world.event("approval.decided", outcome="denied", gate=by, actor=world.ada, **asked),
        "asked": world.event("approval.requested", outcome="pending", actor=world.bot, **asked),
        "not_counted": world.event(
            "approval.decided", gate={"kind": "purchase", "by": world.bot.ref}, actor=world.bot, **asked
        ),
        "unknown": None,
    }


@pytest.mark.parametrize("state", ["approved", "refused", "asked", "not_counted", "unknown"])
def test_what_became_of_an_approval_is_shown_with_its_event(desk, state):
    answer = answers(desk)[state]
    bought = desk.registers("wonder.club", price_minor=1100, grant=desk.root, request_id="req-1", at=desk.at)
    told = desk.send(desk.root, *([answer] if answer else []), bought)
    desk.settle()
    act, told_in = str(told[-1].event_id), str(told[1].event_id) if answer else None

    [gate] = chain(desk, act)["gates"]
    shown = page(desk, act)
    words = {
        "approved": "approved",
        "refused": "refused",
        "asked": "asked for, not answered",
        "not_counted": "does not count",
        "unknown": "nothing on record",
    }

    assert (gate["kind"], gate["state"], gate["event"]) == ("purchase", state, told_in)
    assert (gate["by"] and gate["by"]["sub"]) == {"approved": "ada", "refused": "ada", "not_counted": "bot"}.get(state)
    assert words[state] in text_of(shown) and (
        told_in is None or f'href="/events/{told_in}/"' in shown.content.decode()
    )
    assert ("an approval is missing" in text_of(shown)) == (state != "approved")


def test_the_gate_that_an_act_carries_itself_is_told_by_it(desk):
    bought = desk.registers(
        "wonder.club", price_minor=1100, grant=desk.root, at=desk.at, gate={"kind": "purchase", "by": desk.ada.ref}
    )
    act = settled(desk, desk.root, bought)

    [gate] = chain(desk, act)["gates"]
    assert (gate["state"], gate["event"], gate["own"]) == ("approved", act, True) and "this event itself" in text_of(
        page(desk, act)
    )


def test_an_act_that_needed_no_approval_says_nothing_of_one(desk):
    act = settled(
        desk, desk.root, desk.event("action.performed", grant=desk.root, at=desk.at, action={"verb": "mail.send"})
    )

    assert chain(desk, act)["gates"] == [] and "Approvals that it needed" not in text_of(page(desk, act))


@pytest.mark.parametrize("is_rebuilt", [False, True])
def test_a_refusal_after_an_approval_takes_it_back_also_when_it_is_told_last(desk, is_rebuilt):
    said = answers(desk)
    no = desk.event("approval.decided", outcome="denied", gate={"kind": "purchase", "by": desk.ada.ref}, actor=desk.ada, principal=desk.ada,
                    request_id="req-1", at=desk.at - 30 * SECOND)  # fmt: skip
    bought = desk.registers("wonder.club", price_minor=1100, grant=desk.root, request_id="req-1", at=desk.at)
    act = settled(desk, desk.root, said["approved"], bought)
    before = (
        chain(desk, act)["gates"][0]["state"],
        Finding.objects.filter(tenant=desk.row, rule="authority.gate_missing").count(),
    )
    desk.send(no)
    if is_rebuilt:
        rebuild(desk.row, now=desk.now)
    desk.settle()

    assert before == ("approved", 0)
    assert chain(desk, act)["gates"][0]["state"] == "refused"
    assert "refused" in Finding.objects.get(tenant=desk.row, rule="authority.gate_missing", state="open").title


def test_a_verdict_cites_the_refusal(desk):
    bought = desk.registers("wonder.club", price_minor=1100, grant=desk.root, request_id="req-1", at=desk.at)
    told = desk.send(desk.root, answers(desk)["refused"], bought)
    desk.settle()

    [verdict] = desk.api.post("adjudications", {"event_ids": [str(told[-1].event_id)]}).json()["results"]
    gates = next(c for c in verdict["criteria"] if c["id"] == "C8")
    assert gates["result"] == "fail" and "refused" in gates["reason"]
    assert str(told[1].event_id) in {each.get("event_id") for each in gates["evidence"]}


def test_an_abuse_desk_sees_that_an_approval_is_missing_and_not_who_said_what(desk):
    bought = desk.registers(
        "wonder.club", price_minor=1100, grant=desk.root, request_id="req-1", principal=None, at=desk.at
    )
    act = settled(desk, desk.root, answers(desk)["refused"], bought)

    [gate] = Api(desk.row, "abuse", "registrar").get(f"events/{act}/chain").json()["gates"]
    shown = source_of(signed_in(desk, "abuse", "registrar").get(f"/events/{act}/"))
    part = shown[shown.index("Approvals that it needed") : shown.index('id="bytes"')]

    assert gate["state"] == "refused" and gate["event"] is None and gate["reason"] is None
    assert gate["by"] is None or "ada" not in str(gate["by"])
    assert "refused" in part and "ada" not in part


def test_what_grants_or_issues_shows_what_it_states_and_not_that_no_verb_is_known(desk):
    token = desk.token(desk.root, at=desk.at, audience=["registrar"])
    told = desk.send(desk.root, token)
    desk.settle()

    granted, issued = (
        re.sub(r"\s+", " ", text_of(page(desk, one.event_id)).partition("Hangs together with")[0].partition("What")[2])
        for one in told
    )
    assert desk.root.id in granted and "ada" in granted and "bot" in granted and "unknown" not in granted
    assert "registrar" in issued and "Token" in issued and "unknown" not in issued


def test_an_act_on_a_timeline_has_its_own_time_and_not_that_of_the_question_before_it(desk):
    asked = desk.event(
        "approval.requested",
        outcome="pending",
        actor=desk.bot,
        request_id="req-1",
        txn="tx",
        at=desk.at - 5 * MINUTE,
        action={"provider": "registrar"},
    )
    bought = desk.registers("wonder.club", price_minor=1100, grant=desk.root, request_id="req-1", txn="tx", at=desk.at)
    settled(desk, desk.root, asked, bought)

    shown = source_of(signed_in(desk, "security").get("/timeline/?txn=tx"))
    [happened] = re.findall(r'data-label="Happened">\s*<time datetime="([^"]*)".*?domain.registered', shown, re.DOTALL)
    assert happened.startswith(desk.at.strftime("%Y-%m-%dT%H:%M:%S"))


def test_a_statement_without_a_chain_leads_to_who_tells_more_of_the_same_act(desk):
    rail = desk.source("rail", "https://rail.example", layers=["money"])
    bought = desk.registers("wonder.club", price_minor=1100, grant=desk.root, charge="ch-1", rail="rb", at=desk.at)
    money = {"amount_minor": 1100, "currency": "USD", "phase": "captured", "rail": "rb", "charge": "ch-1"}
    paid = desk.event(
        "payment.captured", source=rail, principal=None, actor=None, grant=None, money=money, at=desk.at + SECOND
    )
    told = desk.send(desk.root, bought, paid)
    desk.settle()

    shown = source_of(page(desk, told[2].event_id))
    assert f'href="/events/{told[1].event_id}/#authority"' in shown and "a complete, proven chain" in shown
    assert "says more" not in text_of(page(desk, told[1].event_id))


# --- who gains ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("organisations", "gains"),
    [
        (
            {"Conductor": [MINT], "Acme": [ID], "Bots": [BOTS], "Registrar": ["https://registrar.example"]},
            [False, False],
        ),
        (
            {"Conductor": [MINT, BOTS], "Acme": [ID], "Registrar": ["https://registrar.example"]},
            [True, True],
        ),  # it runs the agent
        (
            {"Conductor": [MINT, "https://registrar.example"], "Acme": [ID], "Bots": [BOTS]},
            [True, True],
        ),  # it is who took the act
        ({"Conductor": [MINT], "Acme": [ID], "Bots": [BOTS]}, [None, None]),  # nobody says who the registrar is
        ({}, [None, None]),
    ],
)
def test_an_attester_gains_that_runs_an_agent_below_or_is_the_provider(desk, organisations, gains):
    for name, issuers in organisations.items():
        add_organisation(desk.row, name, issuers=issuers, now=desk.now)
    desk.configure("registrar")
    act = settled(desk, desk.root, desk.registers("wonder.club", price_minor=1100, grant=desk.root, at=desk.at))

    hops = chain(desk, act)["hops"]

    assert [hop["attester_gains"] for hop in hops] == gains
    assert all(bool(hop["attester_gains_why"]) == (hop["attester_gains"] is True) for hop in hops)
    words = text_of(page(desk, act))
    assert ("gains by it" in words, "gains: unknown" in words, "gains nothing by it" in words) == tuple(
        gains[1] is each for each in (True, None, False)
    )


# --- recorded when --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("received", "recorded"), [(-MINUTE, "before"), (timedelta(0), "before"), (MINUTE, "told")])
def test_a_hop_counts_as_recorded_before_the_act_by_our_clock_and_not_by_what_it_says(desk, received, recorded):
    act = desk.event("action.performed", grant=desk.root, at=desk.at, action={"verb": "mail.send"})
    desk.send(desk.root, now=desk.at + received)  # it says an hour before the act each time
    [told] = desk.send(act, now=desk.at + 5 * MINUTE)
    desk.settle()

    hops = chain(desk, told.event_id)["hops"]
    assert {(hop["recorded"], hop["recorded_before_act"]) for hop in hops} == {(recorded, recorded == "before")}


def test_a_hop_that_came_after_the_act_was_told_is_said_to(desk):
    [told] = desk.send(
        desk.event("action.performed", grant=desk.root, actor=desk.bot, at=desk.at, action={"verb": "mail.send"})
    )
    desk.send(desk.root, now=desk.now + MINUTE)
    desk.settle()

    assert {hop["recorded"] for hop in chain(desk, told.event_id)["hops"]} == {"after"}
    assert "only after the act was told" in text_of(page(desk, told.event_id))


def test_who_says_it_again_after_the_act_does_not_make_a_hop_younger(desk):
    say = {"id": "again", "actions": ["**"], "states_beginning": False}
    desk.send(desk.grant(desk.ada, desk.bot, at=desk.at - MINUTE, **say), now=desk.at - SECOND)
    [told] = desk.send(
        desk.event("action.performed", grant="again", actor=desk.bot, at=desk.at, action={"verb": "mail.send"}),
        now=desk.at + SECOND,
    )
    desk.send(desk.grant(desk.ada, desk.bot, at=desk.at - 2 * MINUTE, **say), now=desk.at + MINUTE)
    desk.settle()

    assert {hop["recorded"] for hop in chain(desk, told.event_id)["hops"]} == {"before"}


# --- at a time ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "in_force"),
    [(-MINUTE, False), (-SECOND, False), (timedelta(0), True), (HOUR - SECOND, True), (HOUR, False), (3 * HOUR, False)],
)  # fmt: skip
def test_what_is_in_force_begins_when_it_was_given_and_ends_when_it_expires(desk, at, in_force):
    root = desk.grant(desk.ada, desk.bot, actions=["**"], states_beginning=False, expires_in=HOUR, at=desk.at)
    act = settled(
        desk, root, desk.event("action.performed", grant=root, at=desk.at + MINUTE, action={"verb": "mail.send"})
    )

    moment = (desk.at + at).isoformat()
    assert chain(desk, act, at=moment)["effective"]["in_force"] is in_force
    shown = text_of(page(desk, act, at=moment))
    assert ("not in force" in shown) == (in_force is False)
    assert (
        "it was exceeded" not in shown and "the act was at" not in shown
    )  # the act itself was within, whatever is asked


@pytest.mark.parametrize("states_beginning", [True, False])
@pytest.mark.parametrize(("early", "in_force"), [(0, True), (10, None), (31, False)])
def test_two_clocks_that_differ_a_little_are_not_held_against_an_act_nor_for_it(
    desk, states_beginning, early, in_force
):
    root = desk.grant(desk.ada, desk.bot, actions=["**"], states_beginning=states_beginning, at=desk.at)
    act = settled(
        desk,
        root,
        desk.event("action.performed", grant=root, at=desk.at - early * SECOND, action={"verb": "mail.send"}),
    )

    found, shown = chain(desk, act), text_of(page(desk, act))
    assert found["effective"]["in_force"] is in_force and found["effective"]["within_clocks"] is (in_force is None)
    assert (
        ("it was exceeded" in shown)
        == (in_force is False)
        == bool(found["breaks"])
        == Finding.objects.filter(tenant=desk.row).exists()
    )
    assert ("later by less than two clocks may differ" in shown) == (in_force is None)


def test_between_the_revocation_and_the_providers_notice_lies_a_race_that_is_said(desk):
    act = desk.event(
        "action.performed", grant=desk.root, at=desk.at, action={"verb": "mail.send", "provider": "registrar"}
    )
    notice = desk.event(
        "delegation.revoked", source="registrar", grant={"id": desk.root.id}, principal=None, at=desk.at + MINUTE
    )
    event_id = settled(desk, desk.root, desk.revoke(desk.root, at=desk.at - MINUTE), notice, act)

    def said(at):
        return next(
            (
                b["reason"]
                for b in chain(desk, event_id, at=(desk.at + at).isoformat())["breaks"]
                if b["code"] == "revoked"
            ),
            "",
        )

    assert said(-MINUTE - SECOND) == ""
    assert "a race: registrar heard of it only at" in said(-MINUTE) and "a race" in said(timedelta(0))
    assert "a race: registrar had heard of it 0 s before" in said(MINUTE)  # within its grace, as C9 has it
    assert "registrar knew" in said(2 * MINUTE + SECOND) and "a race" not in said(2 * MINUTE + SECOND)
    assert "a race" in text_of(page(desk, event_id))


# --- beginnings -----------------------------------------------------------------------------------------------------


def test_a_beginning_that_was_moved_back_is_shown(desk):
    say = {"id": "moved", "actions": ["**"], "states_beginning": False}
    act = desk.event("action.performed", grant="moved", actor=desk.bot, at=desk.at, action={"verb": "mail.send"})
    event_id = settled(desk, desk.grant(desk.ada, desk.bot, at=desk.at + MINUTE, **say), act)
    before = [b["code"] for b in chain(desk, event_id)["breaks"]]
    desk.send(desk.grant(desk.ada, desk.bot, at=desk.at - MINUTE, **say))
    desk.settle()

    assert before == ["outside_window"]
    assert [b["code"] for b in chain(desk, event_id)["breaks"]] == ["backdated"]
    assert "the evidence disagrees" in text_of(page(desk, event_id))


def test_a_grant_told_again_later_moves_nothing(desk):
    say = {"id": "again", "actions": ["**"], "states_beginning": False}
    act = desk.event("action.performed", grant="again", actor=desk.bot, at=desk.at, action={"verb": "mail.send"})
    event_id = settled(
        desk,
        desk.grant(desk.ada, desk.bot, at=desk.at - MINUTE, **say),
        desk.grant(desk.ada, desk.bot, at=desk.at + MINUTE, **say),
        act,
    )

    assert chain(desk, event_id)["breaks"] == [] and not Finding.objects.filter(tenant=desk.row).exists()


@pytest.mark.parametrize(("is_dated", "result"), [(True, "pass"), (False, "unknown")])
def test_a_grant_that_came_after_its_act_is_not_called_in_force(desk, is_dated, result):
    """Dated: it says that it was given after the act, and that it holds from before. Undated: nobody says when it was given."""
    more = {"states_beginning": False, "told_at": desk.at + MINUTE} if not is_dated else {}
    said = desk.grant(
        desk.ada, desk.bot, actions=["**"], id="late", at=desk.at + MINUTE if is_dated else desk.at - HOUR, **more
    )
    if is_dated:
        grant = {"id": "late", "root": True, "subject": desk.ada.full, "actor": desk.bot.full, "not_before": (desk.at - HOUR).timestamp(),
                 "authorization_details": [{"type": "agent_action", "actions": ["**"]}]}  # fmt: skip
        said = desk.event("delegation.granted", grant=grant, principal=desk.ada, actor=desk.ada, at=desk.at + MINUTE)
    act = desk.event("action.performed", grant="late", actor=desk.bot, at=desk.at, action={"verb": "mail.send"})
    event_id = settled(desk, said, act)

    found = chain(desk, event_id)["effective"]
    [verdict] = desk.api.post("adjudications", {"event_ids": [event_id]}).json()["results"]
    window = next(c for c in verdict["criteria"] if c["id"] == "C6")

    assert found["in_force"] is None and found["told_later"]["dated"] is is_dated
    assert window["result"] == result and "late" in window["reason"] and "only at" in window["reason"]
    assert not Finding.objects.filter(tenant=desk.row, rule="authority.out_of_scope").exists()


# --- reach, permissions, comparison ---------------------------------------------------------------------------------


def test_the_reach_of_a_human_is_what_was_done_in_their_name(desk):
    sub = desk.agent("sub", issuer=BOTS)
    below = desk.grant(desk.bot, sub, parent=desk.root, at=desk.at - MINUTE)
    other = desk.grant(
        desk.human("eve", issuer=ID), desk.agent("x", issuer=BOTS), actions=["**"], id="of-eve", at=desk.at
    )
    act = desk.registers("wonder.club", price_minor=1100, grant=below, at=desk.at)
    settled(desk, desk.root, below, other, act)

    found = desk.api.get("reach", {"party": f"{ID}|ada"}).json()
    assert found["grants"] == 2 and {a["sub"] for a in found["agents"]} >= {"sub"}
    assert found["spend"][0]["amount_minor"] == 1100 and [h["id"] for h in found["holdings"]] == ["wonder.club"]
    assert {row["id"] for row in desk.api.rows("reach/descendants", {"party": f"{ID}|ada"})} == {desk.root.id, below.id}


def test_the_reach_of_a_key_holds_what_was_done_with_it_under_a_grant_of_another_key(desk):
    bound = desk.grant(desk.ada, desk.bot, actions=["**"], cnf={"jkt": "K2"}, id="bound", at=desk.at - HOUR)
    stolen, other = (desk.event("action.performed", grant=bound, at=desk.at, action={"verb": "mail.send"}, attestation={"type": "jkt", "digest": key})
                     for key in ("K1", "K2"))  # fmt: skip
    told = desk.send(bound, stolen, other)
    desk.settle()

    assert [row["id"] for row in desk.api.rows("reach/acts", {"key": "K1"})] == [str(told[1].event_id)]
    assert desk.api.get("reach", {"key": "K1"}).json()["grants"] == 0
    assert len(desk.api.rows("reach/acts", {"key": "K2"})) == 3


def matrix(world, **query):
    return {(row["grant"], row["action"]): row for row in world.api.rows("permissions", query)}


def test_a_grant_is_in_force_only_while_all_above_it_are(desk):
    sub = desk.agent("sub", issuer=BOTS)
    below = desk.grant(desk.bot, sub, actions=["mail.*"], parent=desk.root, at=desk.at - MINUTE)
    settled(desk, desk.root, below)
    before = matrix(desk)[below.id, "mail.*"]
    settled(desk, desk.revoke(desk.root, at=desk.at))
    after = matrix(desk)[below.id, "mail.*"]

    assert before["live"] and before["ended_by"] is None
    assert not after["live"] and after["ended_by"]["grant"] == desk.root.id and after["ended_by"]["revoked"]
    client = signed_in(desk, "security")
    assert "above it:" in source_of(client.get("/permissions/", {"agent": f"{BOTS}|sub"}))
    [state] = re.findall(
        r'data-label="State">\s*(.*?)</td>', source_of(client.get("/reach/", {"kind": "grant", "key": desk.root.id}))
    )
    assert state.startswith("revoked")


def test_what_a_parent_ends_is_not_endless_and_what_was_passed_on_is_not_unused(desk):
    top = desk.grant(desk.ada, desk.bot, actions=["mail.*"], expires_in=300 * HOUR, redelegate=True, at=desk.at)
    low = desk.grant(desk.bot, desk.agent("sub", issuer=BOTS), actions=["mail.*"], parent=top, at=desk.at)
    settled(desk, top, low)
    client = signed_in(desk, "security")

    def listed(question):
        text = source_of(client.get("/permissions/", {"show": question}))
        return {
            grant.id for grant in (top, low) if re.search(rf'<td data-label="Grant">(?:(?!</td>).)*{grant.id}', text)
        }

    assert listed("endless") == set() and listed("unused") == {low.id} and listed("") == {top.id, low.id}
    assert matrix(desk)[top.id, "mail.*"]["passed_on"] == 1


def test_a_question_about_what_is_in_force_is_not_answered_by_pages_of_what_has_ended(desk):
    ended = [
        desk.grant(desk.ada, desk.bot, actions=["mail.*"], id=f"a-{n:03}", expires_in=MINUTE, at=desk.at)
        for n in range(60)
    ]
    desk.send_together([*ended, desk.grant(desk.ada, desk.bot, actions=["mail.*"], id="z-open", at=desk.at)])
    desk.settle()

    shown = source_of(signed_in(desk, "security").get("/permissions/", {"show": "unused"}))
    assert "z-open" in shown and "a-000" not in shown and "Next" not in shown


def test_what_is_denied_was_done_outside_and_where_nobody_says_it_is_unknown(desk):
    top = desk.grant(
        desk.ada,
        desk.bot,
        actions=["account.*"],
        providers=["cloud"],
        deny={"actions": ["account.close"]},
        at=desk.at - HOUR,
    )
    acts = [desk.event("action.performed", grant=top, at=desk.at, action={"verb": verb, "provider": provider})
            for verb, provider in (("account.close", "cloud"), ("account.read", "cloud"), ("account.list", ""))]  # fmt: skip
    settled(desk, top, *acts)

    found = matrix(desk)
    assert (found[top.id, "account.close"]["allowed"], found[top.id, "account.close"]["used"]) == (False, 1)
    assert (found[top.id, "account.*"]["allowed"], found[top.id, "account.*"]["used"]) == (True, 1)
    assert (found[top.id, "account.list"]["allowed"], found[top.id, "account.list"]["used"]) == (None, 1)


def test_grants_that_differ_only_by_when_they_were_given_or_by_key_or_intent_differ(desk):
    say = {"actions": ["**"], "states_beginning": False}
    one = desk.grant(desk.ada, desk.bot, at=desk.at, cnf={"jkt": "K1"}, **say)
    other = desk.grant(desk.ada, desk.bot, at=desk.at + MINUTE, cnf={"jkt": "K2"}, intent={"text": "buy a name"}, **say)
    orphan = desk.grant(desk.bot, desk.bot, parent="nobody-said", at=desk.at)
    settled(desk, one, other, orphan)

    [hop] = desk.api.get("grants/compare", {"one": one.id, "other": other.id}).json()["hops"]
    assert hop["differs"] == ["granted_at", "intent", "key"]
    assert desk.api.get("grants/compare", {"one": one.id, "other": orphan.id}).json()["missing"] == {
        "one": None,
        "other": "nobody-said",
    }
    shown = signed_in(desk, "security").get("/compare/", {"one": one.id, "other": orphan.id})
    assert "No source ever spoke of grant nobody-said" in re.sub(r"\s+", " ", text_of(shown))


# --- coverage, lists ------------------------------------------------------------------------------------------------


def test_each_number_of_the_coverage_leads_to_the_acts_it_counts(desk):
    claimed = desk.event(
        "action.performed", actor=desk.bot, principal=desk.ada, at=desk.at, action={"verb": "mail.send"}
    )
    good = [desk.event("action.performed", grant=desk.root, at=desk.at, action={"verb": "mail.send"}) for _ in range(3)]
    settled(
        desk,
        desk.root,
        claimed,
        *good,
        desk.event("action.performed", grant=desk.root, at=desk.at, environment="test", action={"verb": "x.y"}),
    )
    client = signed_in(desk, "security")

    table = source_of(client.get("/")).partition("Who answers: acts by source")[2].partition("</table>")[0]
    found = {}
    for href, number in re.findall(r'<td class="num">\s*<a href="([^"]*)">(\d+)</a>', table):
        events = source_of(client.get(href.replace("&amp;", "&")))
        found[re.search(r"chain=(\w+)", href)[1]] = (
            int(number),
            len(set(re.findall(r"/events/([0-9a-f-]{36})/", events))),
        )
    assert found == {"proven": (3, 3), "unproven": (1, 1)}


@pytest.mark.parametrize("path", ["events", "parties", "grants", "tokens", "limits", "findings", "permissions", "inventory", "reach/acts?party=a|b",
                                  "reach/descendants?party=a|b", "timeline?txn=t", "spend", "sources"])  # fmt: skip
@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "limit=999999999", "cursor=x", "colour=red"])
def test_a_list_refuses_what_it_does_not_know_and_never_breaks(desk, path, query):
    settled(desk, desk.root)

    problem(desk.api.get(f"{path}{'&' if '?' in path else '?'}{query}"), 400)


@pytest.mark.parametrize("path", ["events?before=x", "grants?after=\x00", "permissions?after=%00", "inventory?after=x y", "reach/acts?party=a&before=x",
                                  "reach/descendants?party=a&after=%00", "timeline?txn=t&after=x", "findings?after=x", "parties?after=%00", "tokens?after=%00"])  # fmt: skip
def test_a_bad_cursor_is_no_crash(desk, path):
    settled(desk, desk.root)

    problem(desk.api.get(path), 400)
    page_path = path.replace("reach/acts?party=a", "reach/?kind=party&key=a").replace(
        "reach/descendants?party=a", "reach/?kind=party&key=a"
    )
    assert signed_in(desk, "security").get("/" + page_path.replace("?", "/?", 1).replace("//", "/")).status_code in (
        200,
        302,
        400,
        404,
    )


# --- what disagrees, and what is no hop -----------------------------------------------------------------------------


def test_a_token_of_another_grant_than_the_acts_is_shown_as_a_conflict_and_nothing_is_chosen_in_silence(desk):
    other = desk.grant(desk.ada, desk.bot, actions=["**"], id="other", at=desk.at - HOUR)
    token = desk.token(other, at=desk.at - MINUTE)
    act = settled(
        desk,
        desk.root,
        other,
        token,
        desk.event("action.performed", grant=desk.root, token=token, at=desk.at, action={"verb": "mail.send"}),
    )

    [found] = chain(desk, act)["breaks"]
    shown = text_of(page(desk, act))
    assert found["code"] == "token_grant_conflict" and "other" in found["reason"] and desk.root.id in found["reason"]
    assert "the evidence disagrees" in shown and found["reason"] in re.sub(r"\s+", " ", shown)


def test_two_sources_that_state_one_grant_otherwise_are_a_conflict(desk):
    desk.source("second", "https://second.example")
    say = {"id": "twice", "at": desk.at - HOUR}
    act = desk.event("action.performed", grant="twice", actor=desk.bot, at=desk.at, action={"verb": "mail.send"})
    event_id = settled(
        desk,
        desk.grant(desk.ada, desk.bot, actions=["**"], **say),
        desk.grant(desk.ada, desk.bot, actions=["mail.*"], source="second", **say),
        act,
    )

    assert [b["code"] for b in chain(desk, event_id)["breaks"]] == ["conflicting_statements"]


def test_neither_a_client_nor_who_may_act_is_a_hop(desk):
    mine = {"iss": BOTS, "sub": "bot", "kind": "agent", "client_id": "app-1", "may_act": {"iss": BOTS, "sub": "later"}}
    act = settled(
        desk,
        desk.root,
        desk.event("action.performed", grant=desk.root, actor=mine, at=desk.at, action={"verb": "mail.send"}),
    )

    assert [hop["party"]["sub"] for hop in chain(desk, act)["hops"]] == ["ada", "bot"]


def test_circles_of_grants_and_of_tokens_at_once_have_an_end_and_are_said(desk):
    one, two = desk.agent("one", issuer=BOTS), desk.agent("two", issuer=BOTS)
    ring = [desk.grant(one, two, id="ring-a", parent="ring-b", root=False, at=desk.at - HOUR),
            desk.grant(two, one, id="ring-b", parent="ring-a", root=False, at=desk.at - HOUR)]  # fmt: skip

    def token(jti, parent, grant):
        said = {"jti": jti, "parent_jti": parent, "grant": grant, "actor": one.full}
        return desk.event("token.exchanged", token=said, principal=None, actor=one, at=desk.at - MINUTE)

    tokens = [
        token("t1", "t2", None),
        token("t2", "t3", None),
        token("t3", "t1", "ring-a"),
        token("own", "own", desk.root.id),
    ]
    acts = [
        desk.event("action.performed", token=jti, actor=one, principal=None, at=desk.at, action={"verb": "mail.send"})
        for jti in ("t1", "own")
    ]
    told = desk.send(desk.root, *acts, *tokens, *ring)
    desk.settle()

    both, single = (chain(desk, told[n].event_id) for n in (1, 2))
    assert not both["complete"] and [b["code"] for b in both["breaks"]].count("cycle") == 2
    assert "cycle" in [b["code"] for b in single["breaks"]]
    for start in ({"grant": "ring-a"}, {"token": "t1"}, {"token": "own"}, {"party": f"{BOTS}|one"}):
        assert desk.api.get("reach", start).status_code == 200
    assert page(desk, told[1].event_id).status_code == 200
    assert Finding.objects.filter(tenant=desk.row, rule="authority.cycle", state="open").count() == 3
