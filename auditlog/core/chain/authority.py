"""Authority: what a path of grants allowed at a time, and where a hop gave more than it had.

Effective authority is the intersection of all grants on the path; deny wins; what a child does not state it inherits.
In a root, no `authorization_details` is unknown, and no limits, expiry, audience or depth is unbounded. Results are
tri-state: "unknown" is never "fail".

Patterns are anchored. `*` matches within one label or segment (split at `.` and `/`), `**` across them. Domain names
are compared as registrable names: `acme.co.uk` stands for all that lies in it, `co.uk` for nothing but itself.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise, product
from typing import Any, Literal, TypeVar

import rfc8785

from auditlog.core.chain.act import Act, pays
from auditlog.core.chain.chain import Path, TokenPath
from auditlog.core.chain.statement import CLOCKS, Grant, Token
from auditlog.core.event import Detail, Limit, Party, TokenObject, act_chain
from auditlog.core.money.money import amount_text
from auditlog.core.names import domain
from auditlog.core.wire.keys import b64url

Result = Literal["pass", "fail", "unknown", "na"]
Found = TypeVar("Found")
# What a child's own wildcard looks like when it is matched against its parent's pattern.
_ONE, _MANY = "\ue000", "\ue001"
_DOTS = re.compile("[.\u3002\uff0e\uff61]")  # what UTS 46 section 2.3 takes for the dot between labels


@dataclass(frozen=True, slots=True)
class Judgement:
    """A tri-state answer with its reason. `hop` is the position of the party that the failing grant names."""

    result: Result
    reason: str
    hop: int | None = None
    grant: str | None = None
    leaf_index: int | None = None


@lru_cache(maxsize=16_384)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", pattern)
    within = rf"[^./{_MANY}]*"
    return re.compile(
        "".join({"*": within, "**": ".*"}.get(part, re.escape(part)) for part in parts) + r"\Z", re.DOTALL
    )


@lru_cache(maxsize=16_384)
def _as_names(value: str) -> tuple[str, str]:
    """A domain name, or a pattern of names, in A-labels and in U-labels: case, trailing dot, IDNA and its other dots are
    gone. Anything else twice as it is. A label with a star is matched letter by letter, so it has to meet both forms.
    """
    dotted = _DOTS.sub(".", value.strip())
    if "." not in dotted or "/" in dotted:
        return value, value
    labels = dotted.rstrip(".").split(".")
    try:
        plain = domain.to_ascii(".".join("x" if "*" in label else label for label in labels)).split(".")
    except ValueError:
        return value, value
    if len(plain) != len(labels):  # some letters are written out with a dot in them: nobody meant a name by those
        return value, value
    stars = [unicodedata.normalize("NFC", label.lower()) if "*" in label else None for label in labels]
    return (
        ".".join(star or label for star, label in zip(stars, plain, strict=True)),
        ".".join(star or domain.to_unicode(label) for star, label in zip(stars, plain, strict=True)),
    )


def action_matches(pattern: str, verb: str) -> bool:
    return _compiled(pattern).match(verb) is not None


@lru_cache(maxsize=16_384)
def _zone(value: str) -> str:
    """The registrable name that every name of this pattern lies in, in A-labels; "" where that is not one name."""
    labels = _as_names(value)[0].split(".")
    if len(labels) < 2 or "**" in value:
        return ""
    try:  # anything that is no name as a whole lies in none, whatever it ends with
        found = domain.zone(domain.to_ascii(".".join("x" if "*" in label else label for label in labels)))
    except ValueError:
        return ""
    return found if found and not any("*" in label for label in labels[-len(found.split(".")) :]) else ""


def resource_matches(pattern: str, value: str) -> bool:
    """Whether the pattern is of this resource. A registrable name is of all names in it (public suffix list)."""
    if any(_compiled(p).match(v) for p, v in zip(_as_names(pattern), _as_names(value), strict=True)):
        return True
    zone = _zone(value)
    return zone != "" and _compiled(_as_names(pattern)[0]).match(zone) is not None


def covers(parent: str, child: str, *, name: bool = False) -> bool:
    """Whether every string that `child` matches is matched by `parent`. Sound; exact for one parent pattern."""
    pairs = zip(_as_names(parent), _as_names(child), strict=True) if name else [(parent, child)]
    if any(_compiled(p).match(c.replace("**", _MANY).replace("*", _ONE)) for p, c in pairs):
        return True
    return name and _zone(child) != "" and _zone(child) == _as_names(parent)[0]


_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?)?(?P<host>[^/?#@:\s]+\.[^/?#@:\s]+)(?P<port>:\d+)?(?:[/?#].*)?",
    re.DOTALL,
)


def host_in(resource: str) -> str:
    """The host of a URL, or of a host with its port; "" of anything else."""
    found = _ADDRESS.fullmatch(_DOTS.sub(".", resource.strip()))
    return found["host"] if found and (found["scheme"] or found["port"]) else ""


def over_digests(act: Act, max_price_minor: int | None, currency: str | None) -> set[str]:
    """What an approval of this act may be bound to: base64url SHA-256 of the JCS of its parameters.

    Members that the act does not state may be absent, empty or null in what was hashed: senders differ.
    """
    action = act.payload.action
    target: Any = {"type": action.target.type, "id": action.target.id} if action and action.target else None
    fields = {
        "verb": act.stated_verb,
        "provider": action.provider if action else "",
        "account": act.account,
        "target": target,
        "resource": act.resource,
        "max_price_minor": max_price_minor,
        "currency": currency,
    }
    present = {name: value for name, value in fields.items() if value not in ("", None)}
    null = {name: value if value != "" else None for name, value in fields.items()}
    return {b64url(sha256(rfc8785.dumps(form)).digest()) for form in (fields, present, null)}


# --- scope ----------------------------------------------------------------------------------------------------------


def judge_act(path: Path, act: Act, *, provider: str = "") -> tuple[Judgement, Judgement]:
    """C3 and C4 of an act; of a payment only where no act is known that it pays for. `provider` where it names none."""
    at = act.provider or provider
    return (
        judge_action(path, verb=act.verb, provider=at, payment=act.is_payment),
        Judgement("pass", "it names nothing but the payment itself")
        if act.is_on_a_payment
        else judge_resource(path, verb=act.verb, provider=at, resource=act.object, payment=act.is_payment),
    )


def judge_action(path: Path, *, verb: str, provider: str, payment: bool = False) -> Judgement:
    """C3: is the verb within every grant on the path. `payment`: told of a payment. The payment system's own verbs are
    within any grant that does not deny them; a word for buying, which may be one of them, is left open.
    """
    if not verb:
        return Judgement("unknown", "the event does not say what was done")
    unknown, paid = None, False
    for hop, grant in enumerate(path.grants, start=1):
        if grant.details is None:
            if hop == 1:
                unknown = Judgement(
                    "unknown", f"root grant {grant.id} does not say which actions it allows", hop, grant.id,
                    grant.leaf_index,
                )  # fmt: skip
            continue
        denied = [p for d in grant.details if d.deny for p in d.deny.actions if action_matches(p, verb)]
        if denied:
            return _fail(grant, hop, f"grant {grant.id} denies {denied[0]}, and {verb} was done")
        fitting = [detail for detail in grant.details if _detail_allows_action(detail, verb, provider)]
        if payment and pays(verb) is True:
            paid = paid or not fitting
            continue
        if not provider and fitting and all(detail.providers for detail in fitting):
            at = ", ".join(sorted({p for detail in fitting for p in detail.providers}))
            unknown = unknown or Judgement(
                "unknown",
                f"grant {grant.id} allows {verb} at {at}, and the event does not name its provider",
                hop,
                grant.id,
                grant.leaf_index,
            )
        if not fitting:
            if payment and pays(verb) is None:
                reason = (
                    f"grant {grant.id} allows {allowed_by(grant)}, and whether {verb} is more than paying is not known"
                )
                unknown = unknown or Judgement("unknown", reason, hop, grant.id, grant.leaf_index)
                continue
            at = f" at {provider}" if provider else ""
            return _fail(grant, hop, f"grant {grant.id} allows {allowed_by(grant)}, and {verb}{at} was done")
    if paid and unknown is None:
        return Judgement("pass", f"{verb} only pays, and no grant on the path denies it")
    return unknown or Judgement("pass", f"every grant on the path allows {verb}")


def allowed_by(grant: Grant) -> str:
    """The verbs that a grant allows, for a sentence."""
    return ", ".join(sorted({p for d in grant.details or () for p in d.actions})) or "nothing"


def judge_resource(path: Path, *, verb: str, provider: str, resource: str, payment: bool = False) -> Judgement:
    """C4: does the target fit the allowed resources of a detail that allows the action, and no denied one. `payment`:
    told of a payment, whose own verbs do nothing to the thing paid for: what no grant allows is left open.
    """
    stated = [(hop, grant) for hop, grant in enumerate(path.grants, start=1) if grant.details is not None]
    limited = [hop for hop, grant in stated if any(d.resources or (d.deny and d.deny.resources) for d in grant.details)]
    if not resource:
        if limited:
            return Judgement("unknown", "the event does not say what it was done to", limited[0])
        return Judgement("pass", "no grant on the path limits resources") if stated else _no_details(path)
    meant = [one for one in (resource, host_in(resource)) if one]  # a name that is denied is so in an address too
    for hop, grant in stated:
        denied = [
            p
            for d in grant.details
            if d.deny
            for p in d.deny.resources
            if any(resource_matches(p, one) for one in meant)
        ]
        if denied:
            return _fail(grant, hop, f"grant {grant.id} denies {denied[0]}, and the act was on {resource}")
        fitting = [d for d in grant.details if _detail_allows_action(d, verb, provider)] or list(grant.details)
        if not any(not d.resources or any(resource_matches(p, resource) for p in d.resources) for d in fitting):
            allowed = ", ".join(sorted({p for d in fitting for p in d.resources})[:8])
            if payment and pays(verb) is not False:
                return Judgement(
                    "unknown", f"grant {grant.id} allows {allowed}, and what was done to {resource} beside paying is not known",
                    hop, grant.id, grant.leaf_index,
                )  # fmt: skip
            return _fail(grant, hop, f"grant {grant.id} allows {allowed}, and the act was on {resource}")
    if path.grants and path.grants[0].details is None:
        return _no_details(path)
    return Judgement("pass", f"every grant on the path allows {resource}")


def _no_details(path: Path) -> Judgement:
    first = path.grants[0] if path.grants else None
    return Judgement(
        "unknown", "the root grant does not say which resources it allows" if first else "no grant for this act is in the record", 1 if first else None,
        first.id if first else None, first.leaf_index if first else None,
    )  # fmt: skip


def _detail_allows_action(detail: Detail, verb: str, provider: str) -> bool:
    if detail.actions and not any(action_matches(pattern, verb) for pattern in detail.actions):
        return False
    return not detail.providers or not provider or provider in detail.providers


def judge_audience(path: Path, provider: str) -> Judgement:
    """C7: is the provider in the audience of every grant that names one."""
    named = [(hop, grant) for hop, grant in enumerate(path.grants, start=1) if grant.audience is not None]
    if not named:
        return Judgement("pass", "no grant on the path limits its audience")
    if not provider:
        return Judgement("unknown", "the event does not name its provider", named[0][0])
    for hop, grant in named:
        if provider not in grant.audience:
            return _fail(grant, hop, f"grant {grant.id} is for {', '.join(grant.audience)}, and was used at {provider}")
    return Judgement("pass", f"{provider} is in the audience of every grant")


def judge_window(path: Path, at: datetime, *, skew_seconds: float = 0, early_seconds: float | None = None) -> Judgement:
    """C6: not before - skew <= at < expiry + skew, for every grant on the path.

    A grant that states no beginning begins when it was given. That is one event's time against another's, so at least
    CLOCKS of skew are allowed there. `early_seconds`: exactly so much at every beginning; 0 for a time that was asked
    for, which no second clock told.
    """
    for hop, grant in enumerate(path.grants, start=1):
        if early := seconds_early(grant, at, skew_seconds=skew_seconds, early_seconds=early_seconds):
            begun = (
                f"begins at {utc_text(grant.not_before)}"
                if grant.not_before
                else f"was given only at {utc_text(grant.granted_at)}"
            )
            return _fail(grant, hop, f"grant {grant.id} {begun}, {early:.0f} s after {utc_text(at)}")
        if grant.expires_at is not None and (at - grant.expires_at).total_seconds() >= skew_seconds:
            return _fail(
                grant,
                hop,
                f"grant {grant.id} expired at {utc_text(grant.expires_at)}, {(at - grant.expires_at).total_seconds():.0f} s before {utc_text(at)}",
            )
    return Judgement("pass", "every grant on the path was in its time window")


def seconds_early(grant: Grant, at: datetime, *, skew_seconds: float = 0, early_seconds: float | None = None) -> float:
    """By how much `at` is before the grant's beginning and the skew allowed; 0 where it is not, or nobody says."""
    if grant.begins_at is None:
        return 0
    early = (grant.begins_at - at).total_seconds()
    allowed = skew_seconds if grant.not_before else max(skew_seconds, CLOCKS)
    return early if early > (allowed if early_seconds is None else early_seconds) else 0


