"""The bodies of the API as its generated description gives them. Nothing is built from these: serializers.py and the
reads are what answers, and tests/integration/test_api.py holds one against the other.
"""

from typing import Any

from drf_spectacular.utils import inline_serializer
from rest_framework import serializers as s


def shape(name: str, /, **fields: s.Field) -> s.Serializer:
    return inline_serializer(name, fields)


def text(help_text: str = "", **more: Any) -> s.CharField:
    return s.CharField(help_text=help_text or None, **more)


def or_null(help_text: str = "") -> s.CharField:
    return s.CharField(help_text=help_text or None, allow_null=True)


def number(help_text: str = "", **more: Any) -> s.IntegerField:
    return s.IntegerField(help_text=help_text or None, **more)


def moment(help_text: str = "", **more: Any) -> s.DateTimeField:
    return s.DateTimeField(help_text=help_text or None, **more)


def yes(help_text: str = "", **more: Any) -> s.BooleanField:
    return s.BooleanField(help_text=help_text or None, **more)


def texts(help_text: str = "") -> s.ListField:
    return s.ListField(child=s.CharField(), help_text=help_text or None)


def numbers(help_text: str = "") -> s.ListField:
    return s.ListField(child=s.IntegerField(), help_text=help_text or None)


def anything(help_text: str = "") -> s.DictField:
    return s.DictField(help_text=help_text or None, allow_null=True)


def party(help_text: str = "", *, null: bool = True) -> s.Serializer:
    return PartyShape(help_text=help_text or None, allow_null=null)


def page(name: str, row: s.Serializer) -> s.Serializer:
    """A page of a list: its rows, and the address of the next page or null."""
    return shape(
        name,
        results=type(row)(many=True),
        next=s.URLField(allow_null=True, help_text="The next page; null after the last."),
    )


