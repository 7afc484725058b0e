"""Rule and criterion never contradict each other in silence on one event, and a verdict knows only its own record."""

import random
from datetime import timedelta

from auditlog.core.chain.breaks import authority_breaks
from auditlog.core.chain.use import USE_TYPES, is_use
from auditlog.core.event import GRANTED, TOKEN_STATED
from auditlog.models import Event, Finding, FindingMember
from auditlog.reads.acts import load_acts
from auditlog.reads.chains import chains_of
from auditlog.reads.record import record_around, time_of
from disputes.adjudicate import adjudicate
from tests.chains import MUTATIONS, say, valid_chain

# What a rule says is what one of these criteria says, or it is the chain that is not known.
CRITERIA_OF = {
    "authority.used_after_revocation": {"C9"},
    "authority.used_after_expiry": {"C6"},
    "authority.audience_mismatch": {"C7"},
    "authority.out_of_scope": {"C3", "C4", "C6"},
    "authority.gate_missing": {"C8"},
    "authority.refused_and_done": {"C8"},
    "authority.key_mismatch": {"C11"},
    "authority.confused_deputy": {"C3", "C4"},
    "spend.authority_exceeded": {"C5", "C6"},
}
_SURE = ("high", "critical")


def contradictions(world):
    """(event, type, what is said) of every act on which a rule and its criterion differ."""
    ids = [
        str(pk)
        for pk in Event.objects.filter(tenant=world.row).order_by("leaf_index").values_list("event_id", flat=True)
    ]
    acts = load_acts(world.row, ids)
    verdicts = {verdict["event_id"]: verdict for verdict in adjudicate(world.row, ids)}
    record = record_around(world.row, list(acts.values()))
    results = {event_id: {c["id"]: c["result"] for c in verdict["criteria"]} for event_id, verdict in verdicts.items()}
    found: dict[str, set[str]] = {}
    for finding in Finding.objects.filter(tenant=world.row, rule__in=CRITERIA_OF).exclude(state="withdrawn"):
        for event_id in map(str, finding.event_ids):
            found.setdefault(event_id, set()).add(finding.rule)
            failed = {name for name in CRITERIA_OF[finding.rule] if results[event_id][name] == "fail"}
            sure = finding.severity in _SURE
            if not failed and (sure or results[event_id]["C1"] != "unknown"):
                yield (
                    event_id,
                    acts[event_id].type,
                    f"{finding.rule} ({finding.severity}) and no criterion fails: {finding.title}",
                )
    for event_id, act in acts.items():
        if (
            act.type not in USE_TYPES - GRANTED - TOKEN_STATED
            or not is_use(act, record)
            or verdicts[event_id]["verdict"] == "within_scope"
        ):
            continue
        for name in ("C3", "C4", "C6", "C7", "C8", "C9", "C11"):
            rules = {rule for rule, names in CRITERIA_OF.items() if name in names}
            # A token that is bound to another key than its grant is found once, where it was issued.
            said = found.get(event_id, set()) | (
                found.get(record.tokens[act.token].event_id, set()) if act.token in record.tokens else set()
            )
            if results[event_id][name] == "fail" and not rules & said:
                yield (
                    event_id,
                    act.type,
                    f"{name} fails and no rule says so: {[c['reason'] for c in verdicts[event_id]['criteria'] if c['id'] == name]}",
                )


def accusations(world):
    """Breaks that an event's page shows, and that neither a finding nor a verdict states: of the event, or of the very
    statement that the break is about.
    """
    ids = [
        str(pk)
        for pk in Event.objects.filter(tenant=world.row).order_by("leaf_index").values_list("event_id", flat=True)
    ]
    acts = load_acts(world.row, ids)
    chains = chains_of(world.row, list(acts.values()))
    found = list(Finding.objects.filter(tenant=world.row).exclude(state="withdrawn"))
    events = {str(event_id) for finding in found for event_id in finding.event_ids}
    leaves = {leaf for finding in found for leaf in finding.leaves}
    bad = {v["event_id"] for v in adjudicate(world.row, ids) if v["verdict"] == "out_of_scope" or v["decisive"]}
    for event_id, act in acts.items():
        for shown in authority_breaks(chains[event_id], act, time_of(world.row, act)):
            if event_id not in events | bad and shown.leaf_index not in leaves:
                yield event_id, act.type, shown.code, shown.reason


