"""How common a string is in names that people really register: what makes a likeness surprising, or not.

A table of letter runs with how often each occurs in a sample of new registrations ("^" and "$" stand for a name's ends;
hyphens are left out). Runs of up to `ORDER` letters give probabilities of any string; longer ones that occur often,
whole words, are counted themselves. A table holds no names, and says nothing of any of them.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import log10
from pathlib import Path

ORDER = 4
LONGEST = 12
OFTEN = 3  # how often a longer run must occur to be counted itself
PRIOR = 2.0  # how much a shorter context weighs against what was counted of the longer one
RAREST = 1e-9
KEPT = 100_000  # answers kept: a pipe of names asks for as many runs as it likes

_BUNDLED = Path(__file__).parents[2] / "data" / "new_names.tsv"


@dataclass(frozen=True)
class Background:
    """`counts` of letter runs in `names` names. `version` names the sample."""

    version: str
    names: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, labels: Iterable[str], version: str) -> "Background":
        """From registrable labels as they look: skeletons without hyphens."""
        by_size: list[Counter[str]] = [Counter() for _ in range(LONGEST + 3)]
        names = 0
        for label in labels:
            names += 1
            text = f"^{label}$"
            for size in range(1, LONGEST + 3):
                by_size[size].update({text[n : n + size] for n in range(len(text) - size + 1)})
        often = OFTEN if names < 50_000 else 2 * OFTEN
        counts = {
            run: n for size in range(1, ORDER + 1) for run, n in by_size[size].items() if size < ORDER or n >= often / 2
        }
        for size in range(ORDER + 1, LONGEST + 3):
            # A longer run is kept where the shorter ones do not say it: whole words, above all.
            so_far = cls(version, names, counts)
            kept = {run: n for run, n in by_size[size].items() if n >= often and n > 1.5 * names * so_far.expected(run)}
            counts = counts | kept
        return cls(version, names, counts)

    @classmethod
    def read(cls, text: str) -> "Background":
        """Of lines `run<tab>count`, after a head line `# version names`. Raises ValueError."""
        head, *lines = text.splitlines()
        found = re.fullmatch(r"# (\S+) (\d+) .*", head)
        if not found:
            raise ValueError(f"a table of names begins with its version and size, found {head[:80]!r}")
        rows = (line.split("\t") for line in lines if line and not line.startswith("#"))
        return cls(found[1], int(found[2]), {run: int(count) for run, count in rows})

    def written(self, source: str) -> str:
        rows = "\n".join(f"{run}\t{count}" for run, count in sorted(self.counts.items()))
        return f"# {self.version} {self.names} {source}\n{rows}\n"

    def surprise(self, run: str, *, times: float = 1.0) -> float:
        """-log10 of how many of a random name's places this run stands at, `times` over: 4 is one name in 10,000."""
        return -log10(min(max(self.expected(run) * times, RAREST), 1.0))

    @cached_property
    def expected(self) -> Callable[[str], float]:
        """How often a run occurs in one random name, on average."""
        return lru_cache(maxsize=KEPT)(self._expected)

    def boundary(self, before: str, text: str, after: str) -> float:
        """log10 of how much sooner `text` stands here as a word of its own than by letters that go on from those beside
        it: "login" begins like a word, "warnerj" before "epson" ends like none. A side that is empty says nothing.
        """
        said = 0.0
        context = before[1 - ORDER :]
        if context:
            ends = self._follows("$", context) / self._follows("$", "")
            said += log10(ends) - self._flow(context, text[: ORDER - 1])
        if after:
            start = after[: ORDER - 1]
            begins = self._flow("^", start)
            said += begins - self._flow(text[1 - ORDER :], start)
        return said

    def _flow(self, context: str, text: str) -> float:
        """log10 of how much more often `text` comes after `context` than anywhere."""
        said = 0.0
        for place, letter in enumerate(text):
            with_context = (context + text[:place])[1 - ORDER :]
            said += log10(self._follows(letter, with_context) / self._follows(letter, text[:place]))
        return said

    @cached_property
    def _follows(self) -> Callable[[str, str], float]:
        """How probable a letter is after a context of fewer than `ORDER` letters."""
        return lru_cache(maxsize=KEPT)(self._following)

    @cached_property
    def _letters(self) -> int:
        return sum(n for run, n in self.counts.items() if len(run) == 1)

    def _expected(self, run: str) -> float:
        guess = self.counts.get(run[:ORDER], 0.0) / self.names
        if not guess and run:
            guess = self.counts.get(run[0], 0.5) / self.names
            for place in range(1, min(len(run), ORDER)):
                guess *= self._follows(run[place], run[:place])
        for place in range(ORDER, len(run)):
            # The longest run up to here that was counted itself says more than a product does.
            guess *= self._follows(run[place], run[place - ORDER + 1 : place])
            if (counted := self.counts.get(run[: place + 1])) is not None:
                guess = counted / self.names
        return guess

    def _following(self, letter: str, context: str) -> float:
        shorter = self._follows(letter, context[1:]) if context else 1 / 40
        seen = self.counts.get(context, 0) if context else self._letters
        return (self.counts.get(context + letter, 0) + PRIOR * shorter) / (seen + PRIOR)


@lru_cache(maxsize=1)
def bundled() -> Background:
    return Background.read(_BUNDLED.read_text())
