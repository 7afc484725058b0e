"""Which brand a name stands close to, how, and how surprising that is (`squatting.lookalike`, `score_domains`).

Names and brands are compared by what they look like (UTS 39 skeleton, hyphens left out). One pass of an automaton finds
every brand that stands in a name whole, and every half of a longer one; letters that differ are found from those
halves, and by deletes of one letter from the whole label and its tokens (the symmetric-delete idea of SymSpell).

The score is surprise: -log10 of how often that string stands in that place among names that people really register
(`core.background`). So `line` and `service` price themselves out, and no list of common words is kept.
"""

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

import ahocorasick
from rapidfuzz.distance import OSA

from auditlog.core.names import domain
from auditlog.core.names.background import Background

Relation = Literal["equal", "tld_swap", "confusable", "token", "prefix", "suffix", "inner", "dropped_word", "typo"]
Tier = Literal["alert", "review", "none"]

ALERT, REVIEW = 4.0, 3.7  # chosen on names registered on days of which none is in the table
CERTAIN = 9.0  # of the whole mark under another ending, or its very look
TOKEN = 0.2  # a whole token between hyphens is rarer than the same letters anywhere, by about this
PART = 0.8  # how much less it says that only some words of a mark are there
CROSSED, ACROSS = 5, 0.8  # of marks this short, how much less it says that they stand inside
INSIDE = 4.0  # how much more often a letter differs by chance somewhere inside
EDITS = 12.0  # how many of a mark's neighbours, a letter, are as common as the commoner of the two
SHORTEST, SHORTEST_EDIT, SHORTEST_HALVED, SHORTEST_SHORTENED = 3, 5, 7, 4
CROWD = 60  # marks that share a half: more of them say nothing
_PLACES = {"whole": 1.0, "token": TOKEN, "inside": INSIDE}
_STOP = frozenset("a an and by de der des die du for in la le les of on the to und von".split())
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Mark:
    """A brand as it is looked for. `line`: as it was given; `own`: the registrable names that it has."""

    line: str
    label: str  # in Unicode, without hyphens or spaces
    shape: str
    own: str = ""


class Likeness(NamedTuple):
    """`span`: what of the name, as it looks, was taken for the mark. `score`: -log10 of how common that is."""

    mark: Mark
    relation: Relation
    score: float
    span: str

    @property
    def tier(self) -> Tier:
        if self.relation == "equal":
            return "none"
        return "alert" if self.score >= ALERT else "review" if self.score >= REVIEW else "none"


@lru_cache(maxsize=1)
def popular_brands() -> tuple[str, ...]:
    """The bundled list of names that are imitated everywhere; an operator's own file takes its place."""
    return tuple((Path(__file__).parents[2] / "data" / "popular_brands.txt").read_text().split())


def mark_of(line: str) -> Mark | None:
    """A name, mark or domain as a brand; None where nothing is left of it to compare."""
    text, own = line.strip(), ""
    if "." in text and " " not in text:
        try:
            name = domain.parse(text)
            if domain.zone(name.ascii):  # and no mark with a full stop in it
                text, own = name.label, name.registrable
        except ValueError:
            pass
    text = text.replace("&", " and ")
    label = "".join(_WORD.findall(text.lower()))
    shape = domain.skeleton(label)
    return Mark(line.strip(), label, shape, own) if shape else None


def _shortened(line: str) -> Iterator[tuple[str, bool]]:
    """What a mark of several words looks like without its small words (True), and without one of the others."""
    words = [word.lower() for word in _WORD.findall(line.replace("&", " and "))] if " " in line.strip() else []
    if len(words) < 2:
        return
    said = [word for word in words if word not in _STOP]
    whole = "".join(words)
    found = {"".join(said[:n] + said[n + 1 :]): False for n in range(len(said))} if len(said) > 1 else {}
    found["".join(said)] = True
    yield from (
        (shape, is_whole)
        for text, is_whole in found.items()
        if text != whole and len(shape := domain.skeleton(text)) >= SHORTEST_SHORTENED
    )


