"""Look-alikes: what stands close to a brand, what only seems to, and a pipe of names through `score_domains`."""

import contextlib
import io
import json
import string
import sys
from pathlib import Path

import pytest
from confusable_homoglyphs import confusables
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.names import domain
from auditlog.core.names.background import Background, bundled
from auditlog.core.names.lookalike import Index, mark_of, popular_brands

BRANDS = ("contoso.com", "Bank of Utopia", "fabrikam", "st. brandon", "wingtip & sons", "zava", "mühlbach.de")
INDEX = Index(BRANDS, bundled())


def said(name, index=INDEX):
    found = index.nearest(name)
    return (found.mark.line, found.relation, found.tier) if found else None


@pytest.mark.parametrize(
    ("name", "brand", "relation"),
    [
        ("contoso.net", "contoso.com", "tld_swap"),
        ("www.CONTOSO.co.uk.", "contoso.com", "tld_swap"),
        ("con-toso.com", "contoso.com", "tld_swap"),
        ("c0ntoso.com", "contoso.com", "confusable"),
        ("соntoso.com", "contoso.com", "confusable"),
        ("contoso-login.top", "contoso.com", "prefix"),
        ("my-contoso.top", "contoso.com", "suffix"),
        ("getcontosonow.com", "contoso.com", "inner"),
        ("cnotoso.com", "contoso.com", "typo"),
        ("secure-contosso-mail.com", "contoso.com", "typo"),
        ("mycontosostore.shop", "contoso.com", "inner"),
        ("fabrikkam.com", "fabrikam", "typo"),
        ("bank-of-utopia.info", "Bank of Utopia", "tld_swap"),
        ("bankutopia-mail.com", "Bank of Utopia", "dropped_word"),
        ("wingtipandsons.com", "wingtip & sons", "tld_swap"),
        ("muhlbach.com", "mühlbach.de", "confusable"),
    ],
)
def test_a_name_is_put_beside_its_brand_with_how(name, brand, relation):
    found = said(name)
    assert found is not None and found[0] == brand and found[2] == "alert"
    assert found[1] == relation or {found[1], relation} <= {"prefix", "suffix", "inner", "token"}


@pytest.mark.parametrize("name", ["weather.com", "bakery-online.de", "lavazza.it", "banker.com", "tipandson.com"])
def test_ordinary_names_are_near_nothing(name):
    found = INDEX.nearest(name)
    assert found is None or found.tier == "none"


@pytest.mark.parametrize("name", ["utopia-hotel.gr", "brandonwalsh.name"])
def test_one_word_of_a_longer_mark_is_worth_a_look_and_no_alarm(name):
    assert said(name)[1:] == ("dropped_word", "review")


def test_a_brands_own_domain_is_itself_and_no_alert():
    assert said("shop.contoso.com") == ("contoso.com", "equal", "none")


def test_common_words_price_themselves_out_until_the_whole_look_is_copied():
    index = Index(["line", "service", "apple"], bundled())
    assert all(
        (found := said(name, index)) is None or found[2] == "none"
        for name in ("online-shop.com", "servicedesk.io", "airline-food.net")
    )
    assert said("line.top", index)[2] == "alert" and said("1ine.top", index)[2] == "alert"


def test_every_swap_of_the_ending_and_every_look_of_a_popular_brand_is_an_alert():
    index = Index(popular_brands(), bundled())
    twins = {"o": "о", "a": "а", "e": "е", "c": "с", "p": "р", "i": "і", "x": "х", "y": "у"}
    for line in popular_brands():
        label = domain.parse(line).label
        for ending in ("zip", "shop", "com.br"):
            found = index.nearest(f"{label}.{ending}")
            assert found.relation == "equal" or found.tier == "alert", (line, ending)
        for letter in set(label) & twins.keys():
            try:
                found = index.nearest(f"{label.replace(letter, twins[letter], 1)}.com")
            except ValueError:
                continue
            assert found is not None and found.tier == "alert", (line, letter)


@pytest.mark.parametrize("brand", ["contoso", "oracle", "fabrikam"])
def test_every_letter_that_unicode_calls_confusable_is_seen_also_where_only_its_capital_is(brand):
    table = json.loads((Path(confusables.__file__).parent / "confusables.json").read_text())
    index = Index([brand], bundled())
    names = [brand.replace(a, twin["c"], 1) for a in set(brand) for twin in table.get(a, []) if len(twin["c"]) == 1]
    asked = 0
    for name in names:
        try:
            found = index.nearest(f"{name}.com")
        except ValueError:
            continue  # no registry has it
        asked += 1
        assert found is not None and found.tier == "alert", (name, hex(ord(max(name))))
    assert asked > 50


@pytest.mark.parametrize(
    ("brand", "apart", "grown"),
    [
        ("revolut", "revolut-login.com", "revolutionfries.com"),
        ("ebay", "ebay-refunds.com", "rockinthebay.com"),
        ("audi", "audi-leasing.com", "audiobooktreasures.com"),
    ],
)
def test_letters_of_another_word_that_go_on_into_the_mark_are_no_mark(brand, apart, grown):
    index = Index([brand], bundled())
    assert said(apart, index)[2] == "alert"
    assert said(grown, index) is None or said(grown, index)[2] == "none"


