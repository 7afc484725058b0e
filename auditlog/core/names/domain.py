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
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
# Pairs that fonts make look alike and that Unicode's table, being about single characters, does not hold.
_LOOK = (("rn", "m"), ("vv", "w"), ("cl", "d"), ("0", "o"), ("1", "l"), ("i", "l"), ("5", "s"))


@dataclass(frozen=True, slots=True)
class Name:
    """A registrable name: `label` + `suffix` ("acme", "co.uk"); `ascii` is the whole as given, in A-labels."""

    ascii: str
    label: str  # Unicode form of the registrable label
    suffix: str

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
    parts = _extract(ascii_name)
    label, suffix = parts.domain or parts.suffix, parts.suffix if parts.domain else ""
    if not parts.suffix and "." in ascii_name:
        # The list's own default rule "*": of an ending it does not know, the last label is the suffix.
        *_, label, suffix = ascii_name.split(".")
    return Name(ascii_name, to_unicode(label), suffix)


@lru_cache(maxsize=65_536)
def zone(ascii_name: str) -> str:
    """The name of one holder that this one lies in, both in A-labels: `acme.co.uk` of `www.acme.co.uk` and of itself.
    "" where the ending is not on the public suffix list, and of a public suffix itself.
    """
    parts = _extract_holder(ascii_name)
    return f"{parts.domain}.{parts.suffix}" if parts.domain and parts.suffix else ""


@lru_cache(maxsize=65_536)
def skeleton(label: str) -> str:
    """What a label looks like (UTS 39 section 4, by the confusables table), folded to ASCII shapes."""
    folded = []
    # Marks over and under letters go first: an accent is overlooked as easily as a twin.
    for character in (c for c in unicodedata.normalize("NFKD", label.lower()) if not unicodedata.combining(c)):
        if character.isascii():
            folded.append(character)
            continue
        options = confusables.is_confusable(character, greedy=False, preferred_aliases=[]) or []
        twins = [twin["c"] for option in options for twin in option["homoglyphs"] if twin["c"].isascii()]
        folded.append(min(twins).lower() if twins else character)
    shape = "".join(folded)
    for look, same in _LOOK:
        shape = shape.replace(look, same)
    return shape


def relation(wanted: str, found: str) -> str:
    """How a name that was bought relates to the one that was asked for.

    equal | tld_swap | hyphen | confusable | token_added | edit | unrelated. Raises ValueError for no names.
    """
    want, have = parse(wanted), parse(found)
    if want.registrable == have.registrable:
        return "equal"
    if want.label == have.label:
        return "tld_swap"
    if want.label.replace("-", "") == have.label.replace("-", ""):
        return "hyphen"
    if skeleton(want.label) == skeleton(have.label):
        return "confusable"
    if want.label in have.label or have.label in want.label:
        return "token_added"
    if OSA.distance(want.label, have.label) <= (1 if len(want.label) < 9 else 2):
        return "edit"
    return "unrelated"
