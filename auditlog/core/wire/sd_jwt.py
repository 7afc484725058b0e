"""SD-JWT (RFC 9901) and chains of them: each hop is signed by the key that the hop before it names in `cnf`, and holds
the hash of that hop, so that nothing can be put in between or taken out.

A chain is written oldest first, its tokens joined by `~~` (as AP2 v0.2 does, after the Delegate SD-JWT draft). The
first token is checked under a configured key. Every disclosure must be referenced, and each digest once.
"""

from collections.abc import Mapping
from hashlib import sha256, sha384, sha512
from itertools import pairwise
from typing import Any, NamedTuple

import orjson
from msgspec import Struct

from auditlog.core.errors import BadSignature, ConfigurationError, MalformedEvent, UnknownKey
from auditlog.core.wire.jws import Jws, b64url_bytes, check_jws, key_of, open_jws
from auditlog.core.wire.keys import Key, b64url, load, public_jwk

MAX_CHAIN = 128 * 1024
MAX_HOPS = 10
MAX_DISCLOSURES = 200
TERMINAL = ("kb+sd-jwt", "kb-sd-jwt")
INTERMEDIATE = ("kb+sd-jwt+kb", "kb-sd-jwt+kb")
_HASHES = {"sha-256": sha256, "sha-384": sha384, "sha-512": sha512}
_ITEMS = "delegate_payload"


class Token(Struct, frozen=True):
    """One SD-JWT, opened. `claims` have their disclosures put back; `contents` is what it delegates or says."""

    compact: str  # with its disclosures, and a `~` at the end
    jws: Jws
    claims: dict[str, Any]
    contents: tuple[dict[str, Any], ...]

    @property
    def hash_name(self) -> str:
        return self.claims.get("_sd_alg", "sha-256")

    @property
    def sd_hash(self) -> str:
        """RFC 9901 section 4.3.1: over the token with the disclosures that are shown."""
        return hashed(self.compact, self.hash_name)

    @property
    def next_jwk(self) -> dict[str, Any] | None:
        """The key that may sign the next hop."""
        for holder in (*self.contents, self.claims):
            cnf = holder.get("cnf")
            if isinstance(cnf, dict) and isinstance(cnf.get("jwk"), dict):
                return cnf["jwk"]
        return None


def open_chain(chain: str) -> tuple[Token, ...]:
    """The tokens, oldest first; read, not verified. Raises MalformedEvent."""
    if len(chain) > MAX_CHAIN:
        raise MalformedEvent(f"a chain of SD-JWTs has at most {MAX_CHAIN:,} characters, found {len(chain):,}")
    parts = chain.strip().split("~~")
    if len(parts) > MAX_HOPS:
        raise MalformedEvent(f"a chain has at most {MAX_HOPS} hops, found {len(parts)}")
    return tuple(_opened(part) for part in parts)


def check_chain(tokens: tuple[Token, ...], keys: Mapping[str, Key]) -> Key:
    """Verify every hop. Returns the configured key of the first. Raises BadSignature, UnknownKey or MalformedEvent."""
    root = check_jws(tokens[0].jws, key_of(tokens[0].jws, keys))
    for before, token in pairwise(tokens):
        jwk = before.next_jwk
        if jwk is None:
            raise BadSignature("a hop follows a token that names no key for it (cnf.jwk)")
        try:
            key = load(public_jwk({name: value for name, value in jwk.items() if name != "key_ops"}), "cnf")
        except ConfigurationError as error:
            raise UnknownKey(f"the key in cnf cannot be used: {error}") from None
        check_jws(token.jws, key)
        _check_binding(token, before)
        typ = token.jws.header.get("typ")
        if typ not in TERMINAL + INTERMEDIATE:
            raise MalformedEvent(f"expected typ kb+sd-jwt or kb+sd-jwt+kb of a hop, found {str(typ)[:40]!r}")
        if (typ in INTERMEDIATE) != (token.next_jwk is not None):
            raise MalformedEvent(f"a hop of typ {typ} {'needs' if typ in INTERMEDIATE else 'may not have'} a cnf")
    return root


def hashed(text: str, name: str = "sha-256") -> str:
    digest = _HASHES.get(name)
    if digest is None:
        raise MalformedEvent(f"expected _sd_alg {', '.join(_HASHES)}, found {str(name)[:40]!r}")
    return b64url(digest(text.encode()).digest())


