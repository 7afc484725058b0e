"""The argument's paths: shapes, pages, and who may not."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.urls import include, path
from django.utils import timezone
from rest_framework.test import APIClient

from auditlog.reads.access import issue_token
from tests.integration.test_disputes_cases import TO_ASSESSMENT, UNKNOWN, buys, shop  # noqa: F401  fixtures among them

urlpatterns = [path("api/v1/", include("disputes.urls"))]
pytestmark = pytest.mark.urls(__name__)


def client(world, role, name="", provider=""):
    owner, _ = User.objects.get_or_create(username=f"{name or role}-{world.tenant}")
    token = issue_token(
        world.row,
        name=name or f"{role}-1",
        role=role,
        provider=provider,
        expires_at=timezone.now() + timedelta(hours=1),
        owner=owner,
    )
    made = APIClient(raise_request_exception=True)
    made.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return made


def post(who, address, **body):
    return who.post(f"/api/v1/{address}", body, format="json")


def opens(who, event_id, title="Wrong name"):
    return post(who, "cases", event_ids=[event_id], title=title, complaint="I asked for .club")


def test_adjudications_answer_in_order_with_every_field(shop):  # noqa: F811
    first, second = buys(shop, "superseal.club", 500), buys(shop, "superseal.cc", 500)

    answer = post(client(shop, "auditor"), "adjudications", event_ids=[second, first])

    assert answer.status_code == 200
    assert [v["event_id"] for v in answer.json()["results"]] == [second, first]
    assert [c["id"] for c in answer.json()["results"][0]["criteria"]][:2] == ["C0", "C1"]


def test_adjudications_name_what_there_is_not(shop):  # noqa: F811
    security = client(shop, "security")

    unknown = post(security, "adjudications", event_ids=[UNKNOWN])

    assert (unknown.status_code, unknown.headers["Content-Type"]) == (404, "application/problem+json")
    assert UNKNOWN in unknown.json()["detail"]
    assert post(security, "adjudications", event_ids=["nonsense"]).status_code == 400
    assert post(security, "adjudications", event_ids=[]).status_code == 400
    assert post(security, "adjudications").status_code == 400


def test_nobody_reads_without_a_token(shop):  # noqa: F811
    for address in ("adjudications", "cases", "cases/D-2026-000001/transitions"):
        assert post(APIClient(), address).status_code == 401


def test_the_abuse_desk_sees_verdicts_of_its_own_provider_only(shop):  # noqa: F811
    bought = buys(shop, "superseal.cc")

    assert post(client(shop, "abuse", provider="registrar"), "adjudications", event_ids=[bought]).status_code == 200
    assert post(client(shop, "abuse", provider="cloud"), "adjudications", event_ids=[bought]).status_code == 404
    assert opens(client(shop, "abuse", provider="cloud"), bought).status_code == 403


def test_a_case_through_the_paths_alone(shop):  # noqa: F811
    handler, decider = client(shop, "security"), client(shop, "finance")
    ref = opens(handler, buys(shop, "superseal.cc")).json()["ref"]
    steps = f"cases/{ref}/transitions"

    for to in TO_ASSESSMENT:
        assert post(handler, steps, to=to).status_code == 201
    assert post(handler, steps, to="proposed", outcome="upheld", reason="not asked for").json()["state"] == "proposed"
    refused = post(handler, steps, to="decided", reason="mine")
    decided = post(decider, steps, to="decided", reason="agreed")

    assert refused.status_code == 403 and "another person" in refused.json()["detail"]
    assert (decided.status_code, decided.json()["state"]) == (201, "decided")
    history = handler.get(f"/api/v1/{steps}").json()["results"]
    assert [step["to_state"] for step in history][-3:] == ["proposed", "review", "decided"]
    assert history[-1]["previous"] == history[-2]["digest"]
    assert "person" not in history[0]


def test_a_proposal_and_its_approval_have_paths_of_their_own(shop):  # noqa: F811
    handler, decider = client(shop, "security"), client(shop, "admin")
    ref = opens(handler, buys(shop, "superseal.cc")).json()["ref"]
    for to in TO_ASSESSMENT:
        post(handler, f"cases/{ref}/transitions", to=to)

    assert post(handler, f"cases/{ref}/proposals", outcome="rejected", reason="within scope").status_code == 201
    assert post(handler, f"cases/{ref}/approvals", reason="mine").status_code == 403
    assert post(decider, f"cases/{ref}/approvals", reason="agreed").json()["result"] == "approved"

    page = handler.get(f"/api/v1/cases/{ref}").json()
    assert page["proposals"][0]["approval"]["approver"] == "admin-1"
    assert page["verdicts"][0]["verdict"] == "within_scope_unanticipated"


def test_a_step_out_of_order_is_a_conflict_and_says_what_is_possible(shop):  # noqa: F811
    handler = client(shop, "security")
    ref = opens(handler, buys(shop, "superseal.cc")).json()["ref"]

    refused = post(handler, f"cases/{ref}/transitions", to="closed", reason="r")

    assert refused.status_code == 409 and "intake" in refused.json()["detail"]
    assert post(handler, f"cases/{ref}/transitions", to="nowhere").status_code == 400


def test_the_auditor_reads_and_does_nothing(shop):  # noqa: F811
    handler, auditor = client(shop, "security"), client(shop, "auditor")
    bought = buys(shop, "superseal.cc")
    ref = opens(handler, bought).json()["ref"]

    assert auditor.get(f"/api/v1/cases/{ref}").status_code == 200
    assert opens(auditor, bought).status_code == 403
    for address in (f"cases/{ref}/transitions", f"cases/{ref}/proposals", f"cases/{ref}/approvals"):
        assert post(auditor, address, to="intake", reason="r", outcome="upheld").status_code == 403


def test_cases_are_listed_newest_first_page_by_page(shop):  # noqa: F811
    handler = client(shop, "security")
    refs = [opens(handler, buys(shop, f"superseal{n}.com", 10)).json()["ref"] for n in range(5)]
    post(handler, f"cases/{refs[0]}/transitions", to="intake")

    address, seen = "/api/v1/cases?limit=2", []
    while address:
        page = handler.get(address).json()
        seen += [case["ref"] for case in page["results"]]
        address = page["next"]

    assert seen == refs[::-1]
    assert [c["ref"] for c in handler.get("/api/v1/cases?state=intake").json()["results"]] == [refs[0]]
    assert handler.get("/api/v1/cases?awaiting=nobody").json() == {"results": [], "next": None}
    assert handler.get("/api/v1/cases?state=odd").status_code == 400
    assert handler.get("/api/v1/cases/D-2026-%00").status_code == 404


def test_hostile_text_is_refused_or_kept_as_it_is(shop):  # noqa: F811
    handler = client(shop, "security")
    bought = buys(shop, "superseal.cc")

    assert opens(handler, bought, title="a\x00b").status_code == 400
    lone = f'{{"event_ids": ["{bought}"], "title": "\\ud800"}}'
    assert handler.post("/api/v1/cases", lone, content_type="application/json").status_code == 400
    assert opens(handler, bought, title="<script>").json()["title"] == "<script>"


def test_the_schema_names_every_path_without_a_warning(database):
    from drf_spectacular.drainage import GENERATOR_STATS
    from drf_spectacular.generators import SchemaGenerator

    with GENERATOR_STATS.silence():
        GENERATOR_STATS.reset()
        schema = SchemaGenerator(urlconf=__name__).get_schema(request=None, public=True)

    assert {p.removeprefix("/api/v1/") for p in schema["paths"]} == {
        "adjudications", "packets", "cases", "cases/{ref}", "cases/{ref}/transitions", "cases/{ref}/packet", "cases/{ref}/proposals", "cases/{ref}/approvals",
        "cases/{ref}/assessments", "cases/{ref}/deadlines", "cases/{ref}/evidence", "cases/{ref}/evidence/{number}/file",
        "cases/{ref}/evidence/{number}/submit", "cases/{ref}/evidence/{number}/eligible", "cases/{ref}/settlement/refuse", "cases/{ref}/bank-answer",
        "incidents", "incidents/{ref}", *(f"incidents/{{ref}}/{step}" for step in ("assign", "note", "close", "reopen", "merge", "split", "snooze", "suppress", "bring-back")),
        "complaints/{secret}",
    }  # fmt: skip
    assert [*GENERATOR_STATS._warn_cache, *GENERATOR_STATS._error_cache] == []
