# ruff: noqa: F811  (fixtures)
"""Who comes from outside: complaints by a link, and one party of one case. What they may not is tried too."""

import json
import uuid
from datetime import timedelta

import pytest
import xarf
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DatabaseError, transaction
from django.test import Client
from django.utils import timezone

from auditlog.core.errors import ConfigurationError, NotFound, NotPermitted, NotPossible
from auditlog.custody.security import Asked, read
from disputes.case.hand_in import let_in
from disputes.decide import move
from disputes.models import Case, Complaint, OutsideLink, OutsideUse
from disputes.outside.complain import decline, find_door, make_door, open_from, shut_door, suggested
from disputes.outside.link import end_link, find_link, make_link
from tests.integration.test_api import Api, problem
from tests.integration.test_dashboard_pages import signed_in, text_of
from tests.integration.test_disputes_cases import buys, decider, handler, opened, person, proposed, shop  # noqa: F401

pytestmark = pytest.mark.usefixtures("database")


def later(days=30):
    return timezone.now() + timedelta(days=days)


@pytest.fixture
def door(shop, handler):
    return make_door(handler, name="Brand owners", ends_at=later(), now=timezone.now())


def xarf_report(name, **more):
    by = {"org": "Brand Watch", "contact": "abuse@watch.example", "domain": "watch.example"}
    made = xarf.create_report(
        category="content", type="suspicious_registration", source_identifier=name, reporter=by, sender=by,
        url=f"https://{name}/", registration_date="2026-11-01T00:00:00+00:00", suspicious_indicators=["other"],
        description="Looks like ours <script>alert(1)</script>", evidence_source="manual_analysis", **more,
    )  # fmt: skip
    assert not made.errors, made.errors
    return made.report.model_dump(mode="json", by_alias=True, exclude_none=True)


def sent(secret, body):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Client().post(f"/api/v1/complaints/{secret}", body, content_type="application/json")


def test_an_xarf_report_waits_for_a_person_and_becomes_a_case_with_its_bytes_as_evidence(shop, handler, door):
    bought = buys(shop, "superseal.cc")
    report = xarf_report("superseal.cc")
    answer = sent(door, report)
    again = sent(door, report)

    assert answer.status_code == 202 and again.json()["number"] == answer.json()["number"]
    one = Complaint.objects.get(tenant=shop.row)
    assert (one.state, one.channel, one.about) == ("waiting", "xarf", "content: suspicious_registration")
    assert Case.objects.filter(tenant=shop.row).count() == 0
    assert [str(act.event_id) for act in suggested(one)] == [bought]
    page = text_of(signed_in(shop, "security").get("/complaints/"))
    raw = signed_in(shop, "security").get("/complaints/").content
    assert "superseal.cc" in page and b"<script>alert" not in raw and "nobody checked who they are" in page

    case = open_from(handler, one.number, event_ids=[bought], kind="abuse", now=shop.now)
    item = case.evidence.get()
    assert bytes(item.body) == json.dumps(report).encode() and item.submitted_at and item.side == "claimant"
    with pytest.raises(NotPossible, match="answered already"):
        decline(handler, one.number, why="no", now=shop.now)
    with pytest.raises(DatabaseError), transaction.atomic():
        Complaint.objects.filter(pk=one.pk).update(said="something else")


def test_what_is_no_report_is_refused_and_nothing_is_kept(shop, door):
    good = xarf_report("superseal.cc")
    for body, status in (
        (b"not json", 400),
        (b"[]", 400),
        (good | {"xarf_version": "3"}, 400),
        ({name: value for name, value in good.items() if name != "reporter"}, 400),
        (b'{"x": "' + b"a" * (300 * 1024) + b'"}', 413),
    ):
        problem(sent(door, body), status)
    problem(sent("no-such-door", good), 404)
    assert Complaint.objects.filter(tenant=shop.row).count() == 0


def test_a_person_complains_without_an_account_so_often_and_not_after_the_door_is_shut(shop, handler, door):
    stranger, path = Client(), f"/complain/{door}/"
    assert stranger.get(path).status_code == 200
    said = {"reporter": "Eve <b>", "subject": "superseal.cc", "about": "Somebody took our name", "said": "=cmd()"}
    assert stranger.post(path, {"reporter": "Eve"}).status_code == 422
    taken = stranger.post(path, said)
    assert taken.status_code == 200 and "complaint 1" in text_of(taken)
    answers = {stranger.post(path, said).status_code for _ in range(8)}
    assert 429 in answers
    shut_door(handler, find_door(door, now=timezone.now()).pk, now=timezone.now())
    assert stranger.get(path).status_code == stranger.post(path, said).status_code == 404
    assert Client().get("/complaints/").status_code == 302


