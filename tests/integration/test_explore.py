"""Explore: spend by two of its sides. What is shown adds up to the books, and every number leads to its charges."""

import csv
import html
import io
import random
import re
from datetime import timedelta
from decimal import Decimal

import pytest

from auditlog.core.money.pivot import MOST_COLUMNS, MOST_ROWS, REST, pivots
from auditlog.models import Charge, Role
from auditlog.reads.access import Viewer
from auditlog.reads.money import STANDINGS, spend_by
from tests.integration.test_dashboard_pages import signed_in
from tests.integration.test_whose_money import HOUR, Stage


@pytest.fixture
def shop(world):
    """Two customers' agent at two sellers, in two currencies, some of it nobody's."""
    stage = Stage(world)
    mine, his = stage.grant(), stage.grant(stage.otto)
    for n in range(3):
        stage.buys(1_000 + n, grant=mine, after=HOUR * (n + 1), target=("vm", f"m{n}"), task="build")
    stage.buys(5_000, grant=his, after=9 * HOUR, provider="cloud", target=("vm", "o"))
    stage.buys(700, grant=mine, after=26 * HOUR, currency="EUR", target=("vm", "e"))
    stage.tell(stage.bank, "usage.metered", 3 * HOUR, amount=333, provider="meter", principal=None, request_id="r")
    stage.settled()
    return stage


def page(stage, role="finance", **asked):
    since = stage.begins.date().isoformat()
    until = (stage.begins + timedelta(days=5)).date().isoformat()
    return signed_in(stage.world, role).get("/explore/", {"since": since, "until": until, **asked})


def lines(answer):
    return list(csv.DictReader(io.StringIO(answer.content.decode())))


@pytest.mark.parametrize("across", ["", "provider", "day", "standing"])
def test_the_file_adds_up_to_the_books(shop, across):
    told = lines(page(shop, by="principal", across=across, csv=1) if across else page(shop, by="principal", csv=1))

    sums = {}
    for line in told:
        sums[line["currency"]] = sums.get(line["currency"], 0) + Decimal(line["spent"])
    kept = {}
    for charge in Charge.objects.filter(tenant=shop.world.row, has_spend=True):
        kept[charge.currency] = kept.get(charge.currency, 0) + charge.spent / 100
    assert sums == kept == {"USD": Decimal("83.36"), "EUR": Decimal("7.00")}


def test_every_number_leads_to_the_charges_that_it_counts(shop):
    client = signed_in(shop.world, "finance")
    for by, across in (("principal", "provider"), ("day", "standing"), ("task", "agent"), ("month", "")):
        text = page(shop, by=by, across=across).content.decode()
        cells = re.findall(r'<a href="(/spend/\?[^"]+)">([\d.,]+ \w{3})</a>', text)
        assert len(cells) >= 4
        for href, amount in cells:
            listed = client.get(html.unescape(href)).content.decode()
            [total] = re.findall(r"<b>\s*(?:<[^>]+>)*([\d.,]+ \w{3})(?:<[^>]+>)*\s*</b>\s*spent", listed)
            assert total == amount, (by, across, href)


def test_how_far_anybody_answers_is_told_apart(shop):
    viewer = Viewer(shop.world.row, Role.FINANCE, "", "tests")
    found = {row["standing"]: row["spent_minor"] for row in spend_by(viewer, ["standing"]) if row["currency"] == "USD"}
    assert found == {"proven": 8_003, "nobody": 333} and found.keys() <= set(STANDINGS)


def test_an_empty_time_says_so_and_a_wrong_one_is_refused_in_words(shop):
    empty = signed_in(shop.world, "finance").get("/explore/", {"since": "2020-01-01", "until": "2020-02-01"})
    assert empty.status_code == 200 and "Nothing was spent" in empty.content.decode()
    for asked, words in (
        ({"by": "colour"}, "colour"),
        ({"by": "task", "across": "task"}, "Rows and columns are the same"),
        ({"since": "2026-02-01", "until": "2026-01-01"}, "not after the beginning"),
        ({"since": "soon"}, "Write a day as"),
    ):
        answer = signed_in(shop.world, "finance").get("/explore/", asked)
        assert answer.status_code == 400 and words in answer.content.decode(), asked


def test_too_many_groups_are_refused_and_not_cut(shop, monkeypatch):
    monkeypatch.setattr("dashboard.pages.spend.explore.MOST_GROUPS", 2)
    answer = page(shop, by="principal", across="day")
    assert answer.status_code == 400 and "more than 2 groups" in html.unescape(answer.content.decode())


def test_an_abuse_desk_may_not(shop):
    assert signed_in(shop.world, "abuse", "shop").get("/explore/").status_code == 403


def test_what_a_sender_wrote_is_no_formula_and_no_markup(shop):
    given = shop.grant(shop.mara)
    shop.buys(100, grant=given, after=30 * HOUR, target=("vm", "x"), task='=HYPERLINK("x")<b>')
    shop.settled()
    assert "'=HYPERLINK" in page(shop, by="task", csv=1).content.decode()
    assert '")<b>' not in page(shop, by="task").content.decode()


@pytest.mark.parametrize("in_order", [True, False])
def test_folding_the_tail_loses_nothing(in_order):
    chance = random.Random(5)
    rows = [
        {"a": str(chance.randrange(90)), "b": str(chance.randrange(20)), "currency": chance.choice(["USD", "EUR"]),
         "spent_minor": (spent := chance.randrange(-500, 10_000)), "at_most_minor": spent + 1, "charges": 1}
        for _ in range(2_000)
    ]  # fmt: skip
    tables = pivots(rows, "a", "b", in_order=lambda key: in_order)
    for table in tables:
        of = [row for row in rows if row["currency"] == table.currency]
        total = sum(row["spent_minor"] for row in of)
        assert total == table.total.spent == sum(cell.spent for cell in table.cells.values())
        assert total == sum(c.spent for c in table.row_totals.values())
        assert total == sum(c.spent for c in table.column_totals.values())
        assert (len(table.rows), len(table.columns)) == (MOST_ROWS, MOST_COLUMNS)
        assert (table.rows[-1], table.columns[-1]) == (REST, REST)
        assert table.left_over == (90 - MOST_ROWS + 1, 20 - MOST_COLUMNS + 1)
    assert {table.currency for table in tables} == {"USD", "EUR"}
