"""Gates: points where a human must decide, whether one did, and what somebody refused.

An approval joins its act by `over`, else by `request_id`, and belongs to one principal. It counts only if a human who is
entitled gave it, before the act, and it is used once. What only the acting side says of it is unknown. A refusal joins by
verb and target too, and forbids the act whether or not a grant lists a gate: no is an answer.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import gate_questions, gates_required, over_digests, resource_matches
from auditlog.core.chain.chain import Path, TokenPath
from auditlog.core.chain.intent import Stated, stated_intent
from auditlog.core.chain.record import Approval, Record
from auditlog.core.chain.use import done_act, follows_an_act, order, payments_of
from auditlog.core.event import Intent, act_chain, moment
from auditlog.core.money.books import HOLD_ENDS
from auditlog.core.names import domain

_AGENTS = ("agent", "workload", "service")


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One required gate of one act: the approval that answers it, or why none does, and what there is in its place.

    `result` "unknown": something answers it, and whether that counts cannot be told.
    """

    kind: str
    approval: Approval | None
    reason: str
    answer: Approval | None = None  # a refusal, an answer that does not count, or that it was asked for; None: nothing
    result: Literal["pass", "fail", "unknown"] = "fail"

    @property
    def state(self) -> Literal["approved", "refused", "not_counted", "asked", "unknown"]:
        if self.approval is not None:
            return "approved"
        if self.answer is None:
            return "unknown"
        return "not_counted" if self.answer.answer == "approved" else self.answer.answer


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal of just this act that nobody took back before it was done. "unknown": whether it counts cannot be told."""

    refusal: Approval
    reason: str
    result: Literal["fail", "unknown"]


def check_gates(act: Act, record: Record, path: Path | None = None) -> list[GateCheck]:
    """Every gate that the act's path lists for what it did. Empty when it needed none.

    A statement of money is judged through the act that it pays for, and needs none itself. `path`: of the authority
    used, where the act's own names none.
    """
    if done_act(act, record) is not None:
        return []
    path = path or act.path
    if not any(grant.gates for grant in path.grants):
        return []
    paid = [p for p in payments_of(act, record) if p.spends]
    required = gates_required(act, path, is_paid_for=bool(paid))
    if not required:
        return []
    asked = _Asked(act, record, path, paid)
    return [_check(kinds, asked) for kinds in gate_questions(required)]


def standing_refusal(act: Act, record: Record, path: Path | None = None) -> Refused | None:
    """The last refusal of this act that stood when it was done: by somebody entitled, and neither the same nor a higher
    party approved after it.
    """
    if not record.refusals or done_act(act, record) is not None or act.payload.mode == "direct":
        return None  # what a human does in person nobody else refuses
    asked = _Asked(act, record, path or act.path, [])
    doubtful = None
    for refusal in reversed(asked.answers):
        if refusal.answer != "refused" or not refusal.by or refusal.at > act.occurred_at or not _is_of(refusal, asked):
            continue
        may = _may_refuse(refusal, asked)
        if may is False:
            continue
        lifted = _lifted(refusal, asked)
        if lifted is True:
            continue
        reason = f"{refusal.by} refused it, {(act.occurred_at - refusal.at).total_seconds():.0f} s before it was done"
        if may and lifted is False and refusal.principal == act.principal:
            return Refused(refusal, reason, "fail")
        why = (
            "whether that party may refuse it is not on record"
            if may is None
            else "whether the approval after that takes it back is not on record"
        )
        doubtful = doubtful or Refused(refusal, f"{reason}; {why}", "unknown")
    return doubtful


@dataclass(frozen=True, slots=True)
class Assent:
    """A human's yes to just this act, or to its task, given before it and not taken back: what was wanted, said later and
    closer to the act than an intent. `names_it`: it names the thing, by digest or as its target.
    """

    approval: Approval
    names_it: bool
    by_digest: bool  # `over` binds it to this act and no other
    max_minor: int | None  # minor units of `currency`; None: no price was said
    currency: str
    together_minor: int | None = None  # with what was said before it; whether one adds to the other, nobody says


def assent_to(act: Act, record: Record) -> Assent | None:
    """The last yes to this very act by a human who is entitled to give it; None where there is none that counts for sure."""
    if not record.approvals and (act.payload.gate is None or act.payload.gate.by is None):
        return None
    key = ("assent", act.event_id)
    if key not in record.memory:
        record.memory[key] = _assent(act, record)
    return record.memory[key]


def assent_to_task(act: Act, record: Record) -> Assent | None:
    """The last yes of such a human to the task that the act names, which names neither a request nor a thing. A price that
    was said for a task binds it also after a no.
    """
    if not record.approvals or not act.task or not act.principal:
        return None
    key = ("assent to task", act.event_id)
    if key not in record.memory:
        told = record.answers_to([("task", act.principal, act.task)])
        told = [a for a in told if a.within_remit and a.answer == "approved" and a.environment == act.environment]
        record.memory[key] = _assented(told, _Asked(act, record, act.path, [])) if told else None
    return record.memory[key]


def asked_for(act: Act, record: Record) -> Stated | None:
    """The intent an act answers to (core.chain.intent), also where only an approval of its request or task states it."""
    stated = stated_intent(act)
    if (stated is not None and not stated.by_actor) or not record.approvals:
        return stated
    key = ("asked for", act.event_id)
    if key not in record.memory:
        record.memory[key] = _approved_intent(act, record)
    return record.memory[key] or stated


def _approved_intent(act: Act, record: Record) -> Stated | None:
    """What the approvals of its request or task that count say of the things wanted; their price is held apart."""
    asked = _Asked(act, record, act.path, [])
    answers = [a for a in asked.answers if a.request_id and a.request_id == act.request_id and not a.over]
    if act.task and act.principal:
        told = record.answers_to([("task", act.principal, act.task)])
        answers += [a for a in told if a.within_remit and a.environment == act.environment]
    counted = _counted(answers, asked)
    stating = [
        (answer, answer.targets or ((answer.target,) if names_alike(answer, act) else ()))
        for n, answer in enumerate(counted)
        if not _is_said_by_another(answer, counted[:n])
    ]
    stating = [(answer, targets) for answer, targets in stating if targets or answer.quantity is not None]
    if not stating:
        return None
    # Each yes is a wish of its own: what was approved before is wanted too.
    numbers = [answer.quantity for answer, _ in stating if answer.quantity is not None]
    intent = Intent(targets=[t for _, targets in stating for t in targets], quantity=sum(numbers) if numbers else None)
    last = stating[-1][0]
    return Stated(intent, False, None, last.leaf_index, last.event_id, by_approval=True)


def said_yes(act: Act, record: Record) -> bool:
    """Whether a human who is entitled said yes to this act or its task; also by a gate that the act itself carries. A
    login, terms, billing or a merge is another question.
    """
    if assent_to(act, record) is not None or assent_to_task(act, record) is not None:
        return True
    if act.payload.gate is None:
        return False
    asked = _Asked(act, record, act.path, [])
    return bool(_counted((a for a in asked.answers if _joins(a, asked)), asked))


def _assent(act: Act, record: Record) -> Assent | None:
    asked = _Asked(act, record, act.path, [p for p in payments_of(act, record) if p.spends])
    own = {act.event_id, *(paid.event_id for paid in asked.paid)}
    # A gate that the act itself carries says nothing else of it than the act, unless by a digest.
    return _assented((a for a in asked.answers if _joins(a, asked) and (a.over or a.event_id not in own)), asked)


def _counted(answers: Iterable[Approval], asked: "_Asked") -> list[Approval]:
    """The approvals that count for sure and that no refusal which counts followed before the act was done, in order of time;
    of one time what allows most comes last, since which of them was last nobody knows.
    """
    found: list[Approval] = []
    for answer in sorted(answers, key=lambda a: (a.at, a.max_price_minor or -1)):
        if answer.answer == "asked" or answer.at > asked.act.occurred_at or answer.kind in _OTHER_QUESTIONS:
            continue
        if answer.answer == "refused":
            own_side = is_acting_side(answer.issuer, asked.act, asked.path, asked.tokens)
            if _may_refuse(answer, asked) is True and not own_side:
                found = []
        elif _is_entitled(answer.by, asked) is True and not _doubt(answer, asked, answer.kind):
            found.append(answer)
    return found


_OTHER_QUESTIONS = frozenset({"login", "terms", "billing", "merge"})  # say nothing of what is bought, and for how much


def _assented(answers: Iterable[Approval], asked: "_Asked") -> Assent | None:
    """What was said last of the thing, and last of the price: who says less takes nothing back."""
    counted = _counted(answers, asked)
    if not counted:
        return None
    act = asked.act
    thing = next((a for a in reversed(counted) if a.over or _is_named(a, act)), None)
    prices = ((a, _price_in(a, asked)) for a in reversed(counted))
    priced, (most, currency) = next(((a, said) for a, said in prices if said[0] is not None), (None, (None, "")))
    by_digest = any(answer.over for answer in counted)
    said = [(a, *_price_in(a, asked)) for n, a in enumerate(counted) if not _is_said_by_another(a, counted[:n])]
    together = sum(price for _, price, money in said if price is not None and money == currency)
    return Assent(
        priced or thing or counted[-1],
        thing is not None,
        by_digest,
        most,
        currency,
        together if most is not None else None,
    )


def _is_said_by_another(answer: Approval, before: Iterable[Approval]) -> bool:
    """Whether it is one yes that another source told of already."""
    return any(
        (a.by, a.max_price_minor, a.currency) == (answer.by, answer.max_price_minor, answer.currency)
        and a.issuer != answer.issuer
        and abs(a.at - answer.at) <= ALMOST
        for a in before
    )


def _is_named(answer: Approval, act: Act) -> bool:
    """Whether an approval, or the intent that it states, names what the act was done to."""
    return _names(answer.target, act) or any(
        thing and resource_matches(target, thing) for target in answer.targets for thing in (act.target, act.resource)
    )


def _price_in(answer: Approval, asked: "_Asked") -> tuple[int | None, str]:
    hashed, currency = asked.digests.get(answer.over, (None, None)) if answer.over else (None, None)
    most = answer.max_price_minor if answer.max_price_minor is not None else hashed
    return most, (answer.currency or currency or asked.currency).upper()


def answers_looked_at(act: Act, record: Record, path: Path) -> list[Approval]:
    """Every approval, refusal and question that could be about this act, whether it counted or not."""
    paid = [p for p in payments_of(act, record) if p.spends]
    return _Asked(act, record, path, paid).answers


class _Asked:
    """An act with the answers that could be about it, found once."""

    def __init__(self, act: Act, record: Record, path: Path, paid: list[Act]) -> None:
        self.act, self.record, self.path, self.paid = act, record, path, paid
        self.principal = path.principal.key if path.principal else act.principal
        self.tokens: TokenPath = record.token_path(act.token)
        self.digests = _digests(act, record, path, paid)
        keys = [("over", digest) for digest in self.digests] + [("request", act.request_id)] * bool(act.request_id)
        if act.principal and act.verb and (target := act.target or act.resource):
            keys.append(("asked", act.principal, act.verb, target))
        told = [a for a in record.answers_to(keys) if a.within_remit and _may_be_about(a, act)]
        self.answers = sorted([*told, *_own(act, record, paid)], key=lambda a: (a.at, a.leaf_index))
        parties = path.parties
        self.above = parties[: parties.index(act.actor)] if act.actor in parties else parties[:-1]

    @property
    def most_minor(self) -> int | None:
        """What the act took, by whichever statement says most."""
        return max((a.amount_minor for a in (self.act, *self.paid) if a.amount_minor is not None), default=None)

    @property
    def currency(self) -> str:
        return next((a.currency for a in (self.act, *self.paid) if a.currency), "")


def _check(kinds: tuple[str, ...], asked: _Asked) -> GateCheck:
    kind = " or ".join(kinds)
    fitting = [a for a in asked.answers if a.answer == "approved" and a.kind in kinds and _joins(a, asked)]
    others = [a for a in asked.answers if a.answer != "approved" and a.kind in (*kinds, "") and _joins(a, asked)]
    said_no = [a for a in others if a.answer == "refused"]
    if not fitting:
        if said_no:
            return GateCheck(
                kind, None, f"the grant asks for a {kind} approval, and {_who(said_no[-1])} refused it", said_no[-1]
            )
        # That it was asked for is not in the reason: it may come late, and nothing about the act is settled by it.
        reason = f"the grant asks for a {kind} approval, and none for this act is in the record"
        return GateCheck(kind, None, reason, others[-1] if others else None)
    failed, doubtful = [], []
    for approval in fitting:
        if problem := _problem(approval, asked, kind, said_no):
            failed.append(problem)
        elif doubt := _doubt(approval, asked, kind):
            doubtful.append((doubt, approval))
        else:
            return GateCheck(kind, approval, f"{approval.by} approved it", result="pass")
    if doubtful:
        return GateCheck(kind, None, *doubtful[-1], result="unknown")
    return GateCheck(kind, None, *failed[-1])


def _problem(approval: Approval, asked: _Asked, kind: str, said_no: list[Approval]) -> tuple[str, Approval] | None:
    """Why an approval does not answer the gate, for certain."""
    act = asked.act
    if approval.by_kind in _AGENTS:
        who = "an agent" if approval.by_kind == "agent" else f"a party of kind {approval.by_kind}"
        return f"{_who(approval)} answered the {kind} gate, and is {who}", approval
    if approval.at > act.occurred_at:
        return f"the {kind} approval was given after the act", approval
    if no := next((a for a in said_no if a.by_kind == "human" and approval.at < a.at <= act.occurred_at), None):
        return f"{_who(no)} refused the {kind} approval after it had been given, and before the act", no
    if _price_exceeds(approval, asked):
        return (
            f"the {kind} approval covers {approval.max_price_minor} minor units, the act took {asked.most_minor}",
            approval,
        )
    if (user := _used_by(approval, asked)) is not None:
        return f"the {kind} approval was used by act {user.event_id} already", approval
    if _is_entitled(approval.by, asked) is False:
        return (
            f"{_who(approval)} answered the {kind} gate, and is of another organisation than {asked.principal}",
            approval,
        )
    return None


def _doubt(approval: Approval, asked: _Asked, kind: str) -> str:
    """Why it cannot be told whether an approval counts; "" when it does."""
    if approval.by_kind != "human":
        return f"{_who(approval)} answered the {kind} gate, and whether that is a human is not on record"
    if is_acting_side(approval.issuer, asked.act, asked.path, asked.tokens):
        return f"only the acting side says that {_who(approval)} answered the {kind} gate"
    if not approval.within_remit:  # what an act carries is looked at, by whomever it is told
        return f"that {_who(approval)} answered the {kind} gate is said by a source that may not speak for that party"
    if _belongs(approval, asked.act) is None:
        return f"{_who(approval)} answered a {kind} gate, and in whose name is not on record"
    if _is_entitled(approval.by, asked) is None:
        return f"{_who(approval)} answered the {kind} gate, and whether that party may do so for {asked.principal} is not on record"
    return ""


def is_acting_side(issuer: str, act: Act, path: Path, tokens: TokenPath) -> bool:
    """Whether a source speaks for the one who acted: as it, or from its issuer, which gave it no authority here. What
    such a source says in its own favour is no evidence of it.
    """
    actors = (
        act_chain(act.payload.actor)[-1:] if act.payload.actor else tuple(g.actor for g in path.grants[-1:] if g.actor)
    )
    if not any(issuer in (actor.iss, actor.sub, actor.key) for actor in actors):
        return False
    # A token that it made for its own party, in nobody else's name, gave that party nothing.
    given = (
        *path.grants,
        *(token for token in tokens.tokens if token.subject is not None and token.subject.iss != issuer),
    )
    return issuer not in {link.attester for link in given if link.standing == "proven"}


def _is_entitled(by: str, asked: _Asked) -> bool | None:
    """Whether this human may decide for the principal: it is the principal, stands above the actor, or is of the
    principal's organisation. None: it cannot be told.
    """
    if by and by == asked.act.actor:
        return False
    if by and (by == asked.principal or by in asked.above):
        return True
    return asked.record.organisations.are_one(by, asked.principal) if by and asked.principal else None


def _may_refuse(refusal: Approval, asked: _Asked) -> bool | None:
    """A human who might approve may refuse, and so may any party above the actor."""
    if refusal.by in asked.above and refusal.by != asked.act.actor:
        return True
    if refusal.by_kind in _AGENTS:
        return False
    entitled = _is_entitled(refusal.by, asked)
    return entitled if refusal.by_kind == "human" or entitled is False else None


def _lifted(refusal: Approval, asked: _Asked) -> bool | None:
    """Whether the same or a higher party approved the act after that refusal, and before it was done."""
    found: bool | None = False
    for yes in asked.answers:
        if yes.answer != "approved" or not refusal.at < yes.at <= asked.act.occurred_at or not _is_of(yes, asked):
            continue
        if not yes.within_remit:
            found = None
            continue
        higher = yes.by == refusal.by or _rank(yes.by, asked) < _rank(refusal.by, asked)
        if yes.by_kind in _AGENTS and yes.by not in asked.above:
            continue
        if _price_exceeds(yes, asked) or (may := _is_entitled(yes.by, asked)) is False:
            continue
        equal = _rank(yes.by, asked) == _rank(refusal.by, asked)  # two humans of whom nobody says who stands higher
        if higher and may and not is_acting_side(yes.issuer, asked.act, asked.path, asked.tokens):
            return True
        found = None if higher or equal else found
    return found


def _rank(by: str, asked: _Asked) -> float:
    """How high a party stands: the principal first, then its organisation's people, then the path outward."""
    if by == asked.principal:
        return 0
    return 1 + asked.above.index(by) if by in asked.above else 0.5


