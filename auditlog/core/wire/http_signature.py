"""HTTP Message Signatures (RFC 9421) and Content-Digest (RFC 9530): what was signed, rebuilt from the request.

The request line goes by the pseudo-header names of RFC 9113 (`:method`, `:scheme`, `:authority`, `:path`) beside the
lower-case header names. The signature's parameters are taken as they were sent and never written anew, so the base is
the signer's own. Checked against Web Bot Auth's published vectors (Ed25519, RSA-PSS).
"""

import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256, sha512
from urllib.parse import unquote

from auditlog.core.errors import BadSignature, UnknownKid, WrongAlgorithm
from auditlog.core.wire.keys import Key

MAX_HEADER = 8192
MAX_SIGNATURES = 10
# Names of RFC 9421 section 3.3, and the JWS names under which a Key keeps its checks.
ALGORITHMS = {
    "ed25519": "EdDSA",
    "ecdsa-p256-sha256": "ES256",
    "rsa-pss-sha512": "PS512",
    "rsa-v1_5-sha256": "RS256",
}
_NAME = r"[a-z*][a-z0-9_.*-]*"
_STRING = r'"(?:[^"\\]|\\.)*"'
_MEMBER = re.compile(rf"({_NAME})=(\((?:[^()\"]|{_STRING})*\)(?:[^,\"]|{_STRING})*)(?:,|\Z)")
_SIGNATURE = re.compile(rf"({_NAME})=:([A-Za-z0-9+/=]*):\s*(?:,|\Z)")
_COMPONENT = re.compile(rf"({_STRING})((?:;{_NAME}(?:=(?:{_STRING}|[^\s;\"()]+))?)*)(?:\s+|\Z)")
_PARAMETER = re.compile(rf";\s*({_NAME})(?:=({_STRING}|[^\s;,\"()]+))?", re.IGNORECASE)
# A member may have parameters (RFC 8941 section 3.1.2); RFC 9530 defines none.
_DIGEST = re.compile(rf"\s*(sha-256|sha-512)=:([A-Za-z0-9+/=]*):(?:\s*;\s*{_NAME}(?:=(?:{_STRING}|[^\s;,\"]+))?)*\s*\Z")
_JOINED = re.compile(r",(?! )")
MAX_JOINS = 4  # commas of which each may be where two lines were joined: twice as many signatures to try for each
_HASHES = {"sha-256": sha256, "sha-512": sha512}


@dataclass(frozen=True, slots=True)
class Signed:
    """One signature of a message. `components` are identifiers as sent, `"content-digest"` with its quotes."""

    label: str
    components: tuple[str, ...]
    parameters: Mapping[str, str]
    signature_params: str
    signature: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The two headers with this signature alone."""
        made = b64encode(self.signature).decode()
        return {"signature-input": f"{self.label}={self.signature_params}", "signature": f"{self.label}=:{made}:"}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(component.split('"')[1] for component in self.components)


def signatures(headers: Mapping[str, str]) -> list[Signed]:
    """The message's signatures. Raises BadSignature when the two headers cannot be read."""
    given, values = headers.get("signature-input", ""), headers.get("signature", "")
    if not given or not values:
        raise BadSignature("expected the headers Signature-Input and Signature (RFC 9421)")
    if len(given) > MAX_HEADER or len(values) > MAX_HEADER:
        raise BadSignature(f"Signature-Input and Signature have at most {MAX_HEADER:,} characters")
    made = {match[1]: match[2] for match in _members(_SIGNATURE, values, "Signature")}
    found = []
    for match in _members(_MEMBER, given, "Signature-Input"):
        label, params = match[1], match[2].strip()
        if label not in made:
            continue
        inner, _, rest = params[1:].partition(")")
        components = tuple(f"{c[1]}{c[2]}" for c in _components(inner))
        # Keys are lower case (RFC 8941 section 3.1.2), and some write `keyId`: what was signed is kept as it was sent.
        parameters = {p[1].lower(): (p[2] or "?1").strip('"') for p in _PARAMETER.finditer(rest)}
        try:
            found.append(Signed(label, components, parameters, params, b64decode(made[label], validate=True)))
        except (Error, ValueError):
            raise BadSignature(f"signature {label!r} is not base64") from None
    if not found:
        raise BadSignature("no label of Signature-Input is in Signature")
    if len(found) > MAX_SIGNATURES:
        raise BadSignature(f"a request has at most {MAX_SIGNATURES} signatures")
    return found


def signature_base(signed: Signed, headers: Mapping[str, str]) -> bytes:
    """RFC 9421 section 2.5. Raises BadSignature for a component that the request does not have or we do not know."""
    if len(set(signed.components)) != len(signed.components):
        raise BadSignature("a component is signed twice")
    lines = [f"{component}: {_value(component, headers)}" for component in signed.components]
    lines.append(f'"@signature-params": {signed.signature_params}')
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def check_signature(signed: Signed, headers: Mapping[str, str], keys: Mapping[str, Key]) -> Key:
    """The key that made it: named by `keyid`, as the key's id or its thumbprint (RFC 7638). Raises when none fits."""
    keyid = signed.parameters.get("keyid", "")
    key = keys.get(keyid) or next((key for key in keys.values() if key.thumbprint == keyid), None)
    if key is None:
        raise UnknownKid(f"key {keyid[:80]!r} is not one of this source's keys")
    stated = signed.parameters.get("alg")
    if stated is not None and stated not in ALGORITHMS:
        raise WrongAlgorithm(f"expected alg {', '.join(ALGORITHMS)}, found {stated[:40]!r}", key=key.thumbprint)
    algorithm = ALGORITHMS[stated] if stated else next(iter(key.checks))
    check = key.check_for(algorithm)
    try:
        check(signature_base(signed, headers), signed.signature)
    except BadSignature as refused:
        refused.key = key.thumbprint
        raise
    return key


