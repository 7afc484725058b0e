"""The delegation chain as SVG, drawn on the server: the same picture on the page and in an evidence packet. Pure.

One column a hop, oldest first, the human at the left. Standing is told by line style, by shape and in words, never by
colour alone. On a page classes take their look from `app.css`; `standalone=True` writes presentation attributes
instead, for readers without our style sheet. Names come from senders, so every one is escaped, cut and made visible.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from textwrap import wrap
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from auditlog.core.chain.chain import Break, Chain, Hop
from auditlog.core.event import Party
from auditlog.core.text import visible

BOX_W, BOX_H, GAP, TOP, PAD = 176, 76, 96, 34, 12
_LINE = 15

# The look outside our pages: light, printable, no style sheet needed.
_STANDALONE = {
    "c-box": 'fill="#ffffff" stroke="#1c1e21" stroke-width="1.5"',
    "c-inner": 'fill="none" stroke="#1c1e21" stroke-width="1"',
    "c-ghost": 'fill="none" stroke="#555555" stroke-width="1.5" stroke-dasharray="2 4"',
    "c-name": 'fill="#1c1e21" font-family="sans-serif" font-size="13" font-weight="600"',
    "c-text": 'fill="#444a50" font-family="sans-serif" font-size="11"',
    "c-break": 'fill="#8f1d14" font-family="sans-serif" font-size="11" font-weight="600"',
    "c-proven": 'stroke="#1c1e21" stroke-width="2" fill="none"',
    "c-claimed": 'stroke="#1c1e21" stroke-width="2" stroke-dasharray="7 5" fill="none"',
    "c-unknown": 'stroke="#555555" stroke-width="2" stroke-dasharray="2 4" fill="none"',
    "c-cross": 'stroke="#8f1d14" stroke-width="2.5" fill="none"',
    "c-head": 'fill="#1c1e21"',
}
_STANDING = {
    "proven": "signed by a source that may speak for its issuer",
    "claimed": "said by a source that may not speak for its issuer, or by the act alone",
    "unknown": "no source spoke of it",
}


def draw(chain: Chain, *, standalone: bool = False, name: Callable[[Hop], str] | None = None) -> str:
    """The picture. `name` gives a hop's shown name; by default its subject."""
    look = (lambda kind: _STANDALONE[kind]) if standalone else _on_page
    name = name or (lambda hop: hop.party.sub)
    parts, width, height = _path(chain, look, name)
    label = quoteattr(describe(chain, name))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-label={label}>{"".join(parts)}</svg>'
    )


def _on_page(kind: str) -> str:
    return f'class="{kind}"'


def _path(
    chain: Chain,
    look: Callable[[str], str],
    name: Callable[[Hop], str],
    led: Callable[[Hop, list[str]], list[str]] | None = None,
) -> tuple[list[str], int, int]:
    """The chain's boxes, arrows and notes, and how wide and high they are. `led` makes a link of a hop's box."""
    missing = next((b for b in chain.breaks if b.code == "missing_parent"), None)
    columns: list[Hop | Break] = ([missing] if missing else []) + list(chain.hops)
    reasons = _notes(chain, shift=1 if missing else 0)
    rows = max((len(lines) for lines in reasons.values()), default=0)
    width = max(1, len(columns)) * (BOX_W + GAP) - (0 if len(columns) - 1 in reasons else GAP) + 2 * PAD
    height = TOP + BOX_H + 26 + rows * _LINE + PAD
    parts = []
    for place, column in enumerate(columns):
        x = PAD + place * (BOX_W + GAP)
        if isinstance(column, Hop):
            drawn = _hop(column, x, look, name)
            parts += led(column, drawn) if led else drawn
            if place:
                broken = place in reasons
                from_nobody = missing is not None and place == 1
                parts += _arrow(column, x, look, broken=broken, from_nobody=from_nobody)
        else:
            parts += [
                f'<rect {look("c-ghost")} x="{x}" y="{TOP}" width="{BOX_W}" height="{BOX_H}" rx="4"/>',
                _text(x + BOX_W / 2, TOP + 34, "unknown", look("c-name")),
                _text(x + BOX_W / 2, TOP + 52, "who gave the first grant", look("c-text")),
            ]
        for line_number, line in enumerate(reasons.get(place, ())):
            y = TOP + BOX_H + 24 + line_number * _LINE
            parts.append(_text(x, y, line, look("c-break"), anchor="start"))
    return parts, width, height


@dataclass(frozen=True, slots=True)
class Child:
    """A grant below the chosen one, with what was made of it."""

    id: str
    party: Party | None
    granted_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    state: str  # open, revoked, expired
    standing: str
    grade: str
    below: int
    events: int
    broken: tuple[str, ...]  # why it does not hold, in words