def _check_binding(token: Token, before: Token) -> None:
    """Exactly one of `sd_hash` and `issuer_jwt_hash` (which leaves room to hide disclosures) ties it to `before`."""
    given = {name: token.claims[name] for name in ("sd_hash", "issuer_jwt_hash") if name in token.claims}
    if len(given) != 1:
        raise MalformedEvent(f"expected one of sd_hash and issuer_jwt_hash in a hop, found {len(given)}")
    wanted = before.sd_hash if "sd_hash" in given else hashed(before.compact.partition("~")[0], before.hash_name)
    if wanted not in given.values():
        raise BadSignature("a hop is not bound to the token before it: its hash is another's")


def _opened(part: str) -> Token:
    compact = part.strip("~")
    jwt, *disclosures = compact.split("~")
    if len(disclosures) > MAX_DISCLOSURES:
        raise MalformedEvent(f"a token has at most {MAX_DISCLOSURES} disclosures, found {len(disclosures)}")
    jws = open_jws(jwt)
    name = jws.claims.get("_sd_alg", "sha-256")
    if not isinstance(name, str):
        raise MalformedEvent("_sd_alg is no string")
    shown = {hashed(disclosure, name): _disclosure(disclosure) for disclosure in disclosures}
    used: set[str] = set()
    claims = jws.claims if _is_plain(jws.payload) else _resolved(jws.claims, shown, used, 0)
    items = claims.get(_ITEMS)
    if isinstance(items, list):
        # Some wallets put bare digests there.
        claims[_ITEMS] = items = [_bare(item, shown, used) for item in items]
    if unused := len(shown) - len(used):
        raise MalformedEvent(f"{unused} disclosures belong to no digest in the token")
    contents = tuple(item for item in items if isinstance(item, dict)) if isinstance(items, list) else (claims,)
    return Token(compact + "~", jws, claims, contents)


class Shown(NamedTuple):
    """A disclosure: [salt, value] or [salt, name, value]. Of a plain one nothing is to be put back."""

    parts: list[Any]
    is_plain: bool

    def value(self, shown: "dict[str, Shown]", used: set[str], depth: int) -> Any:
        return self.parts[-1] if self.is_plain else _resolved(self.parts[-1], shown, used, depth)


def _disclosure(disclosure: str) -> Shown:
    document = b64url_bytes(disclosure)
    try:
        value = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise MalformedEvent("a disclosure is not JSON") from None
    if not isinstance(value, list) or len(value) not in (2, 3) or (len(value) == 3 and not isinstance(value[1], str)):
        raise MalformedEvent("a disclosure is [salt, value] or [salt, name, value]")
    return Shown(value, _is_plain(document))


def _resolved(value: Any, shown: dict[str, Shown], used: set[str], depth: int) -> Any:
    if depth > 64:
        raise MalformedEvent("claims are nested deeper than 64")
    if isinstance(value, dict):
        made = {
            name: _resolved(inner, shown, used, depth + 1) if type(inner) is dict or type(inner) is list else inner
            for name, inner in value.items() if name != "_sd"
        }  # fmt: skip
        digests = value.get("_sd", [])
        for digest in digests if isinstance(digests, list) else []:
            if (found := _taken(digest, shown, used)) is not None:
                if len(found.parts) != 3 or found.parts[1] in made or found.parts[1] in ("_sd", "..."):
                    raise MalformedEvent("a disclosure gives a name that is there already, or none")
                made[found.parts[1]] = found.value(shown, used, depth + 1)
        return made
    if isinstance(value, list):
        made_list = []
        for item in value:
            if isinstance(item, dict) and set(item) == {"..."}:
                if (found := _taken(item["..."], shown, used)) is not None:
                    if len(found.parts) != 2:
                        raise MalformedEvent("a disclosure of an array element has no name")
                    made_list.append(found.value(shown, used, depth + 1))
                continue  # what is not disclosed stays hidden
            made_list.append(_resolved(item, shown, used, depth + 1))
        return made_list
    return value


def _is_plain(payload: bytes) -> bool:
    """Whether nothing in it can stand for something disclosed, nor be nested too deep: then it is as it is written."""
    return (
        not (b"_sd" in payload or b"..." in payload or b"\\" in payload)
        and payload.count(b"{") + payload.count(b"[") <= 64
    )


def _bare(item: Any, shown: dict[str, Shown], used: set[str]) -> Any:
    if isinstance(item, str) and (found := _taken(item, shown, used)) is not None:
        return found.value(shown, used, 1)
    return item


def _taken(digest: Any, shown: dict[str, Shown], used: set[str]) -> Shown | None:
    if not isinstance(digest, str) or digest not in shown:
        return None
    if digest in used:
        raise MalformedEvent("a digest appears twice")
    used.add(digest)
    return shown[digest]