def seconds_before_issue(token: Token, at: datetime, *, skew_seconds: float = CLOCKS) -> float:
    """By how much `at` is before the token was issued and the skew allowed; 0 where it is not, or nobody says."""
    early = (token.issued_at - at).total_seconds() if token.issued_at is not None and token.dated else 0
    return early if early > max(skew_seconds, CLOCKS) else 0


def before_its_time(path: Path, token: Token | None, at: datetime) -> Judgement | None:
    """The first grant of the path, or the token shown, that was given only after `at`, clocks allowed for."""
    for hop, grant in enumerate(path.grants, start=1):
        if early := seconds_early(grant, at, skew_seconds=CLOCKS):
            return _fail(
                grant,
                hop,
                f"grant {grant.id} {'began' if grant.not_before else 'was given'} {early:.0f} s after the act",
            )
    if token is not None and (early := seconds_before_issue(token, at)):
        last = path.grants[-1]
        return Judgement(
            "fail",
            f"token {token.jti} was issued {early:.0f} s after the act",
            len(path.grants),
            last.id,
            token.leaf_index,
        )
    return None


def told_later(path: Path, at: datetime, *, skew_seconds: float = CLOCKS) -> Grant | None:
    """The first grant whose source does not say that it had been given by `at`: it was told of only later, by one who does
    not say when it was given; or it was given later, and says of itself that it holds from before that.

    Whether it held at `at` is not known: nobody could have acted under it, and somebody may have meant to allow it since.
    """
    return next(
        (g for g in path.grants if (g.begins_at is None or (g.dated and g.not_before is not None))
         and (g.granted_at - at).total_seconds() > skew_seconds),
        None,
    )  # fmt: skip


