"""Amounts of money: exact, in minor units of their currency; how they are rounded and written, and calendar intervals."""

from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal


def interval_start(at: datetime, interval: str) -> datetime | None:
    """Start of the calendar interval that holds `at`, in `at`'s own zone; None for `once` (no beginning).

    Weeks start on Monday (ISO 8601).
    """
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    match interval:
        case "day":
            return day
        case "week":
            return day.fromordinal(day.toordinal() - day.weekday()).replace(tzinfo=at.tzinfo)
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)
        case "once":
            return None
    raise ValueError(f"unknown interval {interval!r}")


def places_of(currency: str) -> int:
    """Decimals of the currency's minor unit (ISO 4217). Senders that count otherwise are converted by their format."""
    return _PLACES.get(currency.upper(), 2)


def whole(amount: Decimal) -> int | Decimal:
    """As an integer where it is one: exact either way."""
    rounded = int(amount)
    return rounded if rounded == amount else amount.normalize()


def minor(amount: Decimal | int) -> int:
    """To whole minor units, half to even: for what is shown, never for what is added up."""
    return amount if isinstance(amount, int) else int(amount.quantize(Decimal(1), ROUND_HALF_EVEN))


def amount_text(amount: int | Decimal, currency: str) -> str:
    """`12.00 USD`; decimals as ISO 4217 lists them, and more where there is less than a minor unit: `0.004 USD`."""
    places = places_of(currency)
    exact = Decimal(amount).scaleb(-places)
    if exact == exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN):
        return f"{exact:,.{places}f} {currency}"
    return f"{exact.normalize():,f} {currency}"


_PLACES = (
    dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0)
    | dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3)
    | dict.fromkeys(["CLF", "UYW"], 4)
)


# ISO 4217, the codes in use. What is none is the name of a token, a point or a unit.
CURRENCIES = frozenset(
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY COP "
    "CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD "
    "IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR "
    "MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP "
    "SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF XPF "
    "YER ZAR ZMW ZWG".split()
)