def _may_be_about(answer: Approval, act: Act) -> bool:
    """Not another's, of another environment, or of something to be done elsewhere: a request's id is its provider's own."""
    if answer.environment != act.environment or _belongs(answer, act) is False:
        return False
    return bool(answer.over) or not answer.provider or not act.provider or answer.provider == act.provider


def _belongs(approval: Approval, act: Act) -> bool | None:
    """Whether the answer is in the name of the act's principal. None: whoever gave it may have meant somebody else's."""
    if not approval.principal or approval.principal == act.principal:
        return True
    return (
        None if approval.principal_is_giver and not approval.over and approval.request_id == act.request_id else False
    )


def _who(approval: Approval) -> str:
    return approval.by or "nobody named"


def _own(act: Act, record: Record, paid: Iterable[Act]) -> list[Approval]:
    return [own for told in (act, *paid) if (own := own_approval(told, record)) is not None]


def own_approval(act: Act, record: Record) -> Approval | None:
    """The gate that the act itself carries, with its kind of party as the record knows it."""
    gate = act.payload.gate
    if gate is None or gate.by is None:
        return None
    known = record.kind_of(gate.by.key)
    intent = act.payload.intent
    return Approval(
        event_id=act.event_id,
        leaf_index=act.leaf_index,
        kind=gate.kind,
        by=gate.by.key,
        by_kind=known if known != "unknown" else gate.by.kind,
        at=moment(gate.at) if gate.at is not None else act.occurred_at,
        over=gate.over,
        request_id=act.request_id,
        max_price_minor=intent.max_price_minor if intent else None,
        currency=intent.currency if intent else None,
        principal=act.principal,
        issuer=act.issuer,
        within_remit=act.within_remit and record.may_speak_for(act.source, gate.by.key),
        environment=act.environment,
    )


