"""How many events a second each format parses on one core, signatures aside: printed, and never judged.

    uv run pytest -n 0 -s -m slow tests/benchmarks
"""

import time

import pytest

from auditlog.formats import NAMES, Statement, named
from tests.deliveries import SAMPLES

SECONDS = 1.0


def best(run, events) -> float:
    rates = []
    for _ in range(3):
        began, count = time.perf_counter(), 0
        while (spent := time.perf_counter() - began) < SECONDS / 3:
            for _ in range(50):
                run()
            count += 50 * events
        rates.append(count / spent)
    return max(rates)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_how_many_events_a_format_parses(name):
    sample, module = SAMPLES[name], named(name)
    for body in sample.bodies:
        delivery = sample.deliver(body)
        stated = [one for one in module.receive(delivery, sample.known).statements.values() if isinstance(one, Statement)]
        assert stated

        def parse(stated=stated):
            for one in stated:
                module.parse(one.raw, one.headers, sample.known)

        def receive(delivery=delivery):
            module.receive(delivery, sample.known)

        print(f"\n{name}: {best(parse, len(stated)):,.0f} parsed/s, {best(receive, len(stated)):,.0f} received/s with its signature checked")
