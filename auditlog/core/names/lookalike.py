"""Which brand a name stands close to, how, and how surprising that is (`squatting.lookalike`, `score_domains`).

Names and brands are compared by what they look like (UTS 39 skeleton, hyphens left out). One pass of an automaton finds
every brand that stands in a name whole, and every half of a longer one; letters that differ are found from those
halves, and by deletes of one letter from the whole label and its tokens (the symmetric-delete idea of SymSpell).

The score is surprise: -log10 of how often that string stands in that place among names that people really register
(`core.background`). So `line` and `service` price themselves out, and no list of common words is kept.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate
from math import log10
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ahocorasick
from rapidfuzz.distance import OSA

from auditlog.core.names import domain
from auditlog.core.names.background import RAREST, Background

Relation = Literal["equal", "tld_swap", "confusable", "token", "prefix", "suffix", "inner", "dropped_word", "typo"]
Place = Literal["whole", "token", "inside"]
Tier = Literal["alert", "review", "none"]

# Chosen on UDRP cases with an even number and on names of a day of which none is in the table; cases with an odd number
# agree. Each brand more is one more chance to meet one: of many, each likeness has to be that much more surprising.
ALERT, REVIEW_BELOW, BRANDS = 3.9, 0.2, 300
CERTAIN = 9.0  # of the whole mark under another ending, or its very look
TOKEN = 0.2  # a whole token between hyphens is rarer than the same letters anywhere, by about this
PART = 0.8  # how much less it says that only some words of a mark are there
ONE_WORD = 9.0  # of a mark of two words: that one of them is there is worth a look, and no alarm by itself
CROSSED, ACROSS = 5, 0.8  # of marks this short, how much less it says that they stand inside
CUT_WEIGHT = 0.5  # letters are not independent: what a boundary says counts half
CUT = 1.0  # how much a hyphen or a number says of a boundary, as log10
MOST_CUT = 1.5
WORD = 0.15  # of its places, the share at names' beginnings and at their ends from which a string is a word
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
    """`span`: what of the name, as it looks, was taken for the mark. `score`: -log10 of how common that is. `alert`:
    from which score it is one, among so many brands.
    """

    mark: Mark
    relation: Relation
    score: float
    span: str
    alert: float = ALERT

    @property
    def tier(self) -> Tier:
        if self.relation == "equal":
            return "none"
        return "alert" if self.score >= self.alert else "review" if self.score >= self.alert - REVIEW_BELOW else "none"


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


def _shortened(line: str) -> Iterator[tuple[str, float]]:
    """What a mark of several words looks like without its small words (0), and without one of the others: how much less
    that says, and of a single word that is left so much that it is no alarm by itself.
    """
    words = [word.lower() for word in _WORD.findall(line.replace("&", " and "))] if " " in line.strip() else []
    if len(words) < 2:
        return
    said = [word for word in words if word not in _STOP]
    whole = "".join(words)
    less = PART if len(said) > 2 else ONE_WORD
    found = {"".join(said[:n] + said[n + 1 :]): less for n in range(len(said))} if len(said) > 1 else {}
    found["".join(said)] = 0.0
    yield from (
        (shape, less)
        for text, less in found.items()
        if text != whole and len(shape := domain.skeleton(text)) >= SHORTEST_SHORTENED
    )


def _tokens(label: str, size: int) -> tuple[list[str], frozenset[int]]:
    """What a label's tokens look like, and where in its look of `size` letters one ends and the next begins."""
    parts = [(domain.skeleton(text), text.isdigit()) for text in re.findall(r"\d+|[^-\d]+", label)]
    ends = list(accumulate(len(shape) for shape, _ in parts))
    cuts = frozenset(ends[:-1]) if ends and ends[-1] == size else frozenset[int]()
    return [shape for shape, is_number in parts if not is_number], cuts


def _edited_beside(mark_shape: str, start: int, shape: str) -> tuple[int, int] | None:
    """Where a mark stands with one letter different, whose first half stands as it is at `start`."""
    half = len(mark_shape) // 2
    size = _one_edit(mark_shape[half:], shape[start + half :])
    return None if size is None else (start, start + half + size)


def _edited_before(mark_shape: str, start: int, shape: str) -> tuple[int, int] | None:
    """The same of one whose second half stands as it is at `start`."""
    half = len(mark_shape) // 2
    size = _one_edit(mark_shape[half - 1 :: -1], shape[start - 1 :: -1] if start else "")
    return None if size is None else (start - size, start + len(mark_shape) - half)