def _joins(approval: Approval, asked: _Asked) -> bool:
    """Whether an answer is bound to this act: by digest, else by request, where it does not name another thing."""
    act = asked.act
    if approval.over:
        return approval.over in asked.digests
    if approval.event_id == act.event_id or any(approval.event_id == paid.event_id for paid in asked.paid):
        return True
    if not approval.request_id or approval.request_id != act.request_id:
        return False
    # A payment's own target is its charge, which nobody could name before; a checkout that was approved is an order by then.
    kind = act.payload.action.target.type if act.payload.action and act.payload.action.target else ""
    return (
        act.type.startswith("payment.")
        or not (approval.target and act.target)
        or (bool(approval.target_type) and bool(kind) and approval.target_type != kind)
        or _names(approval.target, act)
    )


def names_alike(answer: Approval, act: Act) -> bool:
    """Whether an approval names a thing of the kind that the act was done to, and not its seller, order or account."""
    target = act.payload.action.target if act.payload.action else None
    kind = target.type.lower() if target else ""
    return bool(answer.target) and (not answer.target_type or not kind or answer.target_type.lower() == kind)


def _names(target: str, act: Act) -> bool:
    """Whether this is what the act was done to: names are compared as names, and nothing as a pattern."""
    return bool(target) and any(thing and _plain(target) == _plain(thing) for thing in (act.target, act.resource))


