# ruff: noqa: F811  (fixtures)
"""Pages about names: a pasted list, a cluster name by name, and what else the same hand bought."""

import csv
import io
import json
from datetime import timedelta

import pytest
import xarf

from auditlog.models import Finding, OwnedName
from tests.integration.test_clusters import ID, WORDS, bought, desk, granted  # noqa: F401  desk is a fixture
from tests.integration.test_dashboard_pages import signed_in, text_of
from tests.integration.test_desk_reads import Api

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


@pytest.fixture
def told(desk):
    desk.world_at = desk.now - 2 * DAY
    root = granted(desk, desk.people[0], desk.bots[0])
    other = granted(desk, desk.people[1], desk.bots[0])
    several = [bought(desk, root, f"globex-{WORDS[n]}.top", desk.world_at + n * 20 * MINUTE) for n in range(6)]
    several.append(bought(desk, root, "quillwork.de", desk.world_at - 9 * DAY))
    several.append(bought(desk, other, "=brightforge.com", desk.world_at - 9 * DAY, provider="elsewhere"))
    desk.send(*several)
    desk.settle()
    desk.finding = Finding.objects.get(tenant=desk.row, rule="squatting.campaign")
    return desk


def test_a_cluster_is_told_name_by_name_with_what_is_left_and_what_else_the_same_hand_bought(told):
    page = text_of(signed_in(told, "security").get(f"/findings/{told.finding.pk}/names/"))

    assert "6 names of the finding" in page and "2 associated names" in page
    assert "globex-amber.top" in page and "quillwork.de" in page and "same human, same agent, same grant" in page
    assert ("over since" in page or "until" in page) and "not on record" in page and "nothing found" in page
    assert (
        f"/findings/{told.finding.pk}/names/"
        in signed_in(told, "auditor").get(f"/findings/{told.finding.pk}/").content.decode()
    )


def test_the_associated_names_are_a_table_in_which_no_cell_is_a_formula(told):
    answer = signed_in(told, "security").get(f"/findings/{told.finding.pk}/names.csv")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))

    assert [row["reasons"] for row in rows].count("in the finding") == 6
    assert {row["name"]: row["reasons"] for row in rows[6:]} == {
        "quillwork.de": "same human; same agent; same grant", "'=brightforge.com": "same agent",
    }  # fmt: skip
    assert {row["can_be_undone_until"] for row in rows if row["name"] == "quillwork.de"} == {"not known"}
    assert {row["mark"] for row in rows[:6]} == {"globex"}


def test_an_abuse_desk_reads_its_own_names_and_whose_mark_they_imitate_unless_that_is_kept_private(told):
    client = signed_in(told, "abuse", provider="registrar")
    api = Api(told.row, "abuse", "registrar")

    def read():
        page = text_of(client.get(f"/findings/{told.finding.pk}/names/"))
        table = client.get(f"/findings/{told.finding.pk}/names.csv").content.decode()
        [alike, *_] = api.rows("findings", {"rule": "squatting.lookalike"})
        return page, list(csv.DictReader(io.StringIO(table))), api.get(f"findings/{told.finding.pk}").json(), alike

    page, rows, campaign, alike = read()
    assert "globex-amber.top" in page and "brightforge" not in page and len(rows) == 7
    assert {row["mark"] for row in rows[:6]} == {"globex"} and campaign["evidence"]["marks"] == ["globex"]
    assert campaign["title"].startswith("6 names close to globex") and alike["evidence"]["owner"] == "globex"
    assert signed_in(told, "abuse", provider="elsewhere").get(f"/findings/{told.finding.pk}/names/").status_code == 404

    OwnedName.objects.filter(tenant=told.row, name="globex").update(is_private=True)

    page, rows, campaign, alike = read()
    assert {row["mark"] for row in rows} == {""} and "marks" not in campaign["evidence"]
    assert campaign["title"] == "Names close to marks of others come from one hand"
    assert "brand" not in alike["evidence"] and "owner" not in alike["evidence"] and "title" in alike["withheld"]


def test_a_pasted_list_is_scored_against_own_marks_popular_names_or_given_brands(told):
    client = signed_in(told, "security")
    page = text_of(client.post("/names/", {"names": "globex-login.com\npaypa1.com\nweather.club\nnot a name\n<b>"}))
    assert "2 to look at, 0 perhaps, 3 near nothing" in page and "globex" in page and "paypal.com" in page

    given = text_of(client.post("/names/", {"names": "globex-login.com\nzava.io", "brands": "zava"}))
    assert "1 to look at" in given and "tld swap" in given
    desk_page = text_of(signed_in(told, "abuse", provider="registrar").post("/names/", {"names": "globex-login.com"}))
    assert "0 to look at" in desk_page
    assert client.post("/names/", {"names": " "}).status_code == 422
    assert "At most 10,000 lines" in text_of(client.post("/names/", {"names": "a.com\n" * 10_001}))


def test_the_api_scores_a_list_as_the_command_does(told):
    api = Api(told.row, "security")
    answer = api.post("domains/score", {"names": ["zava.net", "no name", "weather.club"], "brands": ["zava.com"]})

    assert answer.status_code == 200
    rows = answer.json()["results"]
    assert (
        [row["tier"] for row in rows] == ["alert", "none", "none"]
        and rows[0]["brand"] == "zava.com"
        and "error" in rows[1]
    )
    assert api.post("domains/score", {"names": "zava.net"}).status_code == 400


BY = {"org": "Quillwork", "contact": "abuse@quillwork.org", "domain": "quillwork.org"}


def test_reports_on_a_cluster_are_valid_xarf_and_name_nobody(told):
    client = signed_in(told, "abuse", provider="registrar")
    path = f"/findings/{told.finding.pk}/report/"
    reports = json.loads(client.post(path, BY | {"what": "xarf"}).content)

    assert len(reports) == 6
    for each in reports:
        assert not xarf.parse(each).errors
        assert each["targeted_brands"] == ["globex"] and "brand_keyword" in each["suspicious_indicators"]
    again = json.loads(client.post(path, BY | {"what": "xarf"}).content)
    assert [each["report_id"] for each in again] == [each["report_id"] for each in reports]
    notice = client.post(path, BY | {"what": "notice"}).content.decode()
    reasons = json.loads(client.post(path, BY | {"what": "reasons"}).content)
    assert "globex-amber.top" in notice and "can be given back until" in notice
    assert reasons["names"][0] == "globex-amber.top" and reasons["decision"]["restriction"] is None
    for text in (json.dumps(reports), notice, json.dumps(reasons)):
        assert "user-0" not in text and "bot-0" not in text and ID not in text
    assert client.post(path, BY | {"what": "xarf", "contact": "nobody"}).status_code == 422
    assert client.post(path, BY | {"what": "xarf", "org": ""}).status_code == 422