PartyShape = type(
    shape(
        "Party",
        iss=or_null("The issuer that names it; null of one that the caller may not see."),
        sub=text("Its name at the issuer, or the stub in its place."),
        kind=text("human, agent, workload, service or unknown.", required=False),
        claimed=yes("Whether only a source says so, and no grant on record.", required=False),
        hidden=yes("Whether this is a stub.", required=False),
    )
)
MONEY = shape(
    "Money",
    amount_minor=number("In minor units of the currency (cents of EUR)."),
    currency=text("ISO 4217, upper case."),
    phase=text(),
    rail=text(),
    charge=or_null(),
    invoice=or_null(),
    authority=or_null(),
)
EVENT = shape(
    "Event",
    id=s.UUIDField(),
    source=text(),
    source_event_id=text("The id that the source gave it."),
    leaf_index=number("Its place in the log."),
    type=text(required=False),
    occurred_at=moment("When it happened, as the source says.", required=False),
    received_at=moment("When it arrived here."),
    outcome=text("success, failure, denied, pending or unknown.", required=False),
    environment=text("live or test.", required=False),
    principal=PartyShape(allow_null=True, required=False),
    actor=PartyShape(allow_null=True, required=False),
    provider=s.CharField(allow_null=True, required=False),
    account=s.CharField(allow_null=True, required=False),
    verb=s.CharField(allow_null=True, required=False),
    target=s.DictField(allow_null=True, required=False, help_text="{type, id}"),
    resource=s.CharField(allow_null=True, required=False),
    money=type(MONEY)(allow_null=True, required=False),
    grant=s.CharField(allow_null=True, required=False),
    token=s.CharField(allow_null=True, required=False),
    txn=s.CharField(allow_null=True, required=False),
    session=s.CharField(allow_null=True, required=False),
    task=s.CharField(allow_null=True, required=False),
    request_id=s.CharField(allow_null=True, required=False),
    grade=text("The evidence grade of its signature, A to F."),
    within_remit=yes("Whether the source may speak for this at all.", required=False),
    chain=s.DictField(required=False, help_text="{complete, proven, depth}"),
    projected=yes("Whether it is read already; if not, only its place in the log is known."),
)
EVENTS = page("EventPage", EVENT)
TIMELINE = page(
    "TimelinePage",
    shape(
        "TimelineEvent", **dict(type(EVENT)().fields), belongs=or_null("Why an event that does not name it is here.")
    ),
)
MEMBER = shape(
    "StoryMember",
    **dict(type(EVENT)().fields),
    claimed=yes("Whether only its sender says that it belongs."),
    keys=s.ListField(child=s.DictField(), help_text="By what it is joined."),
)
FINDING = shape(
    "Finding",
    id=number(),
    rule=text(),
    rule_version=number(),
    severity=text(),
    state=text("open, acknowledged, resolved, false_positive or withdrawn."),
    title=text(),
    principal=party(),
    actor=party(),
    grant=or_null(),
    provider=or_null(),
    event_ids=texts("The events that it rests on and that the caller may see."),
    leaves=numbers("Their places in the log."),
    events_total=number("How many of the events that it rests on the caller may see, listed here or not."),
    others=number("How many more events it rests on, which the caller may not see."),
    money_at_risk=s.DictField(
        allow_null=True, help_text="{amount_minor, currency}; null where the rule states no amount."
    ),
    first_at=moment(allow_null=True),
    last_at=moment(allow_null=True),
    detected_at=moment(),
    withdrawn_by_leaf=number(allow_null=True),
    evidence=anything("What the detector recorded, by rule."),
    runbook=text("What to do about it."),
    withheld=texts("Parts that the caller may not read."),
    incident=or_null("The reference of the incident that it is in; null until it is gathered, a moment later."),
)
FINDINGS = page("FindingPage", FINDING)
PARTIES = page("PartyPage", shape("PartyRow", iss=text(), sub=text(), kind=text(), first_at=moment(), last_at=moment()))
GRANTS = page(
    "GrantPage",
    shape(
        "Grant",
        id=text(), parent=or_null(), stated=yes("Whether a source states it, or others only name it."), subject=party(),
        actor=party(), principal=party(), complete=yes(), proven=yes(), depth=number(), granted_at=moment(allow_null=True),
        expires_at=moment(allow_null=True), revoked_at=moment(allow_null=True), leaf_index=number(allow_null=True),
        authorization_details=s.ListField(child=s.DictField(), allow_null=True),
        limits=s.ListField(child=s.DictField(), allow_null=True), gates=texts(), standing=text("proven, claimed or unknown."),
        attester=or_null("The issuer that states it."), event=or_null("The event in which it is stated."),
        conflicts=s.ListField(help_text="Statements of it that disagree."),
    ),
)  # fmt: skip
TOKENS = page(
    "TokenPage",
    shape(
        "Token",
        jti=text(), parent_jti=or_null(), stated=yes(), grant=or_null(), subject=party(), actor=party(),
        issued_at=moment(allow_null=True), expires_at=moment(allow_null=True), revoked_at=moment(allow_null=True),
        leaf_index=number(allow_null=True),
    ),
)  # fmt: skip
LIMITS = page(
    "LimitPage",
    shape(
        "Limit",
        leaf_index=number(), event=text(), verb=text(), holder=party(), grant=or_null(), scope=text(), scope_id=or_null(),
        provider=or_null(), currency=or_null(), interval=text(), zone=or_null(), max_minor=number(allow_null=True),
        enforcement=text(), set_by=party(), occurred_at=moment(),
    ),
)  # fmt: skip
SOURCES = shape(
    "SourceList",
    results=type(
        shape(
            "Source",
            name=text(), format=text(), issuer=text(), provider=or_null(), layers=texts(), speaks_for=texts(), state=text(),
            heartbeat_seconds=number(allow_null=True), keys=texts("Ids of the keys in use."),
            last_received_at=moment(allow_null=True),
        )
    )(many=True),
    next=s.URLField(allow_null=True),
)  # fmt: skip
PROOF = shape(
    "InclusionProof",
    leaf_index=number("The event's place in the log."),
    leaf_hash=text("RFC 6962, in base64."),
    leaf=text("The leaf's canonical bytes, in base64."),
    salt=or_null("What the leaf's digest was salted with, in base64."),
    absence=or_null("Why there is no payload, where there is none."),
    source_event_id=or_null(),
    signed_headers=or_null("The headers under the signature, in base64."),
    tree_size=number("Of the checkpoint."),
    hashes=texts("From the leaf to the root, in base64."),
    checkpoint=text("The signed checkpoint that covers the leaf, with its cosignatures."),
)
SPENT = page(
    "SpendPage",
    shape(
        "Spend",
        currency=text(),
        credits=yes("Whether this was paid in credits."),
        spent_minor=number("What is certain."),
        at_most_minor=number("More, where two statements are perhaps of the same money."),
        returned_minor=number(),
        charges=number("How many charges."),
    ),
)