def _plain(thing: str) -> str:
    try:
        return domain.to_ascii(thing.strip().lower().rstrip(".")) if "." in thing else thing
    except ValueError:
        return thing


def _is_of(answer: Approval, asked: _Asked) -> bool:
    """Whether a refusal, or what takes it back, is of just this act: joined as an approval is, or of its verb and target."""
    act = asked.act
    same_thing = _names(answer.target, act)
    if answer.over and _joins(answer, asked):
        return True
    named_otherwise = bool(answer.verb and act.verb and answer.verb != act.verb)
    if not answer.over and not named_otherwise and _joins(answer, asked):
        return True
    return same_thing and answer.verb == act.verb != "" and answer.principal == act.principal


_Price = tuple[int | None, str | None]


def _digests(act: Act, record: Record, path: Path, paid: Iterable[Act]) -> dict[str, _Price]:
    """All that this act's parameters can hash to, and with which price: it may be the approval's, the intent's or the act's
    own.
    """
    own = [a.payload.intent for a in (act, *paid)]
    if not (asked := record.prices_asked(act)) and not any(
        a.payload.gate and a.payload.gate.over for a in (act, *paid)
    ):
        return {}
    prices: set[_Price] = {(None, None), (None, act.currency or None), *asked}
    prices |= {
        (intent.max_price_minor, intent.currency)
        for intent in (*own, *(grant.intent for grant in path.grants))
        if intent
    }
    prices |= {(told.amount_minor, told.currency) for told in (act, *paid) if told.amount_minor is not None}
    return {digest: (price, currency) for price, currency in prices for digest in over_digests(act, price, currency)}


