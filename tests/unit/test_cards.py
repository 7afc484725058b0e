"""The card guard: numbers of cards at their issuers' own lengths, and nothing that only looks like one."""

import json

import pytest

from auditlog.core.errors import MalformedEvent
from auditlog.core.wire.cards import is_card_number, refuse_card_numbers


def with_check_digit(digits):
    total = sum(d * 2 - 9 * (d > 4) if place % 2 == 0 else d for place, d in enumerate(map(int, reversed(digits))))
    return digits + str(-total % 10)


@pytest.mark.parametrize(
    ("prefix", "length"),
    [("4", 13), ("4", 16), ("4", 19), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("34", 15), ("37", 15), ("300", 14), ("36", 14), ("38", 16), ("36", 19),
     ("3528", 16), ("3589", 19), ("2131", 15), ("1800", 15), ("6011", 16), ("65", 19), ("62", 16), ("62", 19), ("5018", 12 + 1), ("6759", 16), ("6304", 19), ("9792", 16), ("2200", 16),
     ("81", 16)],
)  # fmt: skip
def test_every_issuers_number_at_its_own_length_is_one(prefix, length):
    assert is_card_number(with_check_digit(prefix.ljust(length - 1, "7")))


@pytest.mark.parametrize(
    "reporting_body", ["01", "10", "30", "33", "35", "44", "45", "49", "51", "52", "53", "54", "86", "91", "98", "99"]
)
def test_no_number_of_a_device_is_taken_for_a_card(reporting_body):
    """An IMEI has 15 digits, the last by Luhn (3GPP TS 23.003); its first two name who gave it."""
    assert not is_card_number(with_check_digit(reporting_body.ljust(14, "4")))


@pytest.mark.parametrize(
    ("prefix", "length"),
    [
        ("4", 14),
        ("4", 15),
        ("51", 15),
        ("51", 17),
        ("34", 16),
        ("37", 14),
        ("300", 15),
        ("35", 15),
        ("9792", 15),
        ("2", 13),
        ("17", 13),
    ],
)
def test_an_issuers_prefix_at_another_length_is_no_card(prefix, length):
    assert not is_card_number(with_check_digit(prefix.ljust(length - 1, "7")))


@pytest.mark.parametrize("name", ["imei", "IMEI", "imei_sv", "iccid", "meid", "serial_number"])
def test_a_field_of_a_device_number_holds_none(name):
    document = json.dumps({"device": {name: "5018000000000009"}}).encode()

    refuse_card_numbers(document)
    with pytest.raises(MalformedEvent):
        refuse_card_numbers(document.replace(f'"{name}"'.encode(), b'"note"'))


PARCEL, ORDER, GOODS, PHONE = "612999984720303", "303-1234567-1234564", "4006381300063", "4915112345678"


@pytest.mark.parametrize(("name", "number"), [
    ("tracking_number", PARCEL), ("carrierTrackingNumber", PARCEL), ("order_number", ORDER), ("orderNumber", ORDER), ("merchant_order_number", ORDER), ("ean", GOODS),
    ("gtin", GOODS), ("barcode", GOODS), ("upc", GOODS), ("phone", PHONE), ("phone_number", PHONE), ("msisdn", PHONE), ("mobile", PHONE),
])  # fmt: skip
def test_numbers_of_parcels_orders_goods_and_telephones_are_no_cards(name, number):
    assert is_card_number(number)  # by its digits alone it could be one

    refuse_card_numbers(json.dumps({"a": [{name: number}]}).encode())
    with pytest.raises(MalformedEvent):
        refuse_card_numbers(json.dumps({"a": [{"note": number}]}).encode())


@pytest.mark.parametrize("name", ["tracking_note", "order", "goods", "phone_card_number", "number", "track"])
def test_a_name_that_only_resembles_theirs_hides_no_card(name):
    with pytest.raises(MalformedEvent):
        refuse_card_numbers(json.dumps({name: "4242424242424242"}).encode())


@pytest.mark.parametrize("name", ["card", "credit_card", "cardNo", "number"])
def test_a_card_as_a_number_is_found_under_a_cards_names(name):
    with pytest.raises(MalformedEvent):
        refuse_card_numbers(json.dumps({name: 4242424242424242}).encode())