def test_a_letter_wrong_in_a_mark_without_its_small_words_is_seen():
    assert said("windtip-sons.net", Index(["wingtip & sons"], bundled()))[1:] == ("typo", "alert")


def test_among_very_many_brands_a_likeness_has_to_be_more_surprising():
    others = [f"{a}{b}qx{c}" for a in string.ascii_lowercase for b in string.ascii_lowercase for c in "abc"]
    few, many = Index(["audi"], bundled()), Index(["audi", *others], bundled())
    assert said("audi-leasing.com", few)[2] == "alert" and said("audi-leasing.com", many)[2] != "alert"
    assert said("audi.io", many)[2] == "alert"


def test_an_ending_is_read_by_the_rules_of_the_public_suffix_list():
    said = {name: (domain.parse(name).label, domain.parse(name).suffix) for name in
            ("a.co.uk", "www.ck", "b.foo.ck", "x.city.kawasaki.jp", "a.b.kawasaki.jp", "a.nosuchending", "acme", "x.公司.cn")}  # fmt: skip
    assert list(said.values()) == [
        ("a", "co.uk"), ("www", "ck"), ("b", "foo.ck"), ("city", "kawasaki.jp"), ("a", "b.kawasaki.jp"), ("a", "nosuchending"),
        ("acme", ""), ("x", "xn--55qx5d.cn"),
    ]  # fmt: skip


@given(st.text(max_size=80))
def test_no_text_breaks_the_index_or_a_brand_list(text):
    index = Index([text, "contoso.com"], bundled())
    with contextlib.suppress(ValueError):
        index.nearest(text)
    assert mark_of(text) is None or mark_of(text).shape


@given(
    st.lists(st.sampled_from(["alpha", "beta", "shop", "login", "contoso", "my", "x1"]), min_size=1, max_size=4),
    st.randoms(),
)
def test_the_nearest_brand_does_not_depend_on_the_order_of_brands(words, random):
    shuffled = list(BRANDS)
    random.shuffle(shuffled)
    name = "-".join(words) + ".top"
    assert said(name, Index(shuffled, bundled())) == said(name)
    assert Index(shuffled, bundled()).version == INDEX.version


def test_a_table_of_names_says_what_is_common_and_is_read_back_as_it_was_written():
    table = Background.of(["shopeasy", "shopnow", "myshop", "zebra"] * 30, "t")
    assert table.surprise("shop") < table.surprise("zebra") < table.surprise("quokka")
    again = Background.read(table.written("made up"))
    assert again.surprise("shop") == table.surprise("shop") and again.names == table.names
    with pytest.raises(ValueError, match="begins with its version"):
        Background.read("shop\t3\n")


# --- score_domains --------------------------------------------------------------------------------------------------


def scored(monkeypatch, capsysbinary, lines, *args):
    class Pipe:
        buffer = io.BytesIO(lines)

    monkeypatch.setattr(sys, "stdin", Pipe)
    call_command("score_domains", *args)
    return [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]


def test_every_line_has_its_answer_in_order_also_what_is_no_name(tmp_path, monkeypatch, capsysbinary):
    (tmp_path / "brands").write_text("contoso.com\n\nFabrikam\n")
    lines = (
        b"contoso.net\r\n\nnot a name\n\xff\xfe.com\nplain.example\n"
        + b"x" * 9_000
        + b"\nCONTOSO.com\nlast-fabrikam.shop"
    )
    rows = scored(monkeypatch, capsysbinary, lines, "--brands", str(tmp_path / "brands"))

    assert [row["name"] for row in rows][:3] == ["contoso.net", "", "not a name"] and len(rows) == 8
    assert [row["tier"] for row in rows] == ["alert", "none", "none", "none", "none", "none", "none", "alert"]
    assert [row["brand"] for row in rows] == ["contoso.com", None, None, None, None, None, "contoso.com", "Fabrikam"]
    assert all({"name", "brand", "relation", "score", "tier"} <= row.keys() for row in rows)
    assert "error" in rows[1] and "error" in rows[2] and "error" not in rows[4]


def test_without_a_file_the_popular_names_are_the_brands_and_a_file_takes_their_place(
    tmp_path, monkeypatch, capsysbinary
):
    assert scored(monkeypatch, capsysbinary, b"paypa1.com\n")[0]["brand"] == "paypal.com"
    (tmp_path / "brands").write_text("contoso\n")
    assert scored(monkeypatch, capsysbinary, b"paypa1.com\n", "--brands", str(tmp_path / "brands"))[0]["brand"] is None


@pytest.mark.parametrize(
    ("content", "wanted"), [(None, "cannot be read"), (b"", "holds no brand"), (b"\xff\xfe\x00", "cannot be read")]
)
def test_a_brands_file_that_is_none_is_said(tmp_path, content, wanted):
    path = tmp_path / "brands"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CommandError, match=wanted):
        call_command("score_domains", "--brands", str(path))