def _price_exceeds(approval: Approval, asked: _Asked) -> bool:
    most = asked.most_minor
    return (
        approval.max_price_minor is not None
        and most is not None
        and (approval.currency or asked.currency).upper() == asked.currency
        and most > approval.max_price_minor
    )


def _used_by(approval: Approval, asked: _Asked) -> Act | None:
    """The earlier act that this approval was used up by, if there is one."""
    act, record = asked.act, asked.record
    if approval.event_id == act.event_id:
        return None
    for other in record.siblings_of(act):
        if other.event_id == act.event_id or not other.happened or other.principal != act.principal:
            continue
        if _is_told_twice(other, act) or _is_lapsed(other, act, record):
            continue
        if follows_an_act(other) and (
            not other.spends or other.charge in ("", act.charge) or done_act(other, record) is not None
        ):
            continue  # only the later word on an act, or one more on this very payment
        earlier = order(other) < order(act)
        own = other.payload.gate
        if not earlier or other.occurred_at < approval.at or (own and own.by):
            continue
        paid = [p for p in payments_of(other, record) if p.spends]
        if approval.kind in gates_required(other, is_paid_for=bool(paid)) and _joins(
            approval, _Asked(other, record, other.path, paid)
        ):
            return other
    return None


def _is_told_twice(other: Act, act: Act) -> bool:
    """Whether two statements may tell of one act: the same thing for the same money, under one request or by two sources at
    almost one time, with nothing that tells them apart.
    """
    if (other.verb, other.target, other.resource, other.provider, other.account) != (
        act.verb,
        act.target,
        act.resource,
        act.provider,
        act.account,
    ):
        return False
    by_two = other.source != act.source and abs(other.occurred_at - act.occurred_at) <= ALMOST
    if not by_two and (not act.request_id or other.request_id != act.request_id):
        return False
    apart = (
        (other.charge, act.charge),
        (other.idempotency_key, act.idempotency_key),
        (other.amount_minor, act.amount_minor),
        (other.request_id, act.request_id),
    )
    return not any(one and two and one != two for one, two in apart)


ALMOST = timedelta(hours=1)


def _is_lapsed(other: Act, act: Act, record: Record) -> bool:
    """Whether it was a hold that had ended before the act, and nothing was taken of it: the approval is still there."""
    if other.type != "payment.authorized":
        return False
    told = [each for each in record.siblings_of(other) if each.charge == other.charge]
    if any(each.spends and each.type != "payment.authorized" for each in told):
        return False
    ended = ("payment.refunded", "payment.failed")
    return act.occurred_at - other.occurred_at >= HOLD_ENDS or any(
        each.type in ended and each.occurred_at <= act.occurred_at for each in told
    )