def test_whose_complaints_a_desk_sees_and_who_may_answer(shop, handler, door):
    desk = person(shop, "abuse", 1, provider="registrar")
    sent(door, xarf_report("superseal.cc"))
    one = Complaint.objects.get(tenant=shop.row)
    with pytest.raises(NotFound):
        decline(desk, one.number, why="not at our house", now=shop.now)
    with pytest.raises(NotPermitted):
        decline(person(shop, "auditor", 1), one.number, why="no", now=shop.now)
    with pytest.raises(NotPermitted):
        make_door(person(shop, "auditor", 1), name="x", ends_at=later(), now=timezone.now())
    with pytest.raises(ConfigurationError, match="days at most"):
        make_door(handler, name="x", ends_at=later(3000), now=timezone.now())
    with pytest.raises(NotPossible, match="with a reason"):
        decline(handler, one.number, why=" ", now=shop.now)
    decline(handler, one.number, why="it was bought by its owner", now=shop.now)
    one.refresh_from_db()
    assert (one.state, one.answered_by) == ("declined", handler.name)
    client = signed_in(shop, "security")
    assert "it was bought by its owner" in text_of(client.get("/complaints/?state=declined"))
    made = client.post("/complaints/doors/", {"name": "Press", "until": f"{later():%Y-%m-%d}"})
    assert "/complain/" in text_of(made) and made["Cache-Control"] == "private, no-store"
    assert signed_in(shop, "auditor").get("/complaints/").status_code == 403


def test_a_second_case_about_the_same_act_is_offered_the_first(shop, handler):
    bought = buys(shop, "superseal.cc")
    first = opened(shop, handler, [bought])
    client = signed_in(shop, "security")
    shown = client.get(f"/cases/open/?event={bought}")
    assert first.ref in text_of(shown)
    said = {"event": bought, "kind": "scope", "title": "Again", f"part:{bought}": "250"}
    assert client.post("/cases/open/", said).status_code == 422 and Case.objects.filter(tenant=shop.row).count() == 1
    assert client.post("/cases/open/", said | {"another": "1"}).status_code == 302
    assert Case.objects.filter(tenant=shop.row).order_by("-id").first().acts.get().amount_minor == 250
    by_program = Api(shop.row, "admin")
    answer = by_program.post("cases", {"event_ids": [bought], "title": "By program", "another": False})
    assert first.ref in problem(answer, 409)["detail"] or "about these acts already" in answer.json()["detail"]
    answer = by_program.post("cases", {"event_ids": [bought], "title": "x"})
    assert answer.status_code == 201 and first.ref in answer.json()["also_about"]
    assert f"/cases/open/?event={bought}" in client.get(f"/events/{bought}/").content.decode()
    assert "/cases/open/" not in signed_in(shop, "auditor").get(f"/events/{bought}/").content.decode()
    assert client.get("/cases/open/?event=x").status_code == 400
    assert client.get(f"/cases/open/?event={uuid.uuid4()}").status_code == 404


# --- a party outside, and its one case ---------------------------------------------------------------------------------


@pytest.fixture
def let(shop, handler):
    """A case, and a link to it for its claimant."""
    case = opened(shop, handler, [buys(shop, "superseal.cc")])
    return case, make_link(case, handler, side="claimant", name="Ada's lawyer", ends_at=later(), now=timezone.now())


def entered(made):
    client = Client()
    assert client.post(f"/party/{made.secret}/", {"code": made.code.upper()}).status_code == 302
    return client


def test_a_party_comes_in_by_link_and_code_sees_its_case_and_hands_in(shop, let, handler):
    case, made = let
    path = f"/party/{made.secret}/"
    before = Client().get(path)
    assert (
        case.ref not in text_of(before)
        and "Wrong name" not in text_of(before)
        and before["Referrer-Policy"] == "no-referrer"
    )
    client = entered(made)
    seen = text_of(client.get(path))
    assert case.ref in seen and "superseal.cc" in seen
    for hidden in ("shopper", "https://conductor.example", "within_scope", "security-1", "C5"):
        assert hidden not in seen
    given = SimpleUploadedFile("letter.txt", b"he asked for .club", "text/plain")
    assert client.post(path + "hand-in/", {"title": "A letter", "file": given}).status_code == 302
    assert client.post(path + "hand-in/", {"title": "Words", "words": "I never saw it"}).status_code == 302
    assert client.post(path + "hand-in/", {"title": "Nothing"}).status_code == 422
    items = list(case.evidence.order_by("number"))
    assert [(one.side, one.role, one.actor, bool(one.submitted_at)) for one in items] == [
        ("claimant", "outside", "Ada's lawyer (by link)", True)
    ] * 2
    assert [one.what for one in OutsideUse.objects.filter(link=made.link)] == [
        "came in",
        "looked",
        "handed in",
        "handed in",
    ]
    assert (
        len([one for one in read(shop.row, Asked(kind="link.used"), before=None, limit=9)[0] if case.ref in one.what])
        == 3
    )
    assert client.post(path + "leave/").status_code == 302 and case.ref not in text_of(client.get(path))
    with pytest.raises(DatabaseError), transaction.atomic():
        OutsideUse.objects.filter(link=made.link).update(what="looked")


