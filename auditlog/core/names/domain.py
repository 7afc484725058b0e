"""Domain names as names: case, trailing dot, IDNA and the public suffix list, never as strings.

The suffix list is the snapshot bundled with tldextract: the network is never asked.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import idna
import tldextract
from confusable_homoglyphs import confusables
from rapidfuzz.distance import OSA

_extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=False)
# With names under which anybody may have one of his own (`github.io`): for who holds what, not for what can be bought.
_extract_holder = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)
SUFFIX_LIST = f"bundled with tldextract {version('tldextract')}"  # what findings say that they rest on
_DOTS = re.compile("[.\u3002\uff0e\uff61]")  # all that UTS 46 takes for a full stop
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
# Pairs that fonts make look alike and that Unicode's table, being about single characters, does not hold.
_LOOK = (("rn", "m"), ("vv", "w"), ("cl", "d"), ("0", "o"), ("1", "l"), ("i", "l"), ("5", "s"))


@dataclass(frozen=True, slots=True)
class Name:
    """A registrable name: `label` + `suffix` ("acme", "co.uk"); `ascii` is the whole as given, in A-labels."""

    ascii: str
    label: str  # Unicode form of the registrable label
    suffix: str
    given: str = ""  # the label as it was written, where mapping (UTS 46) changed more than its case

    @property
    def registrable(self) -> str:
        return f"{to_ascii(self.label)}.{self.suffix}" if self.suffix else to_ascii(self.label)


def to_ascii(name: str) -> str:
    """Lower-case A-label form without a trailing dot (UTS 46, IDNA 2008). Raises ValueError."""
    name = name.strip().rstrip(".").lower()
    if not name or len(name) > 253:
        raise ValueError(f"a domain name has 1 to 253 characters, found {len(name)}")
    if name.isascii():
        labels = name.split(".")
        if not all(_LABEL.match(label) for label in labels):
            raise ValueError(f"not a domain name: {name[:80]!r}")
        return name
    try:
        return idna.encode(name, uts46=True, transitional=False).decode()
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError(f"not a domain name: {name[:80]!r} ({error})") from None


def to_unicode(ascii_name: str) -> str:
    try:
        return idna.decode(ascii_name) if "xn--" in ascii_name else ascii_name
    except (idna.IDNAError, UnicodeError):
        return ascii_name


@lru_cache(maxsize=65_536)
def parse(name: str) -> Name:
    """Raises ValueError when it is no domain name. A bare label ("acme") has an empty suffix."""
    ascii_name = to_ascii(name)
    labels = ascii_name.split(".")
    size = _suffix_size(labels)
    if size < len(labels):
        label, suffix = labels[-1 - size], ".".join(labels[len(labels) - size :])
    else:
        label, suffix = ascii_name, ""
    given = ""
    if not name.isascii():
        *_, given = (
            "",
            *[part for part in _DOTS.split(name.strip().lower()) if part][: -1 - suffix.count(".") if suffix else None],
        )
    return Name(ascii_name, to_unicode(label), suffix, "" if given == to_unicode(label) else given)


def _suffix_size(labels: list[str]) -> int:
    """How many labels at the end are a public suffix (publicsuffix.org/list). Of an ending that the list does not know
    the last label is one, by its default rule "*"; a name of one label has none.
    """
    rules = _rules()
    for start in range(len(labels)):
        rest = ".".join(labels[start:])
        if f"!{rest}" in rules:
            return len(labels) - start - 1
        if rest in rules or (start + 1 < len(labels) and f"*.{'.'.join(labels[start + 1 :])}" in rules):
            return len(labels) - start
    return min(1, len(labels) - 1)


@lru_cache(maxsize=1)
def _rules() -> frozenset[str]:
    """The list's rules of registries, in A-labels."""
    found = set()
    for rule in _extract.tlds:
        mark = rule[: len(rule) - len(rule.lstrip("!*."))]
        try:
            found.add(mark + to_ascii(rule[len(mark) :]))
        except ValueError:
            continue
    return frozenset(found)


@lru_cache(maxsize=65_536)
def zone(ascii_name: str) -> str:
    """The name of one holder that this one lies in, both in A-labels: `acme.co.uk` of `www.acme.co.uk` and of itself.
    "" where the ending is not on the public suffix list, and of a public suffix itself.
    """
    parts = _extract_holder(ascii_name)
    return f"{parts.domain}.{parts.suffix}" if parts.domain and parts.suffix else ""


@lru_cache(maxsize=65_536)
def _twin(character: str) -> str:
    """The ASCII letter that a character looks like, itself or in its other case: a registry keeps the lower one."""
    if character.isascii():
        return character
    for form in (character, character.upper(), character.lower()):
        options = confusables.is_confusable(form, greedy=False, preferred_aliases=[]) or []
        twins: list[str] = [twin["c"] for option in options for twin in option["homoglyphs"] if twin["c"].isascii()]
        if twins:
            return str(min(twins)).lower()
    return character


def _ascii_shape(label: str) -> str:
    folded = "".join(_twin(character) for character in unicodedata.normalize("NFC", label))
    # Marks over and under letters go, too: an accent is overlooked as easily as a twin.
    plain = (c for c in unicodedata.normalize("NFKD", folded.lower()) if not unicodedata.combining(c))
    return "".join(map(_twin, plain)).lower()


@lru_cache(maxsize=65_536)
def skeleton(label: str) -> str:
    """What a label looks like (UTS 39 section 4, by the confusables table), folded to ASCII shapes."""
    shape = label.lower() if label.isascii() else _ascii_shape(label)
    for look, same in _LOOK:
        shape = shape.replace(look, same)
    return shape


def look(shape: str) -> str:
    """A skeleton folded once more, so that "oracie" is "oracle" too: tells the very look of a whole, nothing is counted
    by it.
    """
    for pair, same in _LOOK:
        shape = shape.replace(pair, same)
    return shape


def relation(wanted: str, found: str) -> str:
    """How a name that was bought relates to the one that was asked for.

    equal | tld_swap | hyphen | confusable | token_added | token_dropped | edit | unrelated. Raises ValueError for no
    names.
    """
    want, have = parse(wanted), parse(found)
    if want.registrable == have.registrable:
        return "equal"
    if want.label == have.label:
        return "tld_swap"
    if want.label.replace("-", "") == have.label.replace("-", ""):
        return "hyphen"
    if look(skeleton(want.label)) in (look(skeleton(have.label)), look(skeleton(have.given))):
        return "confusable"
    asked, bought = set(want.label.split("-")), set(have.label.split("-"))
    if want.label in have.label or asked < bought:
        return "token_added"
    if have.label in want.label or bought < asked:
        return "token_dropped"
    if OSA.distance(want.label, have.label) <= (1 if len(want.label) < 9 else 2):
        return "edit"
    return "unrelated"
