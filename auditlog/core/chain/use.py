"""Uses of authority, and what only follows them: a statement of money is judged through the act that it pays for.

Settlement, billing and disputes of an act are not acts. They are tied to their act by its charge at the rail, its
idempotency key or request id at the provider, or its invoice at the rail; what was in force is asked at the act's time.
"""

from auditlog.core.chain.act import ACT_TYPES, PAYMENT_TYPES, Act
from auditlog.core.chain.record import Record, invoice_of, subscription_of

USE_TYPES = frozenset(
    "project.created provider.linked account.requested account.created account.linked terms.accepted "
    "resource.requested resource.provisioned resource.updated resource.removed credential.issued "
    "credential.rotated domain.registered domain.renewed domain.transferred domain.deleted action.performed "
    "deployment.completed payment.authority_granted payment.authorized payment.captured subscription.started "
    "subscription.changed subscription.renewed usage.metered token.issued token.exchanged delegation.granted "
    "mandate.issued".split()
)
# What something can be paid for: an act, and no word on the money of one.
_DONE_TYPES = (ACT_TYPES | {"subscription.renewed"}) - PAYMENT_TYPES - {"payment.authority_granted"}
_TAKING = frozenset({"payment.captured", "payment.settled"})


def follows_an_act(act: Act) -> bool:
    """Whether this tells of the money of an act (paid, billed, disputed) and is none itself. What names nobody and only a
    thing is of the act that made the thing.
    """
    return bool(act.through) or act.type in PAYMENT_TYPES or act.type.startswith(("invoice.", "dispute."))


def done_act(act: Act, record: Record) -> Act | None:
    """The act that a statement of money pays for, bills or disputes. None: it is an act itself, or none is on record.

    The surest key decides. One that fits several acts says nothing, but that one of them cost just as much: then it was
    that one. Never another statement of money, nor an act in somebody else's name.
    """
    if not follows_an_act(act):
        return None
    if act.event_id not in record.done_acts:
        record.done_acts[act.event_id] = _find_done(act, record)
    return record.done_acts[act.event_id]


def _find_done(act: Act, record: Record) -> Act | None:
    around = [other for other in record.told_of(act) if _is_done(other) and _goes_with(other, act)]
    for fits in (_same_charge, _same_key, _same_invoice, _same_request):
        found = [other for other in around if fits(other, act)]
        if len({other.principal for other in found} - {""}) > 1:
            continue  # an id that two principals' acts share says nothing of whose act was paid for
        if len(found) > 1 and fits is not _same_charge:
            found = [
                other for other in found if (other.amount_minor, other.currency) == (act.amount_minor, act.currency)
            ]
            found = found if len(found) == 1 else []
        if found:
            return min(found, key=order)
    return _held_before(act, record) or _subscribed(act, record)


def _subscribed(act: Act, record: Record) -> Act | None:
    """The act by which a subscription began its period, or was renewed, of which this is the bill or pays it: what neither
    charge nor invoice ties to it, the invoice's own subscription and period do.
    """
    bills = [act] if subscription_of(act) else []
    if invoice_of(act):
        bills += [
            other for other in record.told_of(act) if other.type == "invoice.issued" and _same_invoice(other, act)
        ]
    found = {
        other.event_id: other
        for bill in bills
        if subscription_of(bill) and _goes_with(bill, act)
        for other in record.told_of(bill)
        if _is_done(other) and other.type != "usage.metered" and _goes_with(other, act) and _same_term(other, bill)
    }
    return next(iter(found.values())) if len(found) == 1 else None


def _same_term(other: Act, bill: Act) -> bool:
    """Whether both state one subscription, at one seller or rail, and one period of it."""
    mine, theirs = other.payload.money, bill.payload.money
    if mine is None or theirs is None or mine.subscription != theirs.subscription:
        return False
    if mine.period is None or theirs.period is None or mine.period.begins != theirs.period.begins:
        return False
    return other.provider == bill.provider or (other.rail != "" and other.rail == bill.rail)


def _held_before(act: Act, record: Record) -> Act | None:
    """The hold that this is the capture of: what was held while its authority stood may be taken after. What is more than
    was held, or names another authority, stands by itself.
    """
    if act.type not in _TAKING or act.amount_minor is None:
        return None
    holds = [
        other for other in record.told_of(act)
        if other.type == "payment.authorized" and other.happened and other.within_remit and _names_authority(other)
        and _goes_with(other, act) and order(other) < order(act) and _within(act, other)
        and (_same_charge(other, act) or _same_key(other, act))
        and (not (act.grant or act.token) or act.via_grant == other.via_grant)
    ]  # fmt: skip
    return min(holds, key=order, default=None)