def first_revocation(path: Path, at: datetime) -> tuple[int, Grant] | None:
    """The earliest-revoked grant on the path that was revoked at or before `at`, with its hop."""
    revoked = [
        (hop, grant)
        for hop, grant in enumerate(path.grants, start=1)
        if grant.revoked_at is not None and grant.revoked_at <= at
    ]
    return min(revoked, key=lambda pair: (pair[1].revoked_at, pair[0]), default=None)


RACE_SECONDS = 300  # after a revocation of which the provider was not told: by then somebody should have
GRACE_SECONDS = 60  # between a provider's notice of a revocation and its duty to act on it


@dataclass(frozen=True, slots=True)
class Ended:
    """Authority that had been taken back before an act: the grant or token, and how far the word of it had got.

    `state`: race (nobody can be blamed yet) | known (the provider had notice, and its time to act on it was over) |
    not_passed_on (no notice by then, though there had been time enough).
    """

    link: Grant | Token
    hop: int | None  # of a grant on the path; None: a token
    state: Literal["race", "known", "not_passed_on"]
    seconds_late: float
    notice: datetime | None  # when the provider said that it knew, be it after the act

    @property
    def is_race(self) -> bool:
        return self.state == "race"

    @property
    def name(self) -> str:
        return named(self.link)