@dataclass(frozen=True, slots=True)
class Tree:
    """Where the explorer stands. `beside` counts, hop by hop, the other grants that the hop above it gave."""

    grant: str
    chain: Chain
    beside: tuple[int, ...]
    children: tuple[Child, ...]
    earlier: int  # below the chosen one, before and after those shown
    later: int
    after: str  # cursor of what comes later

    @property
    def total(self) -> int:
        return self.earlier + len(self.children) + self.later


_CHILD_H, _STEP = 58, 18  # a child's box, and the room below it where nothing is broken
_BUNDLE_H = 34


def draw_tree(tree: Tree, *, link: Callable[..., tuple[str, str]]) -> str:
    """The chain to a grant, beside each hop how many others there were, and the grants below it in the order of time.

    `link(grant=, after=)` gives the address of a box without JavaScript, and what is fetched with it.
    """

    def led(parts: list[str], title: str, **to: str) -> list[str]:
        page, part = (quoteattr(address) for address in link(**to))
        return [
            f'<a href={page} hx-get={part} hx-target="#explorer" hx-swap="outerHTML" aria-label={quoteattr(title)}>',
            *parts,
            "</a>",
        ]

    def name(hop: Hop) -> str:
        return hop.party.sub

    def hop_led(hop: Hop, parts: list[str]) -> list[str]:
        if not hop.grant or hop.grant == tree.grant:
            return parts
        return led(parts, f"{visible(name(hop))}: stand at grant {visible(hop.grant)}", grant=hop.grant)

    parts, width, height = _path(tree.chain, _on_page, name, hop_led)
    shift = 1 if any(found.code == "missing_parent" for found in tree.chain.breaks) else 0
    columns = max(1, len(tree.chain.hops) + shift)
    for hop, others in zip(tree.chain.hops, tree.beside, strict=True):
        if others and hop.position:
            x = PAD + (hop.position + shift) * (BOX_W + GAP)
            above = tree.chain.hops[hop.position - 1].grant
            box = _bundle(x, height, f"and {others:,} beside it", stacked=True)
            parts += led(box, f"{others:,} more grants of the same giver", grant=above) if above else box
    bottom = height + (_BUNDLE_H + 2 * PAD if any(tree.beside[1:]) else 0)
    x, y = PAD + columns * (BOX_W + GAP) + 16, float(TOP)  # a little further: every arrow has a time to carry
    start, trunk = x - GAP - 16, x - GAP - 2
    if tree.earlier:
        box = _bundle(x, y, f"{tree.earlier:,} earlier: back to the first", stacked=True)
        parts += led(box, f"{tree.earlier:,} earlier: back to the first", grant=tree.grant)
        parts.append(_elbow(start, trunk, x, y + _BUNDLE_H / 2))
        y += _BUNDLE_H + 18
    for child in tree.children:
        box, around, high = _child(child, x, y, trunk, start)
        sub = child.party.sub if child.party else "nobody named"
        parts += [*led(box, f"{visible(sub)}: stand at grant {visible(child.id)}", grant=child.id), *around]
        y += high
    if tree.later:
        box = _bundle(x, y, f"{tree.later:,} later", stacked=True)
        parts += led(box, f"{tree.later:,} later", grant=tree.grant, after=tree.after)
        parts.append(_elbow(start, trunk, x, y + _BUNDLE_H / 2))
        y += _BUNDLE_H + 18
    if tree.total:
        width = max(width, x + BOX_W + PAD + (GAP if any(child.broken for child in tree.children) else 0))
    tall = max(bottom, y + PAD)
    label = quoteattr(
        f"{describe(tree.chain, name)} Passed on as {tree.total:,} grants, {len(tree.children)} of them shown."
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {tall:g}" width="{width}" height="{tall:g}"'
        f' role="group" aria-label={label}>{"".join(parts)}</svg>'
    )


