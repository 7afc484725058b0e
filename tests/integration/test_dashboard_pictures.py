"""Charts, exposure and the chain's picture: pure functions, so no database here."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from xml.etree import ElementTree

from auditlog.core.chain import svg
from auditlog.core.chain.chain import Break, Path, build_chain
from auditlog.core.event import Party
from auditlog.core.money.exposure import exposure_at, exposure_by_day
from dashboard.pictures import charts
from dashboard.pictures.plotly_css import guard_ids, style_sheet

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = date(2026, 5, 1)


def link(**filters) -> str:
    return "/list/?" + "&".join(f"{name}={value}" for name, value in filters.items())


def chain(*names: str, missing: str | None = None):
    parties = [Party("https://id.example", name, "agent") for name in names]
    human = Party("https://id.example", "ada", "human")
    return build_chain(path=Path((), missing, cycle=False), acting=parties, claimed_principal=human, grade="A")


def test_an_authority_counts_once_by_the_larger_of_ceiling_and_holds():
    ceilings = [("pa1", "USD", 100, NOON, None)]
    uses = [("pa1", "USD", 70, NOON + timedelta(hours=1))]
    holds = [("pa1", "USD", 50, NOON, None), ("", "USD", 7, NOON, NOON + timedelta(hours=2))]

    assert exposure_at(NOON, ceilings, uses, holds) == {"USD": 107}
    assert exposure_at(NOON + timedelta(hours=1), ceilings, uses, holds) == {"USD": 57}
    assert exposure_at(NOON + timedelta(hours=2), ceilings, uses, holds) == {"USD": 50}


def test_an_ended_authority_exposes_nothing_and_currencies_stay_apart():
    ceilings = [("a", "USD", 100, NOON, NOON + timedelta(days=1)), ("b", "EUR", 5, NOON, None)]

    series = exposure_by_day([DAY, DAY + timedelta(days=1)], ceilings, [], [], now=NOON + timedelta(days=9))

    assert [(currency, minor) for _, currency, minor in series] == [("EUR", 5), ("USD", 100), ("EUR", 5), ("USD", 0)]


def test_spend_is_drawn_a_currency_at_a_time():
    drawn = charts.spend_per_day(
        [(DAY, "registrar", "USD", 900), (DAY, "cloud", "USD", 100), (DAY, "registrar", "JPY", 900)],
        days=[DAY],
        link=link,
    )

    assert {chart.title for chart in drawn} == {
        "Spend per day in USD, by provider",
        "Spend per day in JPY, by provider",
    }
    assert [trace["y"] for chart in drawn for trace in chart.figure["data"]] == [[1.0], [9.0], [900.0]]


def test_every_bar_and_every_cell_leads_to_its_list():
    chart = charts.events_per_day({(DAY, "money"): 3}, days=[DAY], link=link)

    [trace] = chart.figure["data"]
    assert trace["customdata"] == ["/list/?layer=money&since=2026-05-01&until=2026-05-02"]
    assert chart.table == [[("2026-05-01", ""), ("3", trace["customdata"][0])]]
    assert "template" not in chart.figure["layout"]


def test_a_chart_of_nothing_is_empty():
    assert charts.events_per_day({}, days=[DAY], link=link).is_empty
    assert charts.findings_by_rule([], link=link).is_empty
    assert charts.spend_per_day([], days=[DAY], link=link) == []


def test_a_picture_is_well_formed_whatever_a_name_says():
    drawn = svg.draw(chain("<b>\"&'", "\u202e\x00evil", "a" * 300))

    text = "".join(ElementTree.fromstring(drawn).itertext())
    assert "<b>" not in drawn
    assert "⟨U+202E⟩⟨U+0000⟩evil" in text
    assert "style=" not in drawn


def test_standing_and_breaks_are_told_in_words():
    drawn = svg.draw(chain("shopper", missing="grant_7"))

    assert "no source ever spoke of" in " ".join(ElementTree.fromstring(drawn).itertext())
    assert "claimed" in drawn
    assert "no grant" in drawn


def test_a_reason_is_told_to_its_end_or_is_seen_to_be_cut():
    def told(words):
        found = replace(
            chain("shopper"), breaks=(Break(1, "scope_widened", " ".join(f"word{n}" for n in range(words))),)
        )
        return " ".join(ElementTree.fromstring(svg.draw(found)).itertext())

    assert "word39" in told(40) and "…" not in told(40)
    assert "word99" not in told(100) and "…" in told(100)


def test_what_is_wrong_with_a_token_stands_where_it_was_used_with_a_cross():
    found = replace(
        chain("shopper", "helper"), breaks=(Break(None, "orphan_token", "no source ever spoke of token t"),)
    )
    drawn = svg.draw(found)

    [x] = re.findall(r'<text class="c-break" x="(\d+)"', drawn)
    boxes = re.findall(r'<rect class="c-box" x="(\d+)"', drawn)
    assert drawn.count("c-cross") == 1 and x == boxes[-1]


def test_the_picture_outside_our_pages_needs_no_style_sheet():
    drawn = svg.draw(chain("shopper"), standalone=True)

    assert "class=" not in drawn
    assert 'stroke-dasharray="7 5"' in drawn
    ElementTree.fromstring(drawn)


def test_human_agent_and_thing_differ_in_shape():
    base = chain("x")
    kinds = ("human", "agent", "service")
    drawn = [svg.draw(replace(base, hops=(replace(base.hops[0], party=Party("i", "n", kind)),))) for kind in kinds]

    shapes = [re.sub(r"<text.*?</text>|<title>.*?</title>|aria-label=\"[^\"]*\"", "", picture) for picture in drawn]
    assert len(set(shapes)) == 3


def test_plotlys_own_rules_are_read_from_its_package():
    sheet = style_sheet()

    assert ".js-plotly-plot .plotly .main-svg{position:absolute" in sheet
    assert "X " not in sheet
    assert guard_ids()