def test_a_link_leads_to_no_other_case_and_nowhere_once_it_is_ended_or_over(shop, let, handler):
    case, made = let
    other = opened(shop, handler, [buys(shop, "other.example")])
    foreign = make_link(other, handler, side="provider", name="Registrar", ends_at=later(), now=timezone.now())
    client = entered(made)
    assert other.ref not in text_of(client.get(f"/party/{foreign.secret}/"))  # its link without its code
    assert client.post(f"/party/{foreign.secret}/hand-in/", {"title": "x", "words": "y"}).status_code == 302
    assert other.evidence.count() == 0
    assert (
        client.post(f"/party/{foreign.secret}/", {"code": made.code}).status_code == 422
    )  # the code is of its own link
    for path in (
        f"/cases/{case.ref}/",
        "/cases/",
        f"/api/v1/cases/{case.ref}",
        f"/api/v1/cases/{case.ref}/packet",
        "/complaints/",
    ):
        assert client.get(path).status_code in (302, 401, 403), path
    end_link(case, handler, made.link.pk, now=timezone.now())
    assert client.get(f"/party/{made.secret}/").status_code == 404
    assert client.post(f"/party/{made.secret}/hand-in/", {"title": "x", "words": "y"}).status_code == 404
    with pytest.raises(NotFound, match="has ended"):
        find_link(foreign.secret, now=later(100))
    with pytest.raises(DatabaseError), transaction.atomic():
        OutsideLink.objects.filter(pk=made.link.pk).update(ended_at=None)
    with pytest.raises(DatabaseError), transaction.atomic():
        OutsideLink.objects.filter(pk=foreign.link.pk).update(case=case)


def test_codes_cannot_be_tried_and_both_parts_are_kept_as_hashes(shop, let):
    _, made = let
    answers = [Client().post(f"/party/{made.secret}/", {"code": f"aaaa-bbbb-{n:04}"}).status_code for n in range(9)]
    assert answers[0] == 422 and answers[-1] == 429
    row = OutsideLink.objects.get(pk=made.link.pk)
    assert made.secret not in repr(vars(row)) and made.code not in repr(vars(row))


def test_who_may_make_and_end_links_and_for_how_long(shop, let, handler):
    case, made = let
    with pytest.raises(NotPermitted):
        make_link(case, person(shop, "auditor", 1), side="claimant", name="x", ends_at=later(), now=timezone.now())
    with pytest.raises(NotPermitted):
        end_link(case, person(shop, "abuse", 1, provider="elsewhere"), made.link.pk, now=timezone.now())
    with pytest.raises(ConfigurationError, match="days at most"):
        make_link(case, handler, side="claimant", name="x", ends_at=later(100), now=timezone.now())
    with pytest.raises(ConfigurationError, match="no side"):
        make_link(case, handler, side="judge", name="x", ends_at=later(), now=timezone.now())
    client = signed_in(shop, "security")
    page = client.post(
        f"/cases/{case.ref}/outside/", {"side": "provider", "name": "Desk", "until": f"{later():%Y-%m-%d}"}
    )
    assert page.status_code == 200 and "/party/" in text_of(page)
    assert "/party/" not in text_of(client.get(f"/cases/{case.ref}/outside/"))
    assert signed_in(shop, "auditor").get(f"/cases/{case.ref}/outside/").status_code == 403
    move(case, "withdrawn", viewer=handler, reason="paid", now=shop.now)
    with pytest.raises(NotPossible, match="nobody more is let in"):
        make_link(case, handler, side="claimant", name="x", ends_at=later(), now=timezone.now())
    refused = entered(made).post(f"/party/{made.secret}/hand-in/", {"title": "x", "words": "y"})
    assert refused.status_code == 422 and "nothing more is handed in" in text_of(refused)


def test_who_made_a_link_may_not_let_in_what_came_by_it(shop, handler, decider):
    case = proposed(shop, handler, [buys(shop, "superseal.cc")])
    made = make_link(case, decider, side="operator", name="Operator", ends_at=later(), now=timezone.now())
    entered(made).post(f"/party/{made.secret}/hand-in/", {"title": "Log", "words": "we did not"})
    item = case.evidence.get()
    assert item.is_late and item.eligible is None
    with pytest.raises(NotPermitted, match="another person"):
        let_in(case, item.number, decider, eligible=True, reason="mine", now=shop.now)
    let_in(case, item.number, person(shop, "admin", 1), eligible=True, reason="could not be had before", now=shop.now)