def _one_edit(wanted: str, text: str) -> int | None:
    """How many letters at the beginning of `text` are `wanted` with one letter another, too many, changed round with
    the next, or too few; None where more differs.
    """
    n = 0
    for one, other in zip(wanted, text, strict=False):
        if one != other:
            break
        n += 1
    if n == len(wanted):
        return n
    if n < len(text):
        if text.startswith(wanted[n + 1 :], n + 1):
            return len(wanted)
        if text.startswith(wanted[n:], n + 1):
            return len(wanted) + 1
        if text[n : n + 2] == wanted[n : n + 2][::-1] and text.startswith(wanted[n + 2 :], n + 2):
            return len(wanted)
    return len(wanted) - 1 if text.startswith(wanted[n + 1 :], n) else None


class Index:
    """All brands at once. Built once, asked often."""

    def __init__(self, lines: Iterable[str], background: Background) -> None:
        self.background = background
        marks: dict[str, list[Mark]] = {}
        owned: dict[str, Mark] = {}
        shortened: dict[str, tuple[Mark, float]] = {}
        for line in dict.fromkeys(lines):
            mark = mark_of(line)
            if mark is None:
                continue
            marks.setdefault(mark.shape, []).append(mark)
            if mark.own:
                owned.setdefault(mark.own, mark)
            for shape, less in _shortened(line):
                shortened.setdefault(shape, (mark, less))
        self.marks, self.owned = marks, owned
        self._looks: dict[str, list[str]] = {}
        for shape in marks:
            self._looks.setdefault(domain.look(shape), []).append(shape)
        self.alert = ALERT + log10(max(len(marks), BRANDS) / BRANDS)
        self.shortened = {shape: known for shape, known in shortened.items() if shape not in marks}
        self.version = sha256(
            "\n".join([background.version, *sorted(m.line for many in marks.values() for m in many)]).encode()
        ).hexdigest()[:16]
        self._automaton = self._make_automaton()
        self._deleted = self._make_deletes()
        self._longest_deleted = max(map(len, self._deleted), default=0)

    def _make_automaton(self) -> ahocorasick.Automaton | None:
        found: dict[
            str, tuple[list[str], list[str], list[str]]
        ] = {}  # whole marks, those it is the first half of, the second
        for shape in (*self.marks, *self.shortened):
            if len(shape) >= SHORTEST and self._may_stand_in(shape):
                found.setdefault(shape, ([], [], []))[0].append(shape)
            if len(shape) >= SHORTEST_HALVED and shape in self.marks and self._may_be_edited(shape, "inside", MOST_CUT):
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
        for shape in (*self.marks, *(shape for shape, (_, less) in self.shortened.items() if not less)):
            if len(shape) >= SHORTEST_EDIT and any(self._may_be_edited(shape, place) for place in ("whole", "token")):
                for each in {shape, *(shape[:n] + shape[n + 1 :] for n in range(len(shape)))}:
                    known = found.get(each, ())
                    if len(known) < CROWD:
                        found[each] = (*known, shape)
        return found

    # What stands so often among names that it can never be told is not looked for at all.

    def _may_stand_in(self, shape: str) -> bool:
        expected = self.background.expected
        rarest = min(expected(shape) * TOKEN, expected(f"^{shape}"), expected(f"{shape}$"))
        return -log10(max(rarest, RAREST)) + MOST_CUT >= self.alert - REVIEW_BELOW

    def _may_be_edited(self, shape: str, place: Place, more: float = 0.0) -> bool:
        return self._surprise_edited(shape, place) + more >= self.alert - REVIEW_BELOW

    def _surprise_edited(self, shape: str, place: Place, other: str = "") -> float:
        ends = ("^", "$") if place == "whole" else ("", "")
        commoner = max(shape, other, key=self.background.expected) if other else shape
        return self.background.surprise(f"{ends[0]}{commoner}{ends[1]}", times=EDITS * len(shape) * _PLACES[place])

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
        looks = [shape] if shape in self.marks else self._looks.get(domain.look(shape), [])
        if not looks and name.given:
            looks = self._looks.get(domain.look(domain.skeleton(name.given.replace("-", ""))), [])
        if looks:
            for mark in (mark for each in looks for mark in self.marks[each]):
                yield Likeness(mark, "tld_swap" if mark.label == joined else "confusable", CERTAIN, shape, self.alert)
            return
        if self._automaton is None:
            return
        tokens, cuts = ([], frozenset[int]()) if label.isalpha() else _tokens(label.lower(), len(shape))
        whole: dict[str, list[int]] = {}  # in the order found: where each begins
        halves: dict[tuple[str, int, bool], None] = {}  # mark, where its half begins, whether that is its first
        for end, (length, marks, first, second) in self._automaton.iter(shape):
            start = end - length + 1
            for each in marks:
                whole.setdefault(each, []).append(start)
            for each in first:
                halves[each, start, True] = None
            for each in second:
                halves[each, start, False] = None
        for each, starts in whole.items():
            yield from self._standing_in(each, starts, shape, tokens, cuts, joined)
        yield from self._edited(shape, tokens)
        for each, start, is_first in halves:
            found = _edited_beside(each, start, shape) if is_first else _edited_before(each, start, shape)
            if found is not None and each not in shape:
                yield self._edited_inside(each, *found, shape, cuts)

    def _standing_in(
        self, mark_shape: str, starts: list[int], shape: str, tokens: list[str], cuts: frozenset[int], joined: str
    ) -> Iterator[Likeness]:
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
        if score < self.alert - REVIEW_BELOW - MOST_CUT:
            return
        score += max(self._cut_out(mark_shape, mark_shape, start, shape, cuts) for start in starts)
        if mark_shape not in self.marks:
            mark, less = self.shortened[mark_shape]
            said = score - less if less < ONE_WORD else min(score - PART, self.alert - 0.01)
            yield Likeness(mark, "dropped_word", said, mark_shape, self.alert)
            return
        for mark in self.marks[mark_shape]:
            if mark.label in joined:
                yield Likeness(mark, relation, score, mark_shape, self.alert)
            elif len(mark_shape) >= SHORTEST_EDIT:
                yield Likeness(mark, "confusable", score, mark_shape, self.alert)

    def _edited(self, shape: str, tokens: list[str]) -> Iterator[Likeness]:
        """A letter too many, too few, another, or two changed round: of the whole label, or of one token."""
        for text in {shape, *tokens}:
            if not SHORTEST_EDIT - 1 <= len(text) <= self._longest_deleted + 1:
                continue
            near = set(self._deleted.get(text, ()))
            for n in range(len(text)):
                if (known := self._deleted.get(text[:n] + text[n + 1 :])) is not None:
                    near.update(known)
            for each in near:
                if each not in shape and OSA.distance(each, text, score_cutoff=1) == 1:
                    yield self._typo(each, text, "whole" if text == shape else "token")

    def _cut_out(self, mark_shape: str, text: str, start: int, shape: str, cuts: frozenset[int]) -> float:
        """How much more, or less, it says that the name's other letters end before the mark, and begin after it, as
        words do. Of a mark that is a word itself, which people use as one, it says nothing more.
        """
        end = start + len(text)
        before, after = "" if start in cuts else shape[:start], "" if end in cuts else shape[end:]
        said = self.background.boundary(before, text, after)
        said += CUT * ((start in cuts) + (end in cuts))
        if (before or after) and any(start < cut < end for cut in cuts):
            said -= CUT
        if said > 0:
            said *= 1 - self._wordlike(mark_shape)
        return max(-MOST_CUT, min(MOST_CUT, CUT_WEIGHT * said))

    def _wordlike(self, shape: str) -> float:
        """From 0 to 1: how often what looks like this stands at names' beginnings and at their ends, as words do."""
        expected = self.background.expected
        return min(1.0, min(expected(f"^{shape}"), expected(f"{shape}$")) / (WORD * max(expected(shape), RAREST)))

    def _edited_inside(self, mark_shape: str, start: int, end: int, shape: str, cuts: frozenset[int]) -> Likeness:
        text = shape[start:end]
        like = self._typo(mark_shape, text, "inside")
        return like._replace(score=like.score + self._cut_out(mark_shape, text, start, shape, cuts))

    def _typo(self, mark_shape: str, text: str, place: Place) -> Likeness:
        score = self._surprise_edited(mark_shape, place, text)
        mark = self.marks[mark_shape][0] if mark_shape in self.marks else self.shortened[mark_shape][0]
        return Likeness(mark, "typo", score, text, self.alert)


def told(index: Index, given: str) -> dict[str, Any]:
    """What there is to say of one name, also where it is none: as `score_domains`, the API and the page answer."""
    try:
        found, fault = index.nearest(given.strip()), {}
    except ValueError as error:
        found, fault = None, {"error": str(error)}
    said = {"name": given, "brand": None, "relation": None, "score": 0.0, "tier": "none"}
    if found is not None:
        said |= {
            "brand": found.mark.line,
            "relation": found.relation,
            "score": round(found.score, 2),
            "tier": found.tier,
        }
    return said | fault
