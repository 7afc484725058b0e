"""Names as names: case, dots, IDNA, the suffix list, and what looks like what."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.names import domain


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