def ended_before(
    path: Path,
    tokens: TokenPath,
    at: datetime,
    *,
    provider: str,
    unstated: Token | None = None,
    grace_seconds: float = GRACE_SECONDS,
    race_seconds: float = RACE_SECONDS,
) -> Ended | None:
    """What on the path, of grants and tokens, had been revoked at or before `at`: the first of what was no race, else the
    first. `unstated`: a token of the path of which only the end is known.

    A race ends `grace_seconds` after the provider's notice; where it had none by then, `race_seconds` after the revocation.
    There is none for a token that was made out of a revoked one: its own server did not heed what it had been told.
    """
    links: list[tuple[int | None, Grant | Token]] = list(enumerate(path.grants, start=1))
    shown = (*([unstated] if unstated else []), *tokens.tokens)
    links += [(None, token) for token in shown]
    found = [
        _ended(link, hop, at, provider, grace_seconds, race_seconds)
        for hop, link in links if link.revoked_at is not None and link.revoked_at <= at
    ]  # fmt: skip
    dead = {
        p.jti
        for p, child in pairwise(shown)
        if p.revoked_at and child.dated and child.issued_at and child.issued_at > p.revoked_at
    }
    found = [
        replace(e, state="not_passed_on") if e.is_race and isinstance(e.link, Token) and e.link.jti in dead else e
        for e in found
    ]
    return min(found, key=lambda e: (e.is_race, -e.seconds_late, e.hop is None, e.hop or 0), default=None)


def _ended(link: Grant | Token, hop: int | None, at: datetime, provider: str, grace: float, race: float) -> Ended:
    notice = link.notified.get(provider)
    late = (at - link.revoked_at).total_seconds()
    if notice is not None and notice <= at:
        state = "known" if (at - notice).total_seconds() > grace else "race"
    else:
        state = "race" if late <= race else "not_passed_on"
    return Ended(link, hop, state, late, notice)


def revocation_text(ended: Ended, provider: str) -> str:
    """A sentence: what had ended, how long before the act, and whether the provider knew."""
    said = f"{ended.name} was revoked {ended.seconds_late:.3f} s before the act"
    who = provider or "the provider"
    if ended.state == "known":
        return f"{said}, and {who} knew"
    knew = f"{who} heard of it at {utc_text(ended.notice)}" if ended.notice else f"no notice to {who} is in the record"
    return f"race: {said}; {knew}" if ended.is_race else f"{said}, and that was not passed on in time: {knew}"


def notice_text(grant: Grant, provider: str, at: datetime) -> str:
    """Whether the provider had said by `at` that it knew of the grant's end, and whether there had been time to tell it."""
    notice = grant.notified.get(provider)
    if notice is not None and notice <= at:
        since = (at - notice).total_seconds()
        return (
            f"{provider} knew" if since > GRACE_SECONDS else f"a race: {provider} had heard of it {since:.0f} s before"
        )
    late = (at - grant.revoked_at).total_seconds() > RACE_SECONDS if grant.revoked_at else False
    said = "not passed on in time" if late else "a race"
    if notice is None:
        return f"{said}: no notice to {provider or 'a provider'} is in the record"
    return f"{said}: {provider} heard of it only at {utc_text(notice)}"


