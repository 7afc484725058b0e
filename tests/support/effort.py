"""How much of a long search a landing runs; `-m slow` runs the rest, before anything is called resolved."""

import pytest


def seeds(at_once: int, of: int) -> list:
    """Seeds 0 to `of`, the ones after `at_once` marked slow."""
    return [*range(at_once), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(at_once, of))]
