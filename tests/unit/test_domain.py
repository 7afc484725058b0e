"""Names as names: case, dots, IDNA, the suffix list, and what looks like what."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.names import domain
from auditlog.core.names.grace import undo_until


@pytest.mark.parametrize(
    ("name", "registrable"),
    [
        ("Acme.IO.", "acme.io"),
        ("www.acme.co.uk", "acme.co.uk"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("a.b.c.acme.com", "acme.com"),
    ],
)
def test_a_name_is_reduced_to_what_was_registered(name, registrable):
    assert domain.parse(name).registrable == registrable


@pytest.mark.parametrize("name", ["", ".", "a b.com", "-x-.com", "x" * 300, "ex ample", "a..b", "\x00.com"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ValueError):
        domain.parse(name)


@pytest.mark.parametrize(
    ("wanted", "found", "relation"),
    [
        ("superseal.club", "superseal.club", "equal"),
        ("superseal.club", "WWW.SuperSeal.club.", "equal"),
        ("superseal.club", "superseal.cc", "tld_swap"),
        ("super-seal.club", "superseal.cc", "hyphen"),
        ("superseal.club", "superseaI.club", "confusable"),  # a capital I, which is an i once lower-cased
        ("superseal.club", "supersea1.club", "confusable"),
        ("acme.io", "аcme.io", "confusable"),  # Cyrillic a
        ("acme.io", "acme-corp.io", "token_added"),
        ("superseal.club", "superseel.club", "edit"),
        ("acme.io", "weather.club", "unrelated"),
    ],
)
def test_relations_between_what_was_asked_and_what_was_bought(wanted, found, relation):
    assert domain.relation(wanted, found) == relation


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_refused(text):
    with contextlib.suppress(ValueError):
        domain.parse(text)


@given(st.text(max_size=40))
def test_any_label_has_a_skeleton_and_it_is_stable(text):
    assert domain.skeleton(text) == domain.skeleton(text.lower())


@pytest.mark.parametrize(
    ("wanted", "found", "relation"),
    [
        ("acme-corp.io", "acme.io", "token_dropped"),
        ("my-acme-shop.io", "my-shop.io", "token_dropped"),
        ("my-shop.io", "my-acme-shop.io", "token_added"),
    ],
)
def test_words_left_out_are_told_from_words_added(wanted, found, relation):
    assert domain.relation(wanted, found) == relation


AT = datetime(2026, 11, 1, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "days"), [("acme.club", 5), ("acme.cc", 5), ("acme.com.au", None), ("acme.de", None), ("acme.nosuchending", None), ("no name", None)]
)  # fmt: skip
def test_how_long_a_name_can_be_given_back_is_its_registrys_rule_or_not_known(name, days):
    assert undo_until(name, AT) == (None if days is None else AT + timedelta(days=days))
