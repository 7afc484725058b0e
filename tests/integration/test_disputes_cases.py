"""Cases through the verbs, on the real record: opened, assessed, proposed by one, approved by another."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test import Client
from django.utils import timezone

from auditlog.core.errors import ConfigurationError, NotFound, NotPermitted, NotPossible
from auditlog.models import ApiToken, Finding, Leaf, Payload, Role
from auditlog.models.ledger import KIND_NUMBERS
from auditlog.reads.access import Viewer, issue_token, person_of
from disputes import queries
from disputes.adjudicate import adjudicate
from disputes.decide import approve, move, propose
from disputes.models import Approval, Assessment, Case, Transition
from disputes.open_case import open_case

UNKNOWN = "00000000-0000-8000-8000-000000000000"
TO_ASSESSMENT = ("intake", "evidence_open", "record_sealed", "assessment")


@pytest.fixture
def shop(world):
    """Ada lets a shopper register any name for at most 20 USD; it was asked for superseal.club."""
    world.source("conductor", "https://conductor.example")
    ada = world.human("ada", issuer="https://id.acme.example")
    shopper = world.agent("shopper", issuer="https://conductor.example")
    grant = world.grant(
        ada, shopper, actions=["domain.register"], intent={"targets": ["superseal.club"]},
        limits=[{"scope": "global", "max_minor": 2_000, "currency": "USD"}], at=world.now - timedelta(hours=1),
    )  # fmt: skip
    world.send(grant)
    world.grant_of_shop = grant
    return world


def buys(world, name, price_minor=900, **more):
    [appended] = world.send(world.registers(name, grant=world.grant_of_shop, price_minor=price_minor, **more))
    world.project()
    return str(appended.event_id)


def person(world, role, number, provider=""):
    """A token of somebody of their own: of each role and number there is one."""
    owner = 1_000_000 + 10 * list(Role).index(role) + number
    return Viewer(world.row, role, f"{role}-{number}", None, provider, (owner,))


@pytest.fixture
def handler(world):
    return person(world, "security", 1)


@pytest.fixture
def decider(world):
    return person(world, "finance", 1)


def opened(world, handler, event_ids, **more):
    return open_case(
        handler,
        event_ids=event_ids,
        kind="scope",
        title="Wrong name",
        complaint="I asked for .club",
        now=world.now,
        **more,
    )


def assessed(world, handler, event_ids):
    case = opened(world, handler, event_ids)
    for to in TO_ASSESSMENT:
        move(case, to, viewer=handler, now=world.now)
    return case


def proposed(world, handler, event_ids):
    case = assessed(world, handler, event_ids)
    move(case, "proposed", viewer=handler, outcome="upheld", reason="not what was asked for", now=world.now)
    return case


# --- the engine on the real record ------------------------------------------------------------------------------------


def test_verdicts_come_in_the_order_asked_for(shop):
    asked = buys(shop, "superseal.club", 500)
    other = buys(shop, "superseal.cc", 500)
    over = buys(shop, "superseal.io", 1_320, at=shop.now + timedelta(minutes=1))

    found = adjudicate(shop.row, [over, asked, other, asked])

    assert [v["event_id"] for v in found] == [over, asked, other, asked]
    assert [v["verdict"] for v in found] == [
        "out_of_scope",
        "within_scope",
        "within_scope_unanticipated",
        "within_scope",
    ]
    assert found[0]["would_change"] == ["out of scope by 3.20 USD on the global limit"]
    assert found[1]["criteria"][0]["result"] == "pass"


def test_an_act_alone_gets_the_verdict_it_gets_among_others(shop):
    ids = [buys(shop, f"superseal{n}.com", 600, at=shop.now + n * timedelta(seconds=1)) for n in range(5)]

    together = adjudicate(shop.row, ids)

    assert [adjudicate(shop.row, [one])[0] for one in ids] == together


def test_unknown_events_are_named(shop):
    with pytest.raises(NotFound, match=UNKNOWN):
        adjudicate(shop.row, [buys(shop, "superseal.club"), UNKNOWN])


def test_a_missing_parent_is_indeterminate_until_it_arrives(world):
    world.source("conductor", "https://conductor.example")
    ada = world.human("ada", issuer="https://id.acme.example")
    lead, sub = (world.agent(name, issuer="https://conductor.example") for name in ("lead", "sub"))
    parent = world.grant(ada, lead, actions=["domain.register"], redelegate=True)
    child = world.grant(lead, sub, parent=parent, actions=["domain.register"])
    [_, act] = world.send(child, world.registers("acme.io", grant=child, price_minor=100))
    world.project()
    before = adjudicate(world.row, [act.event_id])

    world.send(parent)
    world.project()

    assert before[0]["verdict"] == "indeterminate"
    assert adjudicate(world.row, [act.event_id])[0]["verdict"] == "within_scope"


def test_tampering_with_the_stored_bytes_shows(shop, monkeypatch):
    bought = buys(shop, "superseal.club")
    from disputes import gather_evidence

    honest = gather_evidence.integrity_of
    monkeypatch.setattr(
        gather_evidence, "integrity_of", lambda *a: {k: replace(c, commitment_ok=False) for k, c in honest(*a).items()}
    )

    [found] = adjudicate(shop.row, [bought])

    assert (found["verdict"], found["criteria"][0]["result"]) == ("indeterminate", "fail")


# --- opening ----------------------------------------------------------------------------------------------------------


def test_a_case_is_opened_from_events(shop, handler):
    first, second = (opened(shop, handler, [buys(shop, name)]) for name in ("superseal.cc", "superseal.net"))

    assert [first.ref, second.ref] == ["D-2026-000001", "D-2026-000002"]
    assert (first.state, first.awaiting, first.provider) == ("filed", "handler", "registrar")
    assert first.principal == "https://id.acme.example|ada"
    assert [row.to_state for row in first.transitions.all()] == ["filed"]


def test_cases_opened_at_once_get_a_number_each(shop, handler):
    bought = buys(shop, "superseal.cc")

    def one(_):
        try:
            return opened(shop, handler, [bought]).ref
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        refs = list(threads.map(one, range(12)))

    assert sorted(refs) == [f"D-2026-{number:06}" for number in range(1, 13)]


def test_two_approvals_at_once_are_one(shop, handler, decider):
    case = proposed(shop, handler, [buys(shop, "superseal.cc")])
    others = [decider, person(shop, "admin", 2), person(shop, "security", 3), person(shop, "finance", 4)]

    def one(viewer):
        try:
            return approve(case, viewer=viewer, reason="agreed", now=shop.now).approver
        except NotPossible:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        approvers = [name for name in threads.map(one, others) if name]

    assert len(approvers) == Approval.objects.filter(tenant=shop.row).count() == 1
    assert queries.case_page(handler, case.ref, now=timezone.now()).broken_at is None


def test_a_case_is_opened_from_a_finding_about_its_acts(shop, handler):
    bought = buys(shop, "superseal.cc")
    grant_event = str(
        Leaf.objects.filter(tenant=shop.row, kind=KIND_NUMBERS["event"]).order_by("leaf_index").first().event_id
    )
    finding = Finding.objects.create(
        tenant=shop.row, rule="intent.domain_mismatch", rule_version=1, anchor="a", partition="[]", severity="high",
        title="t", event_ids=[grant_event, bought], leaves=[1, 2], first_at=shop.now, last_at=shop.now, detected_at=shop.now,
    )  # fmt: skip

    case = open_case(handler, finding=finding, kind="scope", title="From a finding", now=shop.now)

    assert [str(act.event_id) for act in case.acts.all()] == [bought]
    assert case.opened_from == finding


def test_nothing_to_contest_opens_nothing(shop, handler):
    with pytest.raises(ConfigurationError):
        opened(shop, handler, [])
    with pytest.raises(NotFound, match=UNKNOWN):
        opened(shop, handler, [UNKNOWN])
    with pytest.raises(ConfigurationError):
        open_case(handler, event_ids=[buys(shop, "a.com")], kind="quarrel", title="x", now=shop.now)

    assert not Case.objects.filter(tenant=shop.row).exists()


def test_the_auditor_may_nothing(shop, handler, decider):
    auditor = person(shop, "auditor", 1)
    bought = buys(shop, "superseal.cc")
    case = proposed(shop, handler, [bought])

    for attempt in (
        lambda: opened(shop, auditor, [bought]),
        lambda: move(case, "withdrawn", viewer=auditor, reason="r", now=shop.now),
        lambda: propose(case, viewer=auditor, outcome="upheld", reason="r", now=shop.now),
        lambda: approve(case, viewer=auditor, reason="r", now=shop.now),
    ):
        with pytest.raises(NotPermitted):
            attempt()

    assert queries.case_page(auditor, case.ref, now=timezone.now()).case == case  # it reads all


def test_the_abuse_desk_acts_at_its_own_provider_only(shop, handler):
    here, elsewhere = person(shop, "abuse", 1, "registrar"), person(shop, "abuse", 2, "cloud")
    bought = buys(shop, "superseal.cc")
    case = opened(shop, here, [bought])

    with pytest.raises(NotPermitted):
        opened(shop, elsewhere, [bought])
    with pytest.raises(NotPermitted):
        move(case, "intake", viewer=elsewhere, now=shop.now)
    with pytest.raises(NotFound):
        queries.case_page(elsewhere, case.ref, now=timezone.now())
    with pytest.raises(NotFound):
        adjudicate(shop.row, [bought], provider="cloud")

    assert queries.list_cases(elsewhere) == ([], None)
    assert queries.list_cases(here) == ([case], None)
    assert move(case, "intake", viewer=here, now=shop.now).state == "intake"


# --- deciding ---------------------------------------------------------------------------------------------------------


def test_one_proposes_and_another_approves(shop, handler, decider):
    bought = buys(shop, "superseal.cc")
    case = proposed(shop, handler, [bought])

    approve(case, viewer=decider, reason="agreed", now=shop.now)

    page = queries.case_page(handler, case.ref, now=timezone.now())
    assert (page.case.state, page.is_assessed, page.broken_at) == ("decided", True, None)
    assert page.verdicts[0]["verdict"] == "within_scope_unanticipated"
    assert page.proposals[0].verdicts == page.verdicts
    approval = page.proposals[0].approval
    assert (approval.approver, approval.person, approval.proposer) == (
        decider.name,
        person_of(decider),
        person_of(handler),
    )
    assert [t.to_state for t in page.transitions] == ["filed", *TO_ASSESSMENT, "proposed", "review", "decided"]


def test_the_proposer_may_not_approve(shop, handler, decider):
    case = proposed(shop, handler, [buys(shop, "superseal.cc")])
    another_token = Viewer(
        shop.row, "admin", "another", None, "", (77, *handler.stands_for)
    )  # issued by them to somebody else
    at_a_desk = Viewer(shop.row, "admin", "ann", handler.stands_for[0])

    for viewer in (handler, another_token, at_a_desk):
        with pytest.raises(NotPermitted, match="another person"):
            approve(case, viewer=viewer, reason="mine", now=shop.now)
        with pytest.raises(NotPermitted, match="another person"):
            move(case, "decided", viewer=viewer, reason="mine", now=shop.now)
    move(case, "review", viewer=decider, now=shop.now)
    with pytest.raises(NotPermitted, match="another person"):
        approve(case, viewer=handler, reason="mine", now=shop.now)

    assert not Approval.objects.filter(tenant=shop.row).exists()


def test_accounts_with_one_address_are_one_person_and_a_token_without_an_owner_decides_nothing(shop, handler, decider):
    one, two, other = (User.objects.create_user(f"{name}-{shop.tenant}", email=email) for name, email in
                       (("a", f"Ann@{shop.tenant}.example"), ("b", f"ann@{shop.tenant}.example"), ("c", f"c@{shop.tenant}.example")))  # fmt: skip
    by = {user: Viewer(shop.row, "finance", user.username, user.pk) for user in (one, two, other)}
    case = proposed(shop, by[one], [buys(shop, "superseal.cc")])
    nobodys = Viewer(shop.row, "finance", "script")

    for viewer in (
        by[two],
        Viewer(shop.row, "finance", "t", None, "", (two.pk,)),
        Viewer(shop.row, "finance", "t", None, "", (other.pk, one.pk)),
    ):
        with pytest.raises(NotPermitted, match="another person"):
            approve(case, viewer=viewer, reason="mine", now=shop.now)
    with pytest.raises(NotPermitted, match="nobody knows whose"):
        approve(case, viewer=nobodys, reason="mine", now=shop.now)
    approve(case, viewer=by[other], reason="yes", now=shop.now)

    case = proposed(shop, nobodys, [buys(shop, "superseal.io")])
    with pytest.raises(NotPermitted, match="nobody knows whose"):
        approve(case, viewer=decider, reason="mine", now=shop.now)


@pytest.mark.parametrize("to", ["withdrawn", "settled", "suspended"])
def test_the_desk_of_the_provider_that_a_case_is_about_makes_no_move_of_the_claimants(shop, handler, to):
    desk = person(shop, "abuse", 1, provider="registrar")
    theirs = opened(shop, handler, [buys(shop, "superseal.cc")])
    theirs.provider = "registrar"
    theirs.save(update_fields=["provider"])

    with pytest.raises(NotPermitted, match="claimant's to do"):
        move(theirs, to, viewer=desk, reason="over", now=shop.now)
    assert next(each for each in queries.next_moves(desk, theirs) if each.to == to).why_not


def test_a_token_has_a_bound_on_its_life_and_its_last_use_is_known(shop):
    with pytest.raises(ConfigurationError, match="at most"):
        issue_token(shop.row, name="t", role="auditor", expires_at=timezone.now() + timedelta(days=800))
    token = issue_token(shop.row, name="t", role="auditor", expires_at=timezone.now() + timedelta(days=8))

    Client().get("/api/v1/findings", headers={"authorization": f"Bearer {token}"})

    assert ApiToken.objects.get(tenant=shop.row).last_used_at is not None


def test_the_database_refuses_an_approval_by_the_proposer(shop, handler, decider):
    case = proposed(shop, handler, [buys(shop, "superseal.cc")])
    proposal = case.proposals.get()
    row = dict(
        tenant=shop.row,
        case=case,
        proposal=proposal,
        result="approved",
        reason="r",
        approver="x",
        role="admin",
        at=shop.now,
    )

    with pytest.raises(IntegrityError, match="approval_four_eyes"), transaction.atomic():
        Approval.objects.create(**row, proposer=proposal.person, person=proposal.person)
    with pytest.raises(IntegrityError, match="approval_proposal"), transaction.atomic():
        Approval.objects.create(**row, proposer="somebody else", person=proposal.person)


def test_a_returned_proposal_goes_back_and_is_assessed_anew(shop, handler, decider):
    case = proposed(shop, handler, [buys(shop, "superseal.cc")])

    approve(case, viewer=decider, reason="look again", now=shop.now, result="returned")
    move(case, "proposed", viewer=decider, outcome="rejected", reason="I looked", now=shop.now)
    with pytest.raises(NotPermitted):
        approve(case, viewer=decider, reason="mine", now=shop.now)
    move(case, "decided", viewer=handler, reason="fine", now=shop.now)

    assert [(p.outcome, p.approval.result) for p in case.proposals.all()] == [
        ("upheld", "returned"),
        ("rejected", "approved"),
    ]


def test_the_abuse_desk_may_handle_but_not_decide(shop, handler):
    case = proposed(shop, handler, [buys(shop, "superseal.cc")])

    with pytest.raises(NotPermitted):
        approve(case, viewer=person(shop, "abuse", 1, "registrar"), reason="r", now=shop.now)


def test_a_step_out_of_order_is_not_possible_and_changes_nothing(shop, handler):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])

    for to in ("decided", "closed", "proposed"):
        with pytest.raises(NotPossible):
            move(case, to, viewer=handler, reason="r", outcome="upheld", now=shop.now)
    with pytest.raises(NotPossible, match="reason"):
        move(case, "withdrawn", viewer=handler, now=shop.now)

    assert case.transitions.count() == 1


def test_a_suspended_case_goes_back_to_where_it_was(shop, handler):
    case = assessed(shop, handler, [buys(shop, "superseal.cc")])
    move(case, "suspended", viewer=handler, reason="court", now=shop.now)

    with pytest.raises(NotPossible):
        move(case, "intake", viewer=handler, reason="r", now=shop.now)
    move(case, "assessment", viewer=handler, reason="court is done", now=shop.now)

    assert (case.state, case.suspended_from, case.assessments.count()) == ("assessment", "", 1)


def test_a_case_is_merged_into_another_one(shop, handler):
    case, other = (opened(shop, handler, [buys(shop, name)]) for name in ("superseal.cc", "superseal.net"))

    for wrong in ("", case.ref, "D-2026-999999"):
        with pytest.raises(ConfigurationError):
            move(case, "merged", viewer=handler, reason="same", merged_into=wrong, now=shop.now)
    move(case, "merged", viewer=handler, reason="same", merged_into=other.ref, now=shop.now)

    assert (case.state, case.merged_into) == ("merged", other.ref)


def test_a_case_of_another_tenant_is_not_found(shop, handler, now):
    from auditlog.sources.configure import add_tenant

    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    stranger = Viewer(add_tenant(f"{shop.row.name}-other", now=now), "admin", "eve")

    with pytest.raises(NotFound):
        queries.find_case(stranger, case.ref)
    with pytest.raises(NotFound):
        move(case, "intake", viewer=stranger, now=now)


def test_the_page_says_who_may_do_what_next(shop, handler, decider):
    case = proposed(shop, handler, [buys(shop, "superseal.cc")])

    mine = {m.to: m for m in queries.case_page(handler, case.ref, now=timezone.now()).moves}
    theirs = {m.to: m for m in queries.case_page(decider, case.ref, now=timezone.now()).moves}

    assert not mine["review"].allowed and "another person" in mine["review"].why_not
    assert theirs["review"].allowed and mine["withdrawn"].allowed


# --- what stays -------------------------------------------------------------------------------------------------------


def test_every_step_has_its_leaf(shop, handler, decider):
    case = proposed(shop, handler, [buys(shop, "superseal.cc")])
    approve(case, viewer=decider, reason="agreed", now=shop.now)

    steps = list(case.transitions.all())
    leaves = Leaf.objects.filter(tenant=shop.row, kind=KIND_NUMBERS["case"]).order_by("leaf_index")

    assert [step.leaf_index for step in steps] == [leaf.leaf_index for leaf in leaves]
    for step in steps:
        raw = bytes(Payload.objects.get(tenant=shop.row, leaf_index=step.leaf_index).raw).decode()
        assert step.digest in raw and case.ref in raw


@pytest.mark.parametrize(
    "table", ["dispute_transition", "dispute_assessment", "dispute_proposal", "dispute_approval", "dispute_act"]
)
@pytest.mark.parametrize("using", ["default", "owner"])
def test_what_was_written_stays_as_it_was(shop, handler, decider, table, using):
    from django.db import connections

    case = proposed(shop, handler, [buys(shop, "superseal.cc")])
    approve(case, viewer=decider, reason="agreed", now=shop.now)

    for statement in (
        f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = %s",
        f"DELETE FROM {table} WHERE tenant_id = %s",
    ):
        with pytest.raises(DatabaseError, match="written once"), connections[using].cursor() as cursor:
            cursor.execute(statement, [shop.row.pk])
    with pytest.raises(DatabaseError), connections[using].cursor() as cursor:
        cursor.execute(f"TRUNCATE {table} CASCADE")


def test_a_case_is_never_deleted(shop, handler):
    opened(shop, handler, [buys(shop, "superseal.cc")])

    with pytest.raises(DatabaseError, match="written once"), connection.cursor() as cursor:
        cursor.execute("DELETE FROM dispute_case WHERE tenant_id = %s", [shop.row.pk])


def test_rows_of_one_tenant_cannot_hang_on_a_case_of_another(shop, handler, now):
    from auditlog.sources.configure import add_tenant

    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    other = add_tenant(f"{shop.row.name}-other", now=now)

    with pytest.raises(IntegrityError, match="assessment_case"):
        Assessment.objects.create(
            tenant=other, case=case, number=1, at=now, engine="", policy_version="", verdicts=[], digest=""
        )


def test_a_refused_step_leaves_no_leaf(shop, handler):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    before = Leaf.objects.filter(tenant=shop.row).count()

    with pytest.raises(NotPossible):
        move(case, "closed", viewer=handler, reason="r", now=shop.now)

    assert Leaf.objects.filter(tenant=shop.row).count() == before
    assert Transition.objects.filter(tenant=shop.row).count() == 1


def test_a_changed_history_is_seen(shop, handler, monkeypatch):
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    move(case, "intake", viewer=handler, now=shop.now)
    rows = list(case.transitions.all())
    rows[1].actor = "eve"
    from disputes.core.history import first_break

    assert first_break((queries._taken(case, row), row.digest) for row in rows) == 1


def test_money_that_several_contested_events_tell_of_is_added_once(shop, handler):
    def captured(source, amount, charge, **more):
        return shop.event("payment.captured", source=source, grant=shop.grant_of_shop, action={"provider": "registrar", "verb": "domain.register"},
                          money={"amount_minor": amount, "currency": "USD", "rail": "card", "charge": charge}, **more)  # fmt: skip

    bank = shop.source("bank", "https://bank.example")
    conductor = shop.sources["conductor"]
    sent = shop.send(captured(conductor, 500, "ch_1"), captured(bank, 700, "ch_1"), captured(bank, 300, "ch_2"))
    shop.project()
    case = opened(shop, handler, [str(each.event_id) for each in sent])
    totals = queries.case_page(handler, case.ref, now=timezone.now()).totals

    assert sum(total.amount_minor or 0 for total in totals) == 1_000
    assert sum(total.acts for total in totals) == 3