def as_several_lines(signed: Signed, headers: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The headers as they would be, had signed fields come on several lines.

    Such lines are signed joined by a comma and one space (RFC 9421 section 2.1), and a WSGI server hands them on joined
    by a comma alone (PEP 3333 does not say how), where they look like one line with such a comma in it. So each comma
    may be either; nothing but a blank after a comma is ever changed, and the signer signed whatever fits.
    """
    commas = [(name, match.start()) for name in sorted(signed.names) if not name.startswith("@")
              for match in _JOINED.finditer(headers.get(name, ""))]  # fmt: skip
    if not commas:
        return
    every = range(1, 2 ** len(commas)) if len(commas) <= MAX_JOINS else [0]
    for chosen in sorted(every, reverse=True):  # all of them first
        joined = dict(headers)
        for number, (name, at) in reversed(list(enumerate(commas))):
            if chosen >> number & 1 or len(commas) > MAX_JOINS:
                joined[name] = f"{joined[name][: at + 1]} {joined[name][at + 1 :]}"
        yield joined


def check_content_digest(body: bytes, header: str) -> None:
    """RFC 9530: every digest that we know must fit, and one must be of a kind we know."""
    known = 0
    for entry in header.split(",")[:5]:
        match = _DIGEST.match(entry)
        if match is None:
            continue
        known += 1
        try:
            given = b64decode(match[2], validate=True)
        except (Error, ValueError):
            raise BadSignature("Content-Digest is not base64") from None
        if not hmac.compare_digest(given, _HASHES[match[1]](body).digest()):
            raise BadSignature(f"the {match[1]} of the received body is not the one in Content-Digest")
    if not known:
        raise BadSignature("expected Content-Digest with sha-256 or sha-512 (RFC 9530)")


def _members(pattern: re.Pattern[str], header: str, name: str) -> Iterator[re.Match[str]]:
    at = 0
    header = header.strip()
    while at < len(header):
        match = pattern.match(header, at)
        if match is None:
            raise BadSignature(f"{name} is not a dictionary of RFC 8941: unreadable at character {at}")
        yield match
        at = match.end()
        while at < len(header) and header[at] in " \t":
            at += 1


def _components(inner: str) -> Iterator[re.Match[str]]:
    at = 0
    inner = inner.strip()
    while at < len(inner):
        match = _COMPONENT.match(inner, at)
        if match is None:
            raise BadSignature(f"Signature-Input names a component that we cannot read: {inner[at : at + 40]!r}")
        yield match
        at = match.end()


def _value(component: str, headers: Mapping[str, str]) -> str:
    name = component.split('"')[1]
    parameters = {p[1]: (p[2] or "?1").strip('"') for p in _PARAMETER.finditer(component[len(name) + 2 :])}
    if name.startswith("@"):
        return _derived(name, parameters, headers)
    if name not in headers or name != name.lower():
        raise BadSignature(f"the request has no header {name[:60]!r}, which was signed")
    value = headers[name].strip()
    if not parameters:
        return value
    if set(parameters) == {"key"}:
        for match in re.finditer(rf"(?:\A|,)\s*({_NAME})=({_STRING}|[^,]*)", value):
            if match[1] == parameters["key"]:
                return match[2].strip()
        raise BadSignature(f"the header {name[:60]!r} has no member {parameters['key'][:40]!r}, which was signed")
    raise BadSignature(f"component parameters {sorted(parameters)[:3]} are not taken")


def _derived(name: str, parameters: dict[str, str], headers: Mapping[str, str]) -> str:
    """RFC 9421 section 2.2."""
    method, scheme = headers.get(":method", ""), headers.get(":scheme", "https").lower()
    authority, target = headers.get(":authority", "").lower(), headers.get(":path", "")
    default = {"https": ":443", "http": ":80"}.get(scheme, "")
    authority = authority.removesuffix(default) if default else authority
    path, _, query = target.partition("?")
    match name, tuple(parameters):
        case "@method", ():
            return method
        case "@scheme", ():
            return scheme
        case "@authority", ():
            return authority
        case "@target-uri", ():
            return f"{scheme}://{authority}{target}"
        case "@request-target", ():
            return target
        case "@path", ():
            return path or "/"
        case "@query", ():
            return f"?{query}"
        case "@query-param", ("name",):
            values = [
                v
                for n, _, v in (pair.partition("=") for pair in query.split("&"))
                if unquote(n) == unquote(parameters["name"])
            ]
            if len(values) != 1:
                raise BadSignature("a signed query parameter is there not exactly once")
            return values[0]
    raise BadSignature(f"component {name[:40]!r} is not one we know")