@dataclass(frozen=True, slots=True)
class Expired:
    """Authority whose time was over, or a token made from one whose time was: dead from the first."""

    link: Grant | Token
    hop: int | None
    at: datetime  # when its time was over
    seconds_late: float
    reason: str


def expired_before(path: Path, tokens: TokenPath, at: datetime, *, skew_seconds: float = CLOCKS) -> Expired | None:
    """What had expired before `at`, the first of it: a grant of the path, the token that was shown, or one of its parents
    where the exchange came too late. A parent may well end once a proper exchange is done.
    """
    found = [
        Expired(
            grant,
            hop,
            grant.expires_at,
            late,
            f"{named(grant)} expired at {utc_text(grant.expires_at)}, {late:.0f} s before {utc_text(at)}",
        )
        for hop, grant in enumerate(path.grants, start=1)
        if grant.expires_at is not None and (late := (at - grant.expires_at).total_seconds()) >= skew_seconds
    ]
    shown = tokens.tokens[-1] if tokens.tokens and tokens.missing != tokens.jti else None
    if (
        shown is not None
        and shown.standing == "proven"
        and shown.expires_at is not None
        and (late := (at - shown.expires_at).total_seconds()) >= skew_seconds
    ):
        found.append(
            Expired(shown, None, shown.expires_at, late, f"{named(shown)} had expired {late:.3f} s before the act")
        )
    for parent, child in pairwise(tokens.tokens):
        if (
            parent.expires_at is None
            or child.issued_at is None
            or not child.dated
            or "claimed" in (parent.standing, child.standing)
        ):
            continue
        if (late := (child.issued_at - parent.expires_at).total_seconds()) >= skew_seconds and child.issued_at <= at:
            reason = f"{named(child)} was exchanged from {named(parent)} {late:.0f} s after that had expired"
            found.append(Expired(parent, None, parent.expires_at, (at - parent.expires_at).total_seconds(), reason))
    return min(found, key=lambda e: (e.at, e.hop is None, e.hop or 0), default=None)


def judge_depth(path: Path) -> Judgement:
    """C10: no more grants below a hop than its `max_depth`, and none below one that may not be passed on.

    `redelegate` is false in a root that does not state it; below a parent that nobody spoke of it is inherited from that,
    and so not known to be false.
    """
    may_pass_on = not path.ends_at_root
    for place, grant in enumerate(path.grants):
        below = len(path.grants) - 1 - place
        if grant.redelegate is not None:
            may_pass_on = grant.redelegate
        if below and not may_pass_on:
            return _fail(path.grants[place + 1], place + 2, f"grant {grant.id} may not be passed on, and was")
        if grant.max_depth is not None and below > grant.max_depth:
            return _fail(
                path.grants[place + grant.max_depth + 1], place + grant.max_depth + 2,
                f"grant {grant.id} allows {grant.max_depth} below it, and there are {below}",
            )  # fmt: skip
    return Judgement("pass", "no hop was passed on further than allowed")


_BY_VERB = {"terms.accept": "terms", "billing.setup": "billing", "login": "login", "deployment.merge": "merge"}
_NAMED = frozenset({"purchase", *_BY_VERB.values()})


def gates_required(act: Act, path: Path | None = None, *, is_paid_for: bool = False) -> set[str]:
    """The kinds of approval that this act needed: those its path lists, and that its verb, its spending or its being
    irreversible calls for. Of kinds that are not among the five named ones, one approval answers for all.

    `is_paid_for`: some other statement says what it cost.
    """
    listed = {kind for grant in (path or act.path).grants for kind in grant.gates or ()}
    called_for = set()
    if act.outcome == "success" and (act.spends or is_paid_for or act.verb == "domain.register"):
        called_for.add("purchase")
    if act.verb in _BY_VERB:
        called_for.add(_BY_VERB[act.verb])
    if act.payload.action is not None and act.payload.action.irreversible:
        called_for |= listed - _NAMED
    return listed & called_for


def gate_questions(kinds: set[str]) -> list[tuple[str, ...]]:
    """The kinds that have to be answered one by one, and last the others, of which one answer is enough."""
    others = tuple(sorted(kinds - _NAMED))
    return [*((kind,) for kind in sorted(kinds & _NAMED)), *([others] if others else [])]


def _fail(grant: Grant, hop: int, reason: str) -> Judgement:
    return Judgement("fail", reason, hop, grant.id, grant.leaf_index)


