"""Charts: pure functions from plain rows to plotly figures. Colours are the page's; `charts.js` fills them in.

Every bar and point carries in `customdata` the address of the list behind it. Every figure has a table twin with the
same numbers and the same addresses, for readers without JavaScript and for screen readers.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import plotly.graph_objects as go

from auditlog.core.money.money import amount_text

Link = Callable[..., str]  # names of filters to the address of a list


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure with its words: `rows` are the table twin, each cell text or (text, address)."""

    id: str
    title: str
    note: str
    figure: dict[str, Any]
    columns: tuple[str, ...]
    rows: list[list[Any]]
    height: int = 230

    @property
    def data_id(self) -> str:
        return f"{self.id}-data"

    @property
    def table(self) -> list[list[tuple[str, str]]]:
        """The twin's cells as (text, address); no address is ""."""
        return [[cell if isinstance(cell, tuple) else (cell, "") for cell in row] for row in self.rows]

    @property
    def is_empty(self) -> bool:
        return not self.rows


def events_per_day(by_day: dict[tuple[date, str], int], *, days: Sequence[date], link: Link) -> Chart:
    """Stacked bars: how many events of which layer happened on which UTC day."""
    layers = [layer for layer in _LAYER_ORDER if any(kind == layer for _, kind in by_day)]
    traces = [
        go.Bar(
            name=layer,
            x=[day.isoformat() for day in days],
            y=[by_day.get((day, layer), 0) for day in days],
            customdata=[link(layer=layer, **_span(day)) for day in days],
            hovertemplate="%{x}<br>%{y} events<extra>" + layer + "</extra>",
        )
        for layer in layers
    ]
    rows = [
        [day.isoformat(), *((str(n), link(layer=layer, **_span(day))) if (n := by_day.get((day, layer), 0)) else "0"
                            for layer in layers)]
        for day in reversed(days)
        if any(by_day.get((day, layer)) for layer in layers)
    ]  # fmt: skip
    return Chart(
        "events-per-day", "Events per day, by layer", "By the day they happened (UTC).",
        _figure(traces, barmode="stack", yaxis={"title": {"text": "events"}, "rangemode": "tozero"}, xaxis={"type": "date"}),
        ("Day (UTC)", *layers), rows,
    )  # fmt: skip