def _child(child: Child, x: int, y: float, trunk: int, start: int) -> tuple[list[str], list[str], float]:
    """One grant below: its box; what leads there, since when, and what is broken; and how much room it takes."""
    middle, reasons = y + _CHILD_H / 2, [line for reason in child.broken[:2] for line in _lines(reason, most=5)]
    kind = child.party.kind if child.party else "unknown"
    sub = visible(child.party.sub) if child.party else "nobody named"
    count = f"{child.events:,} event{'' if child.events == 1 else 's'}" + (
        f" · passed on {child.below:,} ×" if child.below else ""
    )
    box = [
        f"<g><title>{escape(f'{sub}, {kind}, grant {visible(child.id)}: {child.state}, {child.standing}')}</title>",
        f'<rect {_on_page("c-box" if kind != "unknown" else "c-ghost")} x="{x}" y="{y:g}" width="{BOX_W}" height="{_CHILD_H}"'
        f' rx="{6 if kind == "agent" else 0}"/>',
        _text(x + BOX_W / 2, y + 20, _cut(sub, 18), _on_page("c-name")),
        _text(
            x + BOX_W / 2,
            y + 36,
            f"{child.standing}" + (f" · grade {child.grade}" if child.grade else ""),
            _on_page("c-text"),
        ),
        _text(x + BOX_W / 2, y + 51, count, _on_page("c-text")),
        "</g>",
    ]
    around = [
        _elbow(start, trunk, x, middle, child.standing),
        _text(trunk + 6, middle - 6, f"{child.granted_at:%d %b %H:%M}", _on_page("c-text"), anchor="start"),
        _text(
            trunk + 6,
            middle + 15,
            child.state,
            _on_page("c-text" if child.state == "open" else "c-break"),
            anchor="start",
        ),
    ]
    if child.broken or child.state == "revoked":
        at = x - 22
        around.append(f'<path {_on_page("c-cross")} d="M{at - 6} {middle - 6:g}l12 12m0 -12l-12 12"/>')
    around += [
        _text(x, y + _CHILD_H + 15 + n * _LINE, line, _on_page("c-break"), anchor="start")
        for n, line in enumerate(reasons)
    ]
    return box, around, _CHILD_H + (_STEP if not reasons else 26 + len(reasons) * _LINE)


def _elbow(start: float, trunk: float, end: float, y: float, standing: str = "unknown") -> str:
    line = f'<path {_on_page("c-" + standing)} d="M{start} {TOP + BOX_H / 2:g}H{trunk}V{y:g}H{end - 10}"/>'
    return line + f'<path {_on_page("c-head")} d="M{end - 10} {y - 5:g}l9 5l-9 5z"/>'


def _bundle(x: int, y: float, text: str, *, stacked: bool) -> list[str]:
    """Many as one: sheets behind a sheet."""
    behind = (
        [f'<rect {_on_page("c-box")} x="{x + 6}" y="{y + 6:g}" width="{BOX_W - 6}" height="{_BUNDLE_H}"/>']
        if stacked
        else []
    )
    return [*behind, f'<rect {_on_page("c-box")} x="{x}" y="{y:g}" width="{BOX_W - 6}" height="{_BUNDLE_H}"/>',
            _text(x + (BOX_W - 6) / 2, y + 21, text, _on_page("c-text"))]  # fmt: skip


def describe(chain: Chain, name: Callable[[Hop], str]) -> str:
    """The chain in one sentence, for who cannot see the picture."""
    hops = "; then ".join(f"{visible(name(hop))} ({hop.party.kind}, {hop.standing})" for hop in chain.hops)
    breaks = " Broken: " + "; ".join(visible(b.reason) for b in chain.breaks) + "." if chain.breaks else ""
    return f"Delegation chain, oldest first: {hops or 'nobody known'}.{breaks}"


def meaning(standing: str) -> str:
    return _STANDING.get(standing, standing)


def _hop(hop: Hop, x: int, look: Callable[[str], str], name: Callable[[Hop], str]) -> list[str]:
    full = escape(f"{visible(name(hop))}, {hop.party.kind}, {hop.standing}: {meaning(hop.standing)}")
    middle = x + BOX_W / 2
    radius = {"human": BOX_H / 2, "agent": 6}.get(hop.party.kind, 0)
    kind = "c-box" if hop.party.kind != "unknown" else "c-ghost"
    parts = [
        f"<g><title>{full}</title>",
        f'<rect {look(kind)} x="{x}" y="{TOP}" width="{BOX_W}" height="{BOX_H}" rx="{radius:g}"/>',
    ]
    if hop.party.kind in ("service", "workload"):  # a frame in the frame: a thing, not somebody who decides
        parts.append(f'<rect {look("c-inner")} x="{x + 4}" y="{TOP + 4}" width="{BOX_W - 8}" height="{BOX_H - 8}"/>')
    grade = f" · grade {hop.grade}" if hop.grade else ""
    parts += [
        _text(middle, TOP + 22, hop.party.kind, look("c-text")),
        _text(middle, TOP + 41, _cut(visible(name(hop)), 18), look("c-name")),
        _text(middle, TOP + 60, f"{hop.standing}{grade}", look("c-text")),
        "</g>",
    ]
    return parts


