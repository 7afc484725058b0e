"""What is taken earns its grade in every format: no alarm where nothing is wrong."""

import pytest

from auditlog.custody.earned import unearned
from auditlog.custody.verify_ledger import verify
from auditlog.formats import NAMES
from auditlog.models import LogHead
from tests.deliveries import SAMPLES
from tests.integration.test_sender_formats import post


@pytest.mark.parametrize("format", [name for name in NAMES if name in SAMPLES])
def test_what_each_format_takes_has_earned_its_grade(source, tenant, now, format):
    row, sample = source(format), SAMPLES[format]
    for body in sample.bodies:
        post(tenant, row.name, sample.deliver(body))

    size = LogHead.objects.get(tenant=tenant).size
    assert [leaf.words() for leaf in unearned(tenant, 0, size)] == []
    assert verify(tenant).leaves == size
