"""Grade C is earned too: a MAC is checked again while the secret of its time is there, and said to be unchecked after."""

import json
from base64 import b64encode
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.management import call_command

from auditlog.core.errors import LedgerCorrupt
from auditlog.custody.earned import unearned
from auditlog.custody.verify_ledger import verify
from auditlog.custody.watch import watch
from auditlog.formats import Delivery, Statement, named
from auditlog.formats.standard_webhooks import signature
from auditlog.ingest.receive import ingest
from auditlog.ledger.append import append_statements
from auditlog.models import Finding, LogHead
from auditlog.sources import sealed
from auditlog.sources.configure import add_source
from auditlog.sources.sender import sender_of

FIRST, SECOND, THIRD = (b"whsec_" + b64encode(bytes([n]) * 24) for n in (1, 2, 3))


@pytest.fixture
def hook(tenant, now):
    """A source whose shared secret is sealed, and what it sends."""
    sealed.seal(tenant, "HOOK", FIRST, now=now)
    source = add_source(tenant, "hook", format="standard_webhooks", issuer="hook", secret_env="HOOK", now=now)
    return Hook(source, now)


class Hook:
    def __init__(self, source, now):
        self.source, self.tenant, self.now, self.count = source, source.tenant, now, 0

    def delivery(self, secret):
        self.count += 1
        body = json.dumps({"type": "thing.done", "data": {"n": self.count}}).encode()
        at, id = str(int(self.now.timestamp())), f"m{self.count}"
        headers = {
            "webhook-id": id,
            "webhook-timestamp": at,
            "webhook-signature": f"v1,{signature(secret, id, at, body)}",
        }
        return Delivery(body, "application/json", headers)

    def send(self, secret=FIRST):
        [appended] = ingest(self.tenant.name, "hook", self.delivery(secret), now=self.now).appended.values()
        return appended.leaf_index

    def forge(self):
        """A leaf written with the application role's INSERT alone, under a secret that nobody ever had."""
        sender = replace(sender_of(self.source), secret=lambda: THIRD, old_secret=lambda: None)
        [made] = named("standard_webhooks").receive(self.delivery(THIRD), sender).statements.values()
        assert isinstance(made, Statement) and made.grade == "C"
        [appended] = append_statements(self.source, [made], now=self.now)
        return appended.leaf_index

    def looked_at(self):
        unchecked = Counter()
        wrong = list(unearned(self.tenant, 0, LogHead.objects.get(tenant=self.tenant).size, unchecked=unchecked))
        return [leaf.leaf_index for leaf in wrong], unchecked.total()


def test_a_mac_that_fits_the_secret_is_earned(hook):
    hook.send()
    assert hook.looked_at() == ([], 0)


def test_a_mac_that_does_not_fit_the_secret_of_its_time_is_an_alarm(hook):
    hook.now += timedelta(hours=1)
    hook.send()
    index = hook.forge()
    hook.send()

    assert hook.looked_at() == ([index], 0)
    with pytest.raises(LedgerCorrupt, match=f"leaf {index}: grade C is not earned"):
        verify(hook.tenant, public_key=None)
    watch(hook.tenant, now=hook.now)
    [finding] = Finding.objects.filter(tenant=hook.tenant, rule="integrity.grade_unearned")
    assert finding.leaves == [index]


def test_after_one_rotation_both_secrets_are_there(hook):
    hook.send()
    hook.now += timedelta(hours=1)
    sealed.seal(hook.tenant, "HOOK", SECOND, now=hook.now)
    hook.now += timedelta(hours=1)
    hook.send(SECOND)

    assert hook.looked_at() == ([], 0)


def test_what_a_secret_signed_that_was_rotated_away_cannot_be_checked_any_more_and_that_is_no_alarm(hook, capsys):
    hook.send()
    for secret in (SECOND, THIRD):
        hook.now += timedelta(hours=1)
        sealed.seal(hook.tenant, "HOOK", secret, now=hook.now)
    hook.now += timedelta(hours=1)
    hook.send(THIRD)

    assert hook.looked_at() == ([], 1)
    call_command("verify_ledger", tenant=hook.tenant.name)
    assert "1 events of grade C cannot be checked any more" in capsys.readouterr().out
    watch(hook.tenant, now=hook.now)
    assert not Finding.objects.filter(tenant=hook.tenant).exists()


def test_where_the_secret_is_not_here_nothing_is_an_alarm(hook):
    hook.send()
    hook.now += timedelta(hours=1)
    hook.send()
    sealed.remove(hook.tenant, "HOOK")

    assert hook.looked_at() == ([], 2)


def test_what_the_environment_holds_says_nothing_of_then(hook, monkeypatch):
    hook.now += timedelta(hours=1)
    hook.send()
    monkeypatch.setenv("HOOK", SECOND.decode())
    hook.send(SECOND)

    assert hook.looked_at() == ([], 1)


def test_a_secret_that_nothing_proves_to_have_been_in_use_accuses_nobody(hook):
    """Sealed under the name while the environment still gave the old one."""
    hook.now += timedelta(hours=1)
    hook.forge()
    hook.send()

    assert hook.looked_at() == ([], 1)


def test_what_was_signed_under_another_name_is_not_earned(hook):
    hook.now += timedelta(hours=1)
    hook.send()
    delivery = hook.delivery(FIRST)
    [made] = named("standard_webhooks").receive(delivery, sender_of(hook.source)).statements.values()
    [appended] = append_statements(
        hook.source,
        [Statement(made.source_event_id + "x", made.raw, made.headers, "C", made.key, made.event)],
        now=hook.now,
    )

    assert hook.looked_at() == ([appended.leaf_index], 0)