def _arrow(hop: Hop, x: int, look: Callable[[str], str], *, broken: bool, from_nobody: bool) -> list[str]:
    start, end, y = x - GAP + 4, x - 10, TOP + BOX_H / 2
    middle = (start + end) / 2
    label = "by grant" if hop.grant else ("by token" if hop.token else "no grant")
    standing = hop.standing
    if from_nobody:  # the hop stands in the grants we know; what led to it is the missing part
        label, standing = "grant missing", "unknown"
    parts = [
        f'<path {look("c-" + standing)} d="M{start} {y:g}H{end}"/>',
        f'<path {look("c-head")} d="M{end} {y - 5:g}l9 5l-9 5z"/>',
        _text(middle, y - 9, label, look("c-text")),
        _text(middle, y + 18, standing, look("c-text")),
    ]
    if broken:
        parts.append(f'<path {look("c-cross")} d="M{middle - 6:g} {y - 6:g}l12 12m0 -12l-12 12"/>')
    return parts


def _notes(chain: Chain, *, shift: int) -> dict[int, list[str]]:
    """What is broken, in words, under the column it belongs to."""
    notes: dict[int, list[str]] = {}
    for found in chain.breaks:
        last = max(0, len(chain.hops) - 1)
        # What is wrong with a token has no place among the grants: it stands where the token was used, at the end.
        place = 0 if found.code == "missing_parent" else (last if found.hop is None else min(found.hop, last)) + shift
        notes.setdefault(place, []).extend(_lines(found.reason, most=9))
    return notes


def _lines(reason: str, *, most: int) -> list[str]:
    """A reason in lines that fit under a box. What is left out is seen to be: half a sentence can say the opposite."""
    lines = wrap(visible(reason), 38)
    return lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1][:37]}…"]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _text(x: float, y: float, text: str, look: str, *, anchor: str = "middle") -> str:
    return f'<text {look} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


# --- lanes ----------------------------------------------------------------------------------------------------------

LANE_H, COLUMN, LABEL_W = 34, 20, 168


def draw_lanes(lanes: Sequence[tuple[str, str]], told: Sequence[dict[str, Any]], *, link: Callable[[Any], str]) -> str:
    """Acts in the order in which they happened, one column each; one lane a source, a dot where it tells of the act.

    Dots of one act are connected. A ring is a statement outside its source's layers, a cross one that contradicts
    another.
    """
    place = {name: number for number, (name, _) in enumerate(lanes)}
    width, height = LABEL_W + max(1, len(told)) * COLUMN + PAD, len(lanes) * LANE_H + 2 * PAD
    parts = []
    for number, (name, provider) in enumerate(lanes):
        y = PAD + number * LANE_H + LANE_H / 2
        parts += [
            f'<path class="c-lane" d="M{LABEL_W} {y:g}H{width - 4}"/>',
            _text(4, y - 1, _cut(visible(name), 22), 'class="c-name"', anchor="start"),
            _text(
                4,
                y + 12,
                _cut(f"of {visible(provider)}", 26) if provider else "no provider",
                'class="c-text"',
                anchor="start",
            ),
        ]
    for column, one in enumerate(told):
        x = LABEL_W + column * COLUMN + COLUMN / 2
        heights = sorted(PAD + place[name] * LANE_H + LANE_H / 2 for name in one["sources"] if name in place)
        if len(heights) > 1:
            parts.append(f'<path class="c-proven" d="M{x:g} {heights[0]:g}V{heights[-1]:g}"/>')
        claimed = {row["event_id"] for row in one["claimed"]}
        against = {event_id for each in one["disagreements"] for event_id in each.events}
        seen: set[str] = set()
        for row in one["rows"]:
            if row["source"] in seen:
                continue  # one dot a lane; the list below has them all
            seen.add(row["source"])
            y = PAD + place[row["source"]] * LANE_H + LANE_H / 2
            words = escape(
                f"{visible(row['type'])}, {visible(row['source'])}, {row['occurred_at']:%Y-%m-%d %H:%M:%S} UTC"
            )
            parts.append(f'<a href="{link(row["event_id"])}" aria-label="{words}"><title>{words}</title>')
            parts.append(f'<rect class="c-hit" x="{x - COLUMN / 2:g}" y="{y - 12:g}" width="{COLUMN}" height="24"/>')
            kind = "c-ring" if row["event_id"] in claimed else "c-dot"
            parts.append(f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="5"/>')
            if str(row["event_id"]) in against:
                parts.append(f'<path class="c-cross" d="M{x - 7:g} {y - 7:g}l14 14m0 -14l-14 14"/>')
            parts.append("</a>")
    label = quoteattr(
        f"{len(told)} acts in order of time, told by {len(lanes)} sources; the table below says the same in words"
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="group" aria-label={label}>{"".join(parts)}</svg>'
