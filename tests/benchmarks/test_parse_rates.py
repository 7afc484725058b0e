"""How many events a second each format parses on one core, signatures aside: printed, and never judged.

    uv run pytest -n 0 -s -m slow tests/benchmarks

Medians of processor time, so that what else the machine does counts little; of each sample as it is, and, where it is no token,
with some 4 KiB in a field that nobody reads.
"""

import json
import time
from contextlib import suppress
from statistics import median

import pytest

from auditlog.formats import NAMES, Statement, named
from tests.deliveries import SAMPLES

ROUNDS, SECONDS = 7, 0.15
UNREAD = {"padding": {"text": [f"lorem ipsum {number}" for number in range(230)]}}


def rate(run, events) -> float:
    rates = []
    for _ in range(ROUNDS):
        began, count = time.process_time(), 0
        while (spent := time.process_time() - began) < SECONDS:
            for _ in range(20):
                run()
            count += 20 * events
        rates.append(count / spent)
    return median(rates)


def larger(raw: bytes) -> bytes | None:
    with suppress(ValueError):
        document = json.loads(raw)
        return json.dumps(document | UNREAD).encode() if isinstance(document, dict) else None
    return None


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_how_many_events_a_format_parses(name):
    sample, module = SAMPLES[name], named(name)
    for body in sample.bodies:
        delivery = sample.deliver(body)
        stated = [
            one for one in module.receive(delivery, sample.known).statements.values() if isinstance(one, Statement)
        ]
        assert stated

        def parse(rows):
            return lambda: [module.parse(raw, headers, sample.known) for raw, headers in rows]

        rows = [(one.raw, one.headers) for one in stated]
        padded = [(larger(raw), headers) for raw, headers in rows]
        said = [f"{rate(parse(rows), len(rows)):,.0f} parsed/s of {len(rows[0][0]):,} bytes"]
        if all(raw for raw, _ in padded):
            said.append(f"{rate(parse(padded), len(rows)):,.0f} of {len(padded[0][0]):,}")
        said.append(
            f"{rate(lambda delivery=delivery: module.receive(delivery, sample.known), len(rows)):,.0f} received/s with its signature checked"
        )
        print(f"\n{name}: {', '.join(said)}")