def utc_text(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"


# --- grants that are stated in two ways -----------------------------------------------------------------------------


def as_disputed(path: Path, at: datetime) -> list[tuple[Grant, Path]]:
    """The path as others state it who may say so too, one grant at a time, as far as that bears on what was done at `at`."""
    return [
        (rival, replace(path, grants=(*path.grants[:place], rival, *path.grants[place + 1 :])))
        for place, _, rival in _rivals(path, at)
    ]


def _rivals(path: Path, at: datetime) -> Iterator[tuple[int, Grant, Grant]]:
    """Each grant of the path with its place, and what is stated beside it that bears on what was done at `at`."""
    for place, grant in enumerate(path.grants):
        yield from ((place, grant, rival) for since, rival in grant.disputed if since is None or since <= at)


def disputed_party(path: Path, at: datetime) -> Grant | None:
    """What states otherwise for whom, to whom or under what a grant of the path was given."""
    return next((rival for _, grant, rival in _rivals(path, at) if _whose(rival) != _whose(grant)), None)


def _whose(grant: Grant) -> tuple[str | None, ...]:
    return grant.parent, grant.root, _key(grant.subject), _key(grant.actor)


def _key(party: Party | None) -> str:
    return party.key if party else ""


def surely(
    act: Act, found: Callable[[Act], Found | None], *, otherwise: Callable[[Act], object | None] | None = None
) -> Found | None:
    """What a rule finds of an act, where it finds it by every statement of the grants on its path: doubt never convicts.

    `otherwise`: what is the same fault by another statement, where it shows itself in more than one way.
    """
    first = found(act)
    if first is None or not any(grant.disputed for grant in act.path.grants):
        return first
    others = (replace(act, path=path) for _, path in as_disputed(act.path, act.occurred_at))
    return (
        first
        if all(found(other) is not None or (otherwise is not None and otherwise(other) is not None) for other in others)
        else None
    )


# --- grants beside those used ---------------------------------------------------------------------------------------


def allows(path: Path, act: Act, *, surely: bool = False) -> bool:
    """Whether this path would have allowed the act in verb, resource, time and place. What is unknown is given the
    benefit of the doubt; `surely`: it is not, and the path must be proven down from a root.
    """
    if first_revocation(path, act.occurred_at) is not None:
        return False
    results = {
        *(judged.result for judged in judge_act(path, act)),
        judge_window(path, act.occurred_at, skew_seconds=CLOCKS).result,
        judge_audience(path, act.provider).result,
    }
    if surely:
        results.add(
            "pass" if path.ends_at_root and all(grant.standing == "proven" for grant in path.grants) else "unknown"
        )
        return results == {"pass"} and not widenings(path) and judge_depth(path).result == "pass"
    return "fail" not in results


@dataclass(frozen=True, slots=True)
class Initiator:
    """One that somebody else acted for, under authority that does not pass through it, and what its own grants say."""

    party: Party
    result: Literal["pass", "fail", "unknown"]
    criterion: Literal["C3", "C4"]  # which of the two its own grants fail, or leave open
    grants: tuple[str, ...]  # its own


def judge_initiators(
    act: Act, path: Path, held: Mapping[str, Sequence[Path]], kind_of: Callable[[str], str]
) -> list[Initiator]:
    """An agent that acts for another must not lend it rights that the other does not hold (Hardy, 1988). What a human may
    do in person is not on record, so humans are not asked. An initiator of which no grant is known is unknown.
    """
    if act.payload.actor is None or not path.grants:
        return []
    *initiators, deputy = act_chain(act.payload.actor)
    found = []
    for party in initiators:
        kind = kind_of(party.key)
        if (kind if kind != "unknown" else party.kind) not in ("agent", "workload", "service"):
            continue
        if party.key in path.parties or deputy.key not in path.parties:
            continue
        paths = [own for own in held.get(party.key, ()) if own.grants]
        names = tuple(own.grants[-1].id for own in paths)
        judged = [judge_act(own, act) for own in paths]
        may = [on_object for done, on_object in judged if done.result != "fail"]
        criterion: Literal["C3", "C4"] = "C4" if may and all(one.result == "fail" for one in may) else "C3"
        if any(allows(own, act, surely=True) for own in paths):
            found.append(Initiator(party, "pass", criterion, names))
        elif not paths or any(allows(own, act) for own in paths):
            found.append(Initiator(party, "unknown", criterion, names))
        else:
            found.append(Initiator(party, "fail", criterion, names))
    return found


# --- keys -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Binding:
    """The key that authority is bound to (`cnf`, RFC 7800), and what bound it."""

    jkt: str  # SHA-256 thumbprint (RFC 7638), base64url
    name: str
    standing: str
    leaf_index: int


def key_bound_by(link: Grant | Token | None) -> Binding | None:
    return Binding(link.jkt, named(link), link.standing, link.leaf_index) if link is not None and link.jkt else None


def key_bound(act: Act, tokens: TokenPath) -> Binding | None:
    """What binds the key of this act: the token shown, else the grant it acts under. Of an event that issues a token:
    the grant it is issued under, where both are for the same party. None: nothing is bound.
    """
    last = act.path.grants[-1] if act.path.grants else None
    shown = tokens.tokens[-1] if tokens.tokens and tokens.tokens[-1].jti == act.token else None
    if isinstance(act.payload.token, TokenObject):
        same = last and shown and last.actor and shown.holder and last.actor.key == shown.holder.key
        return key_bound_by(last) if same else None
    return key_bound_by(shown) or key_bound_by(last)


def key_shown(act: Act, tokens: TokenPath) -> str:
    """The key that this act was done with, as far as its source says: an attestation of type `jkt`. Of an event that
    issues a token: the key it was bound to. "" is unknown.
    """
    if isinstance(act.payload.token, TokenObject):
        return act.payload.token.cnf.jkt if act.payload.token.cnf else ""
    attestation = act.payload.attestation
    return attestation.digest if attestation and attestation.type == "jkt" else ""


# --- attenuation ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Widening:
    """A hop that gave more than it had. `kind`: scope | limit | expiry | depth."""

    kind: str
    hop: int | None  # None: a token's place is not a position on the grant path
    by: Grant | Token
    above: Grant | Token  # what it exceeds
    found: str
    allowed: str

    @property
    def reason(self) -> str:
        return f"{named(self.by)} gives {self.found}, {named(self.above)} above it has {self.allowed}"


def named(link: Grant | Token) -> str:
    return f"grant {link.id}" if isinstance(link, Grant) else f"token {link.jti}"


def widenings(path: Path) -> list[Widening]:
    """Every hop of the path that exceeds what stands above it, oldest first (C2)."""
    found: list[Widening] = []
    for place in range(1, len(path.grants)):
        above, child = path.grants[:place], path.grants[place]
        found.extend(_widened_scope(above, child, place + 1))
        found.extend(_widened_limits(above, child, place + 1))
        first = min((g for g in above if g.expires_at is not None), key=lambda g: g.expires_at, default=None)
        if first and child.expires_at is not None and child.expires_at > first.expires_at:
            found.append(_outlives(child, first, place + 1))
        begins = max((g for g in above if g.not_before is not None), key=lambda g: g.not_before, default=None)
        if begins and child.not_before is not None and child.not_before < begins.not_before:
            found.append(
                Widening(
                    "expiry",
                    place + 1,
                    child,
                    begins,
                    f"from {utc_text(child.not_before)}",
                    f"from {utc_text(begins.not_before)}",
                )
            )
        least = min((g for g in above if g.max_depth is not None), key=lambda g: g.max_depth, default=None)
        if least and child.max_depth is not None and child.max_depth > least.max_depth:
            found.append(
                Widening("depth", place + 1, child, least, f"depth {child.max_depth}", f"depth {least.max_depth}")
            )
    return found


def given_by_a_stranger(path: Path) -> int | None:
    """The first hop whose giver is nobody above it. The principal may give at every hop: that is more, not less."""
    for place, grant in enumerate(path.grants[1:], start=1):
        above = {party.key for g in path.grants[:place] for party in (g.subject, g.actor) if party}
        if grant.subject is not None and above and grant.subject.key not in above:
            return place + 1
    return None


def token_widenings(tokens: TokenPath, path: Path) -> list[Widening]:
    """Every token that exceeds the tokens it was exchanged from, or the grants it was issued under, oldest first.

    An exchange may change the audience, which is what it is for (RFC 8693 section 2.1), but not leave the grants'.
    """
    found: list[Widening] = []
    for place, token in enumerate(tokens.tokens):
        above = tokens.tokens[:place]
        grants = _issued_under(tokens.tokens[: place + 1], path, is_shown=place == len(tokens.tokens) - 1)
        scoped = next((t for t in reversed(above) if t.scope is not None), None)
        extra = [s for s in token.scope or () if scoped and not any(covers(p, s) for p in scoped.scope)]
        if extra:
            found.append(
                Widening(
                    "scope",
                    None,
                    token,
                    scoped,
                    f"scope {' '.join(extra)}",
                    f"scope {' '.join(scoped.scope) or 'nothing'}",
                )
            )
        listed = next((g for g in reversed(grants) if g.audience is not None), None)
        beyond = [
            a
            for a in token.audience or ()
            if listed and _comparable(token.audience, listed.audience) and a not in listed.audience
        ]
        if beyond:
            found.append(
                Widening(
                    "scope",
                    None,
                    token,
                    listed,
                    f"audience {', '.join(beyond)}",
                    f"audience {', '.join(listed.audience)}",
                )
            )
        # Not compared with the token it was exchanged from: an exchange a second later for as long is an ordinary day.
        first = min((g for g in grants if g.expires_at is not None), key=lambda g: g.expires_at, default=None)
        if first and token.expires_at is not None and token.expires_at > first.expires_at:
            found.append(_outlives(token, first, None))
    return found


def _issued_under(tokens: Sequence[Token], path: Path, *, is_shown: bool) -> Sequence[Grant]:
    """The grants that the last of these tokens was issued under: down to its own, or to its nearest parent's. A grant
    below that was given after it, or beside it, and binds the act, not that token.
    """
    named_by = next((token.grant for token in reversed(tokens) if token.grant), None)
    if named_by is None:
        return path.grants if is_shown else ()
    place = next((n for n, grant in enumerate(path.grants) if grant.id == named_by), None)
    return () if place is None else path.grants[: place + 1]


def _outlives(by: Grant | Token, above: Grant | Token, hop: int | None) -> Widening:
    return Widening("expiry", hop, by, above, f"until {utc_text(by.expires_at)}", f"until {utc_text(above.expires_at)}")


def _comparable(one: Iterable[str], other: Iterable[str]) -> bool:
    """Whether two audiences use the same kind of name: a URL and a provider's short name cannot be told apart or equal."""
    return {"://" in name for name in one} == {"://" in name for name in other}


def judge_token_audience(tokens: TokenPath, provider: str, issuer: str) -> Judgement:
    """C7 of the token that was shown: is whoever took it in its audience, under its short name or its issuer's."""
    token = tokens.tokens[-1] if tokens.tokens and tokens.missing != tokens.jti else None
    if token is None or token.audience is None:
        return Judgement("pass", "the token names no audience")
    if token.standing != "proven":
        return Judgement("unknown", f"token {token.jti} is claimed by {token.attester}, which may not speak of it")
    if provider in token.audience or issuer in token.audience:
        return Judgement("pass", f"{provider or issuer} is in the audience of token {token.jti}")
    if not provider or not _comparable(token.audience, [provider]):
        return Judgement("unknown", "the token's audience and the act's provider have no name in common to compare")
    return Judgement(
        "fail",
        f"token {token.jti} is for {', '.join(token.audience)}, and was used at {provider}",
        leaf_index=token.leaf_index,
    )


def _widened_scope(above: Sequence[Grant], child: Grant, hop: int) -> Iterable[Widening]:
    nearest = next((g for g in reversed(above) if g.details is not None), None)
    if child.details is not None and nearest is not None:
        for detail in child.details:
            excess = _excess(nearest.details, detail)
            if excess:
                yield Widening("scope", hop, child, nearest, excess, _described(nearest.details))
                break
    listed = next((g for g in reversed(above) if g.audience is not None), None)
    if child.audience is not None and listed is not None and (extra := set(child.audience) - set(listed.audience)):
        yield Widening(
            "scope",
            hop,
            child,
            listed,
            f"audience {', '.join(sorted(extra))}",
            f"audience {', '.join(listed.audience)}",
        )


def _excess(parents: Sequence[Detail], child: Detail) -> str:
    """What of `child` no parent detail covers, in words; "" when all of it is covered."""
    actions, providers = child.actions or ["**"], child.providers or [""]
    resources = child.resources or ["**"]
    if any(all(_covered(parent, *combination) for combination in product(actions, providers, resources))
           for parent in parents if len(actions) * len(providers) * len(resources) <= 20_000):  # fmt: skip
        return ""
    for action, provider, resource in product(actions, providers, resources):
        if not any(_covered(parent, action, provider, resource) for parent in parents):
            return f"{action} on {resource}" + (f" at {provider}" if provider else "")
    return ""


def _covered(parent: Detail, action: str, provider: str, resource: str) -> bool:
    return (
        (not parent.actions or any(covers(pattern, action) for pattern in parent.actions))
        and (not parent.providers or provider in parent.providers)
        and (not parent.resources or any(covers(pattern, resource, name=True) for pattern in parent.resources))
    )


def _described(details: Sequence[Detail]) -> str:
    parts = []
    for detail in details:
        actions, resources = ", ".join(detail.actions) or "any action", ", ".join(detail.resources) or "anything"
        at = f" at {', '.join(detail.providers)}" if detail.providers else ""
        parts.append(f"{actions} on {resources}{at}")
    return "; ".join(parts)[:400] or "nothing"


def limit_key(limit: Limit) -> tuple[str, str, str, str]:
    """Limits compare by scope, provider, currency and interval, never by id."""
    return (limit.scope, limit.provider, limit.currency.upper(), limit.interval)


def _widened_limits(above: Sequence[Grant], child: Grant, hop: int) -> Iterable[Widening]:
    for limit in child.limits or ():
        same = [
            (g, p)
            for g in above
            for p in g.limits or ()
            if limit_key(p) == limit_key(limit) and p.max_minor is not None
        ]
        if not same:
            continue
        giver, least = min(same, key=lambda pair: pair[1].max_minor)
        if limit.max_minor is None or limit.max_minor > least.max_minor:
            currency = limit.currency.upper()
            found = "no limit" if limit.max_minor is None else amount_text(limit.max_minor, currency)
            yield Widening(
                "limit",
                hop,
                child,
                giver,
                f"{limit.scope} {found}",
                f"{limit.scope} {amount_text(least.max_minor, currency)}",
            )