def spend_per_day(spent: Iterable[tuple[date, str, str, int]], *, days: Sequence[date], link: Link) -> list[Chart]:
    """One chart a currency, stacked by provider: amounts of different currencies are never added or drawn together."""
    by_currency: dict[str, dict[tuple[date, str], int]] = {}
    for day, provider, currency, minor in spent:
        amounts = by_currency.setdefault(currency, {})
        amounts[day, provider] = amounts.get((day, provider), 0) + minor
    charts = []
    for currency, amounts in sorted(by_currency.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        providers = sorted({provider for _, provider in amounts})
        traces = [
            go.Bar(
                name=provider or "provider unknown",
                x=[day.isoformat() for day in days],
                y=[_major(amounts.get((day, provider), 0), currency) for day in days],
                text=[amount_text(amounts.get((day, provider), 0), currency) for day in days],
                textposition="none",
                customdata=[link(currency=currency, provider=provider, **_span(day)) for day in days],
                hovertemplate="%{x}<br>%{text}<extra>" + _plain(provider or "provider unknown") + "</extra>",
            )
            for provider in providers
        ]
        rows = [
            [
                day.isoformat(),
                *(
                    (amount_text(minor, currency), link(currency=currency, provider=provider, **_span(day)))
                    if (minor := amounts.get((day, provider))) is not None
                    else "–"
                    for provider in providers
                ),
            ]
            for day in reversed(days)
            if any((day, provider) in amounts for provider in providers)
        ]
        charts.append(
            Chart(
                f"spend-per-day-{currency.lower()}",
                f"Spend per day in {currency}, by provider",
                "Captured or settled, minus what was given back; a charge counts on the day money first moved (UTC).",
                _figure(traces, barmode="relative", yaxis={"title": {"text": currency}}, xaxis={"type": "date"}),
                ("Day (UTC)", *(p or "provider unknown" for p in providers)),
                rows,
            )
        )
    return charts


def spend_by(
    currency: str, rows: Sequence[str], columns: Sequence[str], amounts: Sequence[Sequence[int]], links: Sequence[Sequence[str]],
    *, by: str, across: str, is_time: bool,
) -> Chart:  # fmt: skip
    """Stacked bars of one currency: `amounts` of each column, by row; `links` of each row, by column."""
    upright = is_time or len(rows) <= 6
    traces = []
    for number, column in enumerate(columns):
        values = [_major(minor, currency) for minor in amounts[number]]
        names = [_plain(row) for row in rows]
        place = {"x": names, "y": values} if upright else {"x": values, "y": names, "orientation": "h"}
        traces.append(go.Bar(
            name=_plain(column), text=[amount_text(minor, currency) for minor in amounts[number]], textposition="none",
            customdata=[link[number] for link in links], hovertemplate=("%{x}" if upright else "%{y}") + "<br>%{text}<extra>" + _plain(column) + "</extra>",
            **place,
        ))  # fmt: skip
    money, names_axis = {"title": {"text": currency}, "rangemode": "tozero"}, {"type": "category", "automargin": True}
    axes = {"yaxis": money, "xaxis": names_axis} if upright else {"xaxis": money, "yaxis": {**names_axis, "autorange": "reversed"}}  # fmt: skip
    if is_time:
        axes["xaxis"] = {**names_axis, "autorange": "reversed"}
    return Chart(
        f"spend-by-{currency.lower()}", f"Spend in {currency}, by {by.lower()}{f' and {across.lower()}' if across else ''}",
        "What is certain; what is perhaps the same money is in the table.",
        _figure(traces, barmode="relative", showlegend=bool(across), **axes), (), [[""]],
        height=230 if upright else max(160, 70 + 26 * len(rows)),
    )  # fmt: skip


def exposure(series: Iterable[tuple[date, str, int]], *, link: Link) -> list[Chart]:
    """One chart a currency: what could still be charged at the end of each day."""
    by_currency: dict[str, list[tuple[date, int]]] = {}
    for day, currency, minor in series:
        by_currency.setdefault(currency, []).append((day, minor))
    charts = []
    for currency, points in sorted(by_currency.items()):
        if not any(minor for _, minor in points):
            continue
        trace = go.Scatter(
            name="exposure", mode="lines+markers", line={"shape": "hv"}, fill="tozeroy",
            x=[day.isoformat() for day, _ in points],
            y=[_major(minor, currency) for _, minor in points],
            text=[amount_text(minor, currency) for _, minor in points],
            customdata=[link(until=_span(day)["until"]) for day, _ in points],
            hovertemplate="%{x}<br>%{text}<extra></extra>",
        )  # fmt: skip
        rows = [
            [day.isoformat(), (amount_text(minor, currency), link(until=_span(day)["until"]))]
            for day, minor in reversed(points)
        ]
        charts.append(
            Chart(
                f"exposure-{currency.lower()}",
                f"Exposure in {currency}",
                "What could still be charged at the end of each day: per payment authority the larger of its unused "
                "ceiling and its open authorizations. Recurring charges to come are not in it yet.",
                _figure(
                    [trace],
                    yaxis={"title": {"text": currency}, "rangemode": "tozero"},
                    xaxis={"type": "date"},
                    showlegend=False,
                ),
                ("End of day (UTC)", "Exposure"),
                rows,
            )
        )
    return charts


def attribution(by_source: dict[str, list[int]], *, since: date, link: Link) -> Chart:
    """Horizontal bars, one a source: how many of its acts have a complete chain in which every hop is proven.

    Each number leads to exactly the acts that it counts.
    """
    sources = sorted(by_source, key=lambda name: (by_source[name][1], name))
    told = (("proven chain", "proven", [by_source[s][0] for s in sources]),
            ("not proven", "unproven", [by_source[s][1] - by_source[s][0] for s in sources]))  # fmt: skip

    def acts(source: str, chain: str) -> str:
        return link(source=source, chain=chain, since=since.isoformat())

    traces = [
        go.Bar(name=name, orientation="h", y=sources, x=counts, customdata=[acts(source, chain) for source in sources],
               hovertemplate="%{y}<br>%{x} " + name + "<extra></extra>")
        for name, chain, counts in told
    ]  # fmt: skip
    rows = [
        [
            (source, link(source=source)),
            (str(proven), acts(source, "proven")),
            (str(all_ - proven), acts(source, "unproven")),
            _share(proven, all_),
        ]
        for source in reversed(sources)
        for proven, all_ in [by_source[source]]
    ]
    return Chart(
        "attribution", "Who answers: acts by source", "Acts whose chain leads to a human with every hop proven, and those where it does not.",
        _figure(traces, barmode="stack", xaxis={"rangemode": "tozero", **_whole(max((n[1] for n in by_source.values()), default=0))}, yaxis={"automargin": True, "type": "category"}),
        ("Source", "Proven chain", "Not proven", "Share"), rows, height=max(160, 70 + 26 * len(sources)),
    )  # fmt: skip


def _share(part: int, whole: int) -> str:
    """Rounded down: 100 % is said of nothing that lacks one."""
    return f"{100 * part // whole} %"


def findings_by_rule(counts: Iterable[dict], *, link: Link) -> Chart:
    """Horizontal bars of open findings, one a rule, stacked by severity."""
    by_rule: dict[str, dict[str, int]] = {}
    for row in counts:
        by_rule.setdefault(row["rule"], {})[row["severity"]] = row["count"]
    # The rule with most findings on top: plotly draws the first category at the bottom.
    rules = sorted(by_rule, key=lambda rule: (sum(by_rule[rule].values()), rule))
    severities = [s for s in _SEVERITY_ORDER if any(s in counted for counted in by_rule.values())]
    traces = [
        go.Bar(
            name=severity, orientation="h", meta=f"severity-{severity}", y=rules,
            x=[by_rule[rule].get(severity, 0) for rule in rules],
            customdata=[link(rule=rule, severity=severity) for rule in rules],
            hovertemplate="%{y}<br>%{x} " + severity + "<extra></extra>",
        )
        for severity in severities
    ]  # fmt: skip
    rows = [
        [(rule, link(rule=rule)),
         *((str(n), link(rule=rule, severity=s)) if (n := by_rule[rule].get(s, 0)) else "0" for s in severities)]
        for rule in reversed(rules)
    ]  # fmt: skip
    return Chart(
        "findings-by-rule", "Open findings, by rule", "All that are open now, whatever the time shown above.",
        _figure(traces, barmode="stack", xaxis={"rangemode": "tozero", **_whole(max((sum(n.values()) for n in by_rule.values()), default=0))}, yaxis={"automargin": True, "type": "category"}),
        ("Rule", *severities), rows, height=max(160, 70 + 26 * len(rules)),
    )  # fmt: skip


_LAYER_ORDER = ("authority", "orchestration", "domains", "provider", "money", "dispute", "other")
_SEVERITY_ORDER = ("critical", "high", "medium", "low", "info")


def _figure(traces: list, **layout: Any) -> dict[str, Any]:
    figure = go.Figure(
        traces,
        layout={"margin": {"l": 48, "r": 8, "t": 8, "b": 36}, "hovermode": "closest", "showlegend": True, **layout},
    )
    plain = figure.to_plotly_json()
    plain["layout"].pop("template", None)  # its colours are not ours, and it is most of the bytes
    return plain


def _whole(largest: int) -> dict[str, int]:
    """Small counts get whole ticks: there is no half finding."""
    return {"dtick": 1} if largest <= 10 else {}


def _span(day: date) -> dict[str, str]:
    return {"since": day.isoformat(), "until": date.fromordinal(day.toordinal() + 1).isoformat()}


def _major(minor: int, currency: str) -> float:
    """For the height of a bar only; words on the page come from `amount_text`."""
    places = len(amount_text(1, currency).split()[0].partition(".")[2])
    return minor / 10**places


def _plain(text: str) -> str:
    """Plotly reads a little markup in labels; a sender's text must not be any."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("%{", "% {")