def many(help_text: str = "", **fields: s.Field) -> s.Serializer:
    """A list of small objects, named after the fields that they have."""
    return type(shape("".join(name.title().replace("_", "") for name in fields)[:60], **fields))(
        many=True, help_text=help_text or None
    )


CHAIN = shape(
    "Chain",
    complete=yes("Whether it leads to a human."),
    proven=yes("Whether every hop is stated by a source that may speak for it."),
    mode=text("delegation, impersonation or direct."),
    principal=party(),
    at=moment("The time that `effective` and `breaks` are judged at."),
    hops=s.ListField(child=s.DictField(), help_text="Oldest first: who received what from whom, who attests it, what it allows."),
    effective=anything("What all grants together allowed at `at`; null without a grant."),
    breaks=many(
        "Where it does not hold.",
        hop=number(allow_null=True), code=text(), reason=or_null(), leaf_index=number(allow_null=True), supplier=or_null(),
    ),
    gates=many(
        "Approvals that the act needed.",
        kind=text(), state=text("approved, refused, not_counted, asked or unknown."), by=party(), at=moment(allow_null=True),
        event=or_null(), leaf_index=number(allow_null=True), own=yes(), reason=or_null(),
    ),
)  # fmt: skip
STORY = shape(
    "Story",
    event=s.UUIDField(),
    sources=texts("Who tells of this act."),
    members=type(MEMBER)(many=True, help_text="Each statement."),
    hidden=number("How many more statements there are, which the caller may not see."),
    more=number("How many more there are, which are not listed."),
    cut=yes("Whether keys lead further than they were followed."),
    keys=s.ListField(child=s.DictField(), help_text="By what the statements are joined, and who says so."),
    disagreements=many(kind=text(), words=text(), events=texts(), minor=yes()),
    money=many(
        "Lines of the books that these statements are counted in.",
        rail=text(), charge=or_null(), currency=text(), book=text(), spent_minor=number(), at_most_minor=number(),
        authorized_minor=number(), returned_minor=number(), counted=texts(), once=yes(),
    ),
    possibly_same=many(event=text(), source=text(), confidence=s.JSONField(), words=text()),
)  # fmt: skip
_HELD = {
    "kind": text(), "id": text(), "provider": or_null(), "account": or_null(), "how": text(), "made_at": moment(),
    "live": yes(), "ended_at": moment(allow_null=True), "recoverable": s.JSONField(allow_null=True), "event": text(),
}  # fmt: skip
REACH = shape(
    "Reach",
    of=s.DictField(help_text="{kind, key}"),
    grants=number(), tokens=number(), acts=number(), first_at=moment(allow_null=True), last_at=moment(allow_null=True),
    sources=number(), providers=texts(), agents=PartyShape(many=True), agents_count=number(),
    principals=PartyShape(many=True), spend=many(currency=text(), amount_minor=number(), authorized_minor=number()),
    holdings=many(**_HELD), holdings_more=yes(),
)  # fmt: skip
DESCENDANTS = page(
    "DescendantPage",
    shape(
        "Descendant",
        kind=text("grant or token."), id=text(), parent=or_null(), subject=party(), actor=party(), at=moment(allow_null=True),
        expires_at=moment(allow_null=True), revoked_at=moment(allow_null=True), leaf_index=number(allow_null=True),
    ),
)  # fmt: skip
COMPARISON = shape(
    "Comparison",
    one=text(), other=text(), shared_hops=number("How many hops both have, from the root."),
    missing=anything("The grant that nobody stated, by side."),
    hops=many(position=number(), one=anything(), other=anything(), same=yes(), differs=texts()),
)  # fmt: skip
PERMISSIONS = page(
    "PermissionPage",
    shape(
        "Permission",
        grant=text(), agent=party(), granted_at=moment(allow_null=True), expires_at=moment(allow_null=True),
        revoked_at=moment(allow_null=True), lifetime_s=number(allow_null=True), live=yes(), ended_by=anything("{grant, at, revoked}"), ends_at=moment(allow_null=True),
        passed_on=number(), standing=text(), provider=or_null(),
        action=or_null(), resources=texts(), allowed=yes("Null: not known.", allow_null=True), used=number(),
        last_used=moment(allow_null=True),
        uses=many(provider=or_null(), type=text(), verb=or_null(), count=number()),
    ),
)  # fmt: skip
INVENTORY = page(
    "InventoryPage",
    shape(
        "Holding",
        kind=text(), id=text(), provider=or_null(), customer_of_record=or_null(), how=text("made or linked."),
        matched_by=or_null(), made_at=moment(), live=yes(), ended_at=moment(allow_null=True),
        recoverable=s.JSONField(allow_null=True), reachable_without_orchestrator=yes(allow_null=True),
        transferable=yes(allow_null=True), made_by=party(), principal=party(), grant=or_null(), event=text(),
    ),
)  # fmt: skip
EXPOSURE = shape(
    "Exposure",
    at=moment(),
    currencies=many(
        currency=text(), spent_minor=number(), credits_minor=number(), in_flight_minor=number(),
        unused_ceilings_minor=number(), exposure_minor=number(),
    ),
    payments=number(), told_by_several=number(),
    recurring_due=s.ListField(allow_null=True, help_text="Null: there are subscriptions, and nobody states what they cost."),
    live_subscriptions=s.JSONField(), taken_in=number(), more=number(), at_least=yes(),
)  # fmt: skip
_STOP = {
    "ref": text(), "kind": text(), "key": text(), "party": party(), "reason": text(), "drill": yes(), "state": text(),
    "by": text(), "at": moment(), "policy": number(allow_null=True), "lift": anything("Who proposed to lift it, and who agreed."),
}  # fmt: skip
STOPS = page("StopPage", shape("StopRow", **_STOP))
STOP = shape(
    "StopWhole",
    **_STOP,
    finding=number(allow_null=True),
    signals=many(
        "Each signal, and what became of it.",
        id=number(), receiver=text(), kind=text(), what=text(), state=text(), attempts=number(), sent_at=moment(allow_null=True),
        accepted_at=moment(allow_null=True), effective_at=moment(allow_null=True), error=or_null(),
    ),
    since=anything("What was done since; null for a drill."),
)  # fmt: skip
RESPONSE = shape(
    "Response",
    id=text(allow_null=True), kind=text(), target=s.DictField(), state=text(), drill=s.BooleanField(), reason=text(), at=moment(),
    receivers=many("Each receiver, and what became of it.", name=text(), state=text(allow_null=True), at=moment(allow_null=True), answer=or_null()),
    without_channel=number(allow_null=True),
    escaped=anything("Events and money since; null for a drill or a dry run."),
)  # fmt: skip
RESPONSES = page("ResponsePage", RESPONSE)
STOP_REACH = shape(
    "StopReach",
    kind=text(), key=text(), things=s.ListField(child=s.DictField()), more=s.JSONField(), without_channel=number(),
    receivers=many(name=text(), kind=text(), tested_at=moment(allow_null=True), state=text()),
)  # fmt: skip
BILLS = page(
    "BillPage",
    shape(
        "Bill", id=text(), format=text(), provider=text(), file_name=text(), sha256=text(), grade=text("F: handed in; E: fetched by us."),
        imported_at=moment(), importer=text(), leaf_index=number("The leaf that commits to its bytes."), lines=number(), new_lines=number(),
        changed_lines=number("Known already, and said otherwise now: not taken."), begins=moment(), ends=moment(),
        totals=many("By currency and state.", currency=text(), state=text(), amount_minor=number(), lines=number()),
    ),
)  # fmt: skip
BILL_LINES = page(
    "BillLinePage",
    shape(
        "BillLineRow", place=number(), state=text("matched, differs, unexplained, apart or missing."), reason=text(), at=moment(), until=moment(),
        amount_minor=number(), currency=text(), kind=text(), difference_minor=number("Billed less recorded."), provider=text(), account=text(),
        resource=text(), operation=text(), refs=texts(), api_key=text(), description=text(),
        charges=many("What on record it goes with.", event=text(), amount_minor=number(), agent=text(), principal=text()),
    ),
)  # fmt: skip