class Index:
    """All brands at once. Built once, asked often."""

    def __init__(self, lines: Iterable[str], background: Background) -> None:
        self.background = background
        marks: dict[str, list[Mark]] = {}
        owned: dict[str, Mark] = {}
        shortened: dict[str, tuple[Mark, bool]] = {}
        for line in dict.fromkeys(lines):
            mark = mark_of(line)
            if mark is None:
                continue
            marks.setdefault(mark.shape, []).append(mark)
            if mark.own:
                owned.setdefault(mark.own, mark)
            for shape, is_whole in _shortened(line):
                shortened.setdefault(shape, (mark, is_whole))
        self.marks, self.owned = marks, owned
        self.shortened = {shape: known for shape, known in shortened.items() if shape not in marks}
        self.version = sha256(
            "\n".join([background.version, *sorted(m.line for many in marks.values() for m in many)]).encode()
        ).hexdigest()[:16]
        self._automaton = self._make_automaton()
        self._deleted = self._make_deletes()

    def _make_automaton(self) -> ahocorasick.Automaton | None:
        found: dict[
            str, tuple[list[str], list[str], list[str]]
        ] = {}  # whole marks, those it is the first half of, the second
        for shape in (*self.marks, *self.shortened):
            if len(shape) >= SHORTEST:
                found.setdefault(shape, ([], [], []))[0].append(shape)
            if len(shape) >= SHORTEST_HALVED and shape in self.marks:
                found.setdefault(shape[: len(shape) // 2], ([], [], []))[1].append(shape)
                found.setdefault(shape[len(shape) // 2 :], ([], [], []))[2].append(shape)
        if not found:
            return None
        automaton = ahocorasick.Automaton()
        for run, (whole, first, second) in found.items():
            automaton.add_word(
                run,
                (
                    len(run),
                    tuple(whole),
                    tuple(first) if len(first) <= CROWD else (),
                    tuple(second) if len(second) <= CROWD else (),
                ),
            )
        automaton.make_automaton()
        return automaton

    def _make_deletes(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for shape in self.marks:
            if len(shape) >= SHORTEST_EDIT:
                for each in {shape, *(shape[:n] + shape[n + 1 :] for n in range(len(shape)))}:
                    known = found.get(each, ())
                    if len(known) < CROWD:
                        found[each] = (*known, shape)
        return found

    # -- asking

    def nearest(self, name: str) -> Likeness | None:
        """The brand that a domain name comes closest to, or None. Raises ValueError for no name."""
        return max(
            self.likenesses(domain.parse(name)),
            key=lambda like: (like.relation == "equal", like.score, len(like.mark.shape)),
            default=None,
        )

    def likenesses(self, name: domain.Name) -> Iterator[Likeness]:
        label = name.label
        if self.owned and (own := self.owned.get(name.registrable)) is not None:
            yield Likeness(own, "equal", 0.0, own.shape)
            return
        joined = label.replace("-", "").lower()
        shape = domain.skeleton(joined)
        if shape in self.marks:
            for mark in self.marks[shape]:
                yield Likeness(mark, "tld_swap" if mark.label == joined else "confusable", CERTAIN, shape)
            return
        if self._automaton is None:
            return
        tokens = (
            [domain.skeleton(token) for token in re.split(r"[-\d]+", label.lower()) if token]
            if not label.isalpha()
            else []
        )
        whole: dict[str, None] = {}  # in the order found
        halves: set[tuple[str, int]] = set()
        for end, (length, marks, first, second) in self._automaton.iter(shape):
            start = end - length + 1
            for each in marks:
                whole[each] = None
            halves.update((each, start) for each in first)
            halves.update((each, start - len(each) // 2) for each in second)
        for each in whole:
            yield from self._standing_in(each, shape, tokens, joined)
        yield from self._edited(shape, tokens, whole)
        for each, start in halves:
            if each not in whole:
                yield from self._edited_inside(each, start, shape)

    def _standing_in(self, mark_shape: str, shape: str, tokens: list[str], joined: str) -> Iterator[Likeness]:
        background = self.background
        anywhere = background.surprise(mark_shape)
        relation, score = "inner", anywhere
        if shape.startswith(mark_shape):
            relation, score = "prefix", max(anywhere, background.surprise("^" + mark_shape))
        if shape.endswith(mark_shape) and (at_end := max(anywhere, background.surprise(mark_shape + "$"))) > score:
            relation, score = "suffix", at_end
        if mark_shape in tokens and (alone := background.surprise(mark_shape, times=TOKEN)) > score:
            relation, score = "token", alone
        if relation == "inner" and len(mark_shape) <= CROSSED:
            score -= ACROSS  # letters of two words that happen to meet
        if mark_shape not in self.marks:
            mark, is_whole = self.shortened[mark_shape]
            # That only some of its words are there is worth a look, and no alarm by itself.
            yield Likeness(mark, "dropped_word", score if is_whole else min(score - PART, ALERT - 0.01), mark_shape)
            return
        for mark in self.marks[mark_shape]:
            if mark.label in joined:
                yield Likeness(mark, relation, score, mark_shape)
            elif len(mark_shape) >= SHORTEST_EDIT:
                yield Likeness(mark, "confusable", score, mark_shape)

    def _edited(self, shape: str, tokens: list[str], whole: Container[str]) -> Iterator[Likeness]:
        """A letter too many, too few, another, or two changed round: of the whole label, or of one token."""
        for text in {shape, *tokens}:
            if len(text) < SHORTEST_EDIT - 1:
                continue
            near = set(self._deleted.get(text, ()))
            for n in range(len(text)):
                near.update(self._deleted.get(text[:n] + text[n + 1 :], ()))
            for each in near:
                if each not in whole and OSA.distance(each, text, score_cutoff=1) == 1:
                    yield self._typo(each, text, "whole" if text == shape else "token")

    def _edited_inside(self, mark_shape: str, start: int, shape: str) -> Iterator[Likeness]:
        length = len(mark_shape)
        for first in {max(start - 1, 0), max(start, 0), start + 1}:
            for size in (length, length + 1, length - 1):
                text = shape[first : first + size]
                if len(text) >= length - 1 and OSA.distance(mark_shape, text, score_cutoff=1) == 1:
                    yield self._typo(mark_shape, text, "inside")
                    return

    def _typo(self, mark_shape: str, text: str, place: Literal["whole", "token", "inside"]) -> Likeness:
        ends = ("^", "$") if place == "whole" else ("", "")
        commoner = max(mark_shape, text, key=self.background.expected)
        score = self.background.surprise(
            f"{ends[0]}{commoner}{ends[1]}", times=EDITS * len(mark_shape) * _PLACES[place]
        )
        return Likeness(self.marks[mark_shape][0], "typo", score, text)