def test_no_page_of_an_event_accuses_it_of_what_nothing_else_states(database, told_once):
    assert not (bare := list(accusations(told_once))), "\n".join(map(str, bare))


def test_in_the_demo_story_no_rule_and_criterion_contradict_each_other(database, told_once):
    assert list(contradictions(told_once)) == []


def test_a_verdict_is_the_same_alone_together_and_shuffled(database, told_once):
    told = told_once
    ids = [str(pk) for pk in Event.objects.filter(tenant=told.row, type__in=USE_TYPES | {"payment.settled", "payment.refunded", "invoice.paid", "dispute.opened"})
           .order_by("leaf_index").values_list("event_id", flat=True)]  # fmt: skip
    together = {verdict["event_id"]: verdict["digest"] for verdict in adjudicate(told.row, ids)}
    shuffled = random.Random(3).sample(ids, 500)

    again = {verdict["event_id"]: verdict["digest"] for verdict in adjudicate(told.row, shuffled)}
    alone = {event_id: adjudicate(told.row, [event_id])[0]["digest"] for event_id in shuffled[:30]}

    assert again == {event_id: together[event_id] for event_id in again} and len(again) == 500
    assert alone == {event_id: together[event_id] for event_id in alone}


def test_on_chains_with_one_fault_rule_and_criterion_say_the_same(world):
    rng = random.Random(11)
    world.source("conductor", "https://conductor.example")
    number = 0
    for mutation in MUTATIONS:
        for _ in range(3):
            plan = valid_chain(rng, number := number + 1)
            if mutation(rng, plan) is not None:
                world.send(*say(world, plan)[0])
    world.settle(after=timedelta(hours=2))

    assert not (differing := list(contradictions(world))), "\n".join(map(str, differing))
    assert not (bare := list(accusations(world))), "\n".join(map(str, bare))


def test_what_a_finding_says_stands_beside_the_verdict_and_is_no_input_of_it(told):
    ids = [
        str(pk)
        for pk in Event.objects.filter(tenant=told.row).order_by("leaf_index").values_list("event_id", flat=True)
    ]
    verdicts = {verdict["event_id"]: verdict for verdict in adjudicate(told.row, ids)}
    reads = {held["reads"] for verdict in verdicts.values() for held in verdict["beside"]}

    assert "agrees" in reads and "counted" in reads and "differs" not in reads
    [deployed] = Finding.objects.filter(tenant=told.row, rule="authority.used_after_expiry")
    [event_id] = map(str, deployed.event_ids)
    assert [(h["rule"], h["criteria"], h["reads"]) for h in verdicts[event_id]["beside"]] == [
        (deployed.rule, ["C6"], "agrees")
    ]

    # A finding that nothing bears out: the verdict stays as it is, and says that the two differ.
    fine = next(v for v in verdicts.values() if v["verdict"] == "within_scope" and not v["beside"])
    act = Event.objects.get(tenant=told.row, event_id=fine["event_id"])
    made = Finding.objects.create(
        tenant=told.row, rule="authority.used_after_revocation", rule_version=1, anchor="made", partition="[]", severity="high", title="t",
        event_ids=[act.event_id], leaves=[act.leaf_index], first_at=told.now, last_at=told.now, detected_at=told.now,
    )  # fmt: skip
    FindingMember.objects.create(
        tenant=told.row, finding=made, leaf_index=act.leaf_index, event_id=act.event_id, place=0
    )
    [again] = adjudicate(told.row, [act.event_id])
    assert again["digest"] == fine["digest"] and again["verdict"] == "within_scope"
    [held] = again["beside"]
    assert (held["finding"], held["reads"], held["criteria"]) == (made.pk, "differs", ["C9"])

    made.state = Finding.State.WITHDRAWN
    made.save()
    assert adjudicate(told.row, [act.event_id])[0]["beside"] == []