def _within(act: Act, hold: Act) -> bool:
    return hold.amount_minor is not None and hold.currency == act.currency and act.amount_minor <= hold.amount_minor


def paid_together(act: Act, record: Record) -> list[Act]:
    """The acts that one statement of money pays for or bills, where they are several: each is judged by itself."""
    if not follows_an_act(act) or done_act(act, record) is not None:
        return []
    around = [other for other in record.told_of(act) if _is_done(other) and _goes_with(other, act)]
    found = [
        other for other in around if _same_charge(other, act) or _same_key(other, act) or _same_invoice(other, act)
    ]
    return found if len(found) > 1 else []


def answers_for(act: Act, record: Record) -> Act:
    """What a statement is judged through: the act that it pays for; failing that, where it names no authority itself,
    the agent's own side of the same payment, since a payment system and a bank name no grant; else itself.
    """
    done = record.making_of(act) or done_act(act, record)
    if done is not None or not follows_an_act(act) or _names_authority(act):
        return done or act
    ours = [
        other for other in record.told_of(act)
        if other.type in PAYMENT_TYPES and other.event_id != act.event_id and _names_authority(other) and _goes_with(other, act)
        and (_same_charge(other, act) or _same_invoice(other, act))
    ]  # fmt: skip
    return min(ours, key=order, default=act)


def payments_of(act: Act, record: Record) -> list[Act]:
    """The statements of money that are judged through this act, in leaf order."""
    if follows_an_act(act):
        return []
    return [
        other for other in record.told_of(act)
        if follows_an_act(other) and (done := done_act(other, record)) is not None and done.event_id == act.event_id
    ]  # fmt: skip


def is_use(act: Act, record: Record) -> bool:
    """Whether this is a use of authority, and not the later word on one."""
    if not act.happened or act.environment != "live" or act.through or not act.within_remit:
        return False
    if not follows_an_act(act):
        return True
    return bool(act.grant or act.token) and done_act(act, record) is None


def done_in_person(act: Act, record: Record) -> bool | None:
    """Whether this is the principal's own act, for which nobody needs a grant. None: it is told so, and by what else it
    says, or by who tells it, cannot be taken for it. False: it is not told so.
    """
    if act.payload.mode != "direct":
        return False
    said = act.payload.actor
    if (
        not act.within_remit
        or not act.principal
        or act.actor != act.principal
        or (said is not None and said.act is not None)
    ):
        return None
    kind = record.kind_of(act.actor) if record.kind_of(act.actor) != "unknown" else (said.kind if said else "unknown")
    if _names_authority(act) or kind != "human" or act.issuer in record.agent_issuers:
        return None
    return True


def _is_done(act: Act) -> bool:
    return act.type in _DONE_TYPES and act.happened and act.within_remit


def _goes_with(other: Act, act: Act) -> bool:
    """Whether nothing that both say keeps them apart."""
    return other.environment == act.environment and (
        not other.principal or not act.principal or other.principal == act.principal
    )


def _same_charge(other: Act, act: Act) -> bool:
    return bool(act.charge) and other.charge == act.charge and _same_rail(other, act)


def _same_rail(other: Act, act: Act) -> bool:
    """An unstated rail is any of one principal's, or of a payment of which nobody says whose it is."""
    return other.rail == act.rail or (
        "" in (other.rail, act.rail)
        and (other.principal or act.principal) != ""
        and other.principal in ("", act.principal or other.principal)
    )


def _same_key(other: Act, act: Act) -> bool:
    return bool(act.idempotency_key) and other.idempotency_key == act.idempotency_key and _same_provider(other, act)


def _same_request(other: Act, act: Act) -> bool:
    return bool(act.request_id) and other.request_id == act.request_id and _same_provider(other, act)


def _same_invoice(other: Act, act: Act) -> bool:
    return bool(invoice_of(act)) and (other.rail, invoice_of(other)) == (act.rail, invoice_of(act))


def _same_provider(other: Act, act: Act) -> bool:
    return other.provider == act.provider or (other.principal != "" and "" in (other.provider, act.provider))


def _names_authority(act: Act) -> bool:
    return bool(act.grant or act.token or act.path.grants)


def order(act: Act) -> tuple:
    """Earlier first; of one time by what they say, so that the order of arrival comes last."""
    return act.occurred_at, act.charge, act.idempotency_key, act.request_id, act.leaf_index
