"""Gather findings into incidents: what was written since the last look, with its neighbours (core.incident says who belongs to whom).

Every write of a finding leaves a row (sql/incidents.sql); a round takes some, under the tenant's lock, in one transaction with what
it does. Of each it looks at the acts that the finding names (SHOWN at most), finds the incidents that these are linked to, and
gathers those few anew. Where they are large, a finding that is new or has grown is joined to them without that, which gives the
same; and an incident in which a link was lost is gathered anew when its turn comes. Gathering all findings at once gives the same.

The oldest reference is kept: of incidents that become one, the newer ones lead to it. What splits off gets a reference of its own.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Case, Count, F, IntegerField, Max, Min, Q, QuerySet, Sum, Value, When
from django.db.models.functions import Greatest

from auditlog.core.finding import SEVERITIES
from auditlog.core.incident import (
    AHEAD,
    GAP,
    OF_EVENTS,
    ActKeys,
    Apart,
    Linked,
    Stake,
    gather,
    linked,
    over_of,
    share_acts,
)
from auditlog.database.bulk import copy_rows, fetch_rows
from auditlog.detectors import is_sum
from auditlog.models import (
    Finding,
    Incident,
    IncidentDirty,
    IncidentFinding,
    IncidentHand,
    IncidentLink,
    IncidentNumber,
    IncidentStep,
    Tenant,
)
from auditlog.projection.generation import generation_of

ROUND = 100  # findings
LARGE = 20_000  # acts named by the findings of incidents that are gathered anew at once
COST = timedelta(microseconds=100)  # of one of those acts, many times what it takes
LISTED = 50  # findings that a step of the log names
_EVER = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))
Kind, State = IncidentStep.Kind, Incident.State
_RANK = Case(
    *(When(severity=name, then=Value(rank)) for rank, name in enumerate(SEVERITIES)),
    default=Value(0),
    output_field=IntegerField(),
)


def gather_findings(tenant: Tenant, *, now: datetime, limit: int = ROUND) -> int:
    """One round. Returns how many rows it took up; 0 when there is nothing to look at."""
    if not IncidentDirty.objects.filter(tenant=tenant, due_at__lte=now).exists():
        return 0
    with transaction.atomic():
        number = lock(tenant)
        findings, incidents = _take(tenant, now=now, limit=limit)
        if findings or incidents:
            _Round(tenant, number, now).look(sorted(findings), incidents)
        return len(findings) + len(incidents)


def regather(tenant: Tenant, incidents: Iterable[int], *, now: datetime) -> None:
    """Gather some incidents anew, whatever their size: a person has decided something of them. Within a transaction."""
    _Round(tenant, lock(tenant), now).look([], set(incidents))


def gathered_at_once(tenant: Tenant) -> list[tuple[int, ...]]:
    """The incidents that all findings that stand come to, gathered from nothing: what tests hold the kept ones against."""
    together, apart = _hands(tenant)
    rows = Finding.objects.filter(tenant=tenant).exclude(state=Finding.State.WITHDRAWN)
    return gather(_linked(tenant, list(rows)).values(), together=together, apart=apart)


def lock(tenant: Tenant) -> IncidentNumber:
    """One round at a time: two would give two incidents to one cause."""
    IncidentNumber.objects.get_or_create(tenant=tenant)
    return IncidentNumber.objects.select_for_update().get(tenant=tenant)


def _take(tenant: Tenant, *, now: datetime, limit: int) -> tuple[set[int], set[int]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM incident_dirty WHERE id IN (SELECT id FROM incident_dirty WHERE tenant_id = %s AND due_at <= %s"
            " ORDER BY due_at, id LIMIT %s FOR UPDATE) RETURNING finding_id, incident_id",
            [tenant.pk, now, limit],
        )
        rows = cursor.fetchall()
    return {finding for finding, _ in rows if finding}, {incident for _, incident in rows if incident}


@dataclass
class _Round:
    tenant: Tenant
    number: IncidentNumber
    now: datetime
    came: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))  # by incident: findings new to it
    opened: set[int] = field(default_factory=set)

    def look(self, findings: Sequence[int], turns: set[int]) -> None:
        """Look at these findings, and at incidents whose turn it is."""
        merged = Incident.objects.filter(pk__in=turns, merged_into__isnull=False)
        turns = {dict(merged.values_list("pk", "merged_into")).get(pk, pk) for pk in turns}
        rows = {row.pk: row for row in Finding.objects.filter(tenant=self.tenant, pk__in=findings).defer("event_ids")}
        before = IncidentFinding.objects.filter(tenant=self.tenant, finding__in=rows)
        places = {place.finding_id: place for place in before}
        # What was erased says no longer what it was linked by: it stays where it is.
        seen = _linked(
            self.tenant,
            [
                row
                for row in rows.values()
                if row.state != "withdrawn" and not ("erased" in row.evidence and row.pk in places)
            ],
        )
        lost = self._write(rows, seen, places)
        was_in = {place.finding_id: place.incident_id for place in places.values() if place.incident_id}
        reached = self._reached(seen, was_in)
        changed = set(was_in.values())
        for ids, incidents in _parts(seen, was_in, reached, turns):
            self._settle(ids, incidents, has_lost=not lost.isdisjoint(ids), is_turn=not turns.isdisjoint(incidents))
            changed |= incidents
        changed |= (
            set(IncidentFinding.objects.filter(finding__in=rows).values_list("incident", flat=True)) | self.opened
        )
        for incident in Incident.objects.filter(tenant=self.tenant, pk__in=changed).order_by("number"):
            self._refresh(incident)

    # --- what links them ------------------------------------------------------------------------------------------------

    def _write(
        self, rows: Mapping[int, Finding], seen: Mapping[int, Linked], places: dict[int, IncidentFinding]
    ) -> set[int]:
        """Write what links these findings. Returns those that something may link no longer."""
        lost: set[int] = set()
        anew: list[Linked] = []
        for pk, row in rows.items():
            place, each = places.get(pk), seen.get(pk)
            if each is None:
                if place is not None and row.state == "withdrawn" and place.stands:
                    lost.add(pk)
                    IncidentFinding.objects.filter(finding=pk).update(stands=False)
                    IncidentLink.objects.filter(tenant=self.tenant, finding=pk).delete()
                continue
            leaves = list(row.leaves)
            told = {
                "stands": True, "is_sum": each.is_sum, "links": sorted(each.links), "leaves": _digest(leaves), "named": len(leaves),
                "first_at": each.first_at, "last_at": each.last_at, "undo_until": undo_until(row.evidence),
            }  # fmt: skip
            if place is None:
                IncidentFinding.objects.create(finding=row, tenant=self.tenant, **told)
                anew.append(each)
                continue
            if place.stands and _may_have_lost(place, each, leaves):
                lost.add(pk)
            if not place.stands or (place.links, place.first_at, place.last_at) != (
                told["links"],
                each.first_at,
                each.last_at,
            ):
                IncidentLink.objects.filter(tenant=self.tenant, finding=pk).delete()
                anew.append(each)
            if any(getattr(place, name) != value for name, value in told.items()):
                IncidentFinding.objects.filter(finding=pk).update(**told)
        links = [(self.tenant.pk, link, each.id, each.first_at, each.last_at) for each in anew for link in each.links]
        if links:
            types = {
                "tenant_id": "int8",
                "link": "varchar",
                "finding_id": "int8",
                "first_at": "timestamptz",
                "last_at": "timestamptz",
            }
            copy_rows("incident_link", types, links)
        return lost

    def _reached(self, seen: Mapping[int, Linked], was_in: Mapping[int, int]) -> dict[int, set[int]]:
        """By finding, the incidents of others that it is linked to."""
        found: dict[int, set[int]] = {id: set() for id in seen}
        asked = [
            (id, link, *(_EVER if link.startswith("k") else (each.first_at - GAP, each.last_at + GAP)))
            for id, each in seen.items()
            for link in each.links
        ]
        if asked:
            ids, links, since, until = map(list, zip(*asked, strict=True))
            params = {"tenant": self.tenant.pk, "ids": ids, "links": links, "since": since, "until": until}
            for id, incident in fetch_rows(_BY_LINK, params):
                found[id].add(incident)
        leaves = list({leaf for each in seen.values() for leaf in each.leaves})
        if leaves:
            beside = dict(fetch_rows(_BY_LEAF, {"tenant": self.tenant.pk, "leaves": leaves, "mine": list(seen)}))
            for other in self._kept(Q(finding__in=list(beside))).values():
                for id, each in seen.items():
                    if was_in.get(id) != beside[other.id] and share_acts(each, other):
                        found[id].add(beside[other.id])
        return found

    def _kept(self, which: Q) -> dict[int, Linked]:
        """Findings that stand, as they were last looked at."""
        rows = IncidentFinding.objects.filter(which, tenant=self.tenant, stands=True).values_list(
            "finding_id",
            "finding__principal",
            "first_at",
            "last_at",
            "finding__leaves",
            "links",
            "is_sum",
            "finding__rule",
        )
        return {
            id: Linked(
                id, principal, first, last, frozenset(() if _is_of_source(rule) else leaves), frozenset(links), summed
            )
            for id, principal, first, last, leaves, links, summed, rule in rows
        }

    # --- where they belong ----------------------------------------------------------------------------------------------

    def _settle(self, ids: set[int], incidents: set[int], *, has_lost: bool, is_turn: bool) -> None:
        """Place findings that are linked to one another or to these incidents, of which there may be none."""
        known = {row.pk: row for row in Incident.objects.filter(pk__in=incidents)}
        by_hand = any(row.is_by_hand for row in known.values())
        named = IncidentFinding.objects.filter(tenant=self.tenant, incident__in=incidents)
        size = named.aggregate(all=Sum("named"))["all"] or 0
        if size > LARGE and not is_turn:
            if has_lost or by_hand:
                turns = [
                    IncidentDirty(tenant=self.tenant, incident_id=pk, due_at=self.now + COST * size) for pk in incidents
                ]
                IncidentDirty.objects.bulk_create(turns)
            self._join(ids, list(known.values()), is_one=not by_hand)
            return
        together, apart = _hands(self.tenant) if by_hand else ([], [])
        if by_hand:
            self._with_hands(incidents, together, apart)
        members = self._kept(Q(incident__in=incidents) | Q(finding__in=ids))
        self._place(gather(members.values(), together=together, apart=apart), incidents)

    def _with_hands(self, incidents: set[int], together: Sequence[tuple[int, int]], apart: Sequence[Apart]) -> None:
        """What people took apart or put together is looked at as a whole."""
        decided = [frozenset(pair) for pair in together] + [one | other for one, other in apart]
        placed = IncidentFinding.objects.filter(tenant=self.tenant).exclude(incident=None)
        was_in = dict(placed.filter(finding__in=frozenset().union(*decided)).values_list("finding_id", "incident_id"))
        more = [{was_in[id] for id in ids if id in was_in} for ids in decided]
        while wider := [each for each in more if each & incidents and not each <= incidents]:
            incidents.update(*wider)

    def _join(self, ids: set[int], known: Sequence[Incident], *, is_one: bool) -> None:
        """Put new findings into the oldest of the incidents, and, where they link them to others, make them one."""
        oldest, *others = sorted(known, key=lambda row: row.number)
        new = IncidentFinding.objects.filter(finding__in=ids, incident=None)
        self._put(oldest, set(new.values_list("finding_id", flat=True)))
        for other in others if is_one else ():
            self._merge(other, oldest)

    def _place(self, groups: Sequence[tuple[int, ...]], incidents: Collection[int]) -> None:
        """Give every group its incident: the oldest of those that its findings are in and that no older group has taken."""
        known = {row.pk: row for row in Incident.objects.filter(pk__in=incidents)}
        every = [id for group in groups for id in group]
        was_in: dict[int, int] = dict(
            IncidentFinding.objects.filter(finding__in=every)
            .exclude(incident=None)
            .values_list("finding_id", "incident_id")
        )
        taken: dict[int, Incident] = {}  # by incident: itself, and of one that is left, where its oldest finding went
        gone: dict[int, Incident] = {}
        for group in groups:
            mine = sorted(
                (known[pk] for pk in {was_in.get(id) for id in group} if pk in known), key=lambda row: row.number
            )
            target = next((row for row in mine if row.pk not in taken), None) or self._open(group, mine)
            taken[target.pk] = target
            for id in group:
                if id in was_in:
                    gone.setdefault(was_in[id], target)
            self._put(target, {id for id in group if was_in.get(id) != target.pk}, was_in)
        for pk, row in known.items():
            if pk not in taken and pk in gone:
                self._merge(row, gone[pk])

    def _open(self, group: Sequence[int], split_from: Sequence[Incident]) -> Incident:
        self.number.last += 1
        self.number.save(update_fields=["last"])
        told = Finding.objects.filter(pk__in=group).aggregate(at=Min("detected_at"), first=Min("first_at"))
        row = Incident.objects.create(
            tenant=self.tenant, number=self.number.last, ref=f"INC-{self.number.last:06d}", opened_at=told["at"], changed_at=self.now,
            first_at=told["first"], last_at=told["first"], is_by_hand=any(each.is_by_hand for each in split_from),
        )  # fmt: skip
        self.opened.add(row.pk)
        named = sorted(group)[:LISTED]
        self.say(
            row,
            Kind.SPLIT if split_from else Kind.OPENED,
            {"findings": named, "from": [each.ref for each in split_from]},
        )
        for each in split_from:
            self.say(each, Kind.SPLIT, {"findings": named, "into": row.ref})
        return row

    def _put(self, target: Incident, ids: Collection[int], was_in: Mapping[int, int] = {}) -> None:
        if ids:
            self._carry(target, ids)
            IncidentFinding.objects.filter(tenant=self.tenant, finding__in=ids).update(incident=target)
            self.came[target.pk] += [id for id in sorted(ids) if id not in was_in]

    def _carry(self, target: Incident, ids: Collection[int]) -> None:
        """What people knew when they closed an incident goes with its findings: else what is left could grow unseen, and two
        closed incidents that are merged would open by themselves.
        """
        known = Q(incident__state=State.CLOSED) | Q(incident__away_members__isnull=False)
        moved = IncidentFinding.objects.filter(known, tenant=self.tenant, finding__in=ids, stands=True)
        moved = moved.exclude(incident=target).values_list("incident", "incident__state")
        for pk, state, acts in moved.annotate(acts=Sum("finding__events_total")).order_by("incident"):
            snoozed = Incident.objects.filter(pk=pk, away_members__isnull=False)
            snoozed.update(away_members=Greatest(0, F("away_members") - acts))
            for of, change in ((pk, -acts), (target.pk, acts)) if state == State.CLOSED else ():
                closed = Incident.objects.filter(pk=of, state=State.CLOSED)
                closed.update(closed_members=Greatest(0, F("closed_members") + change))

    def _merge(self, row: Incident, into: Incident) -> None:
        """All that is left in it goes over, and its reference leads there. An owner stays, where there is only one."""
        moved = IncidentFinding.objects.filter(tenant=self.tenant, incident=row)
        ids = sorted(moved.values_list("finding_id", flat=True))
        self._carry(into, ids)
        moved.update(incident=into)
        Incident.objects.filter(merged_into=row).update(merged_into=into)
        Incident.objects.filter(pk=row.pk).update(state=State.MERGED, merged_into=into, changed_at=self.now)
        taken_over = {"owner": row.owner, "owner_id": row.owner_id} if row.owner and not into.owner else {}
        Incident.objects.filter(pk=into.pk).update(is_by_hand=into.is_by_hand or row.is_by_hand, **taken_over)
        into.refresh_from_db()
        if row.state in (State.OPEN, State.RESOLVED):  # what was closed is not opened by what nobody looked at
            self.came[into.pk] += ids
        self.say(row, Kind.MERGED, {"into": into.ref})
        self.say(into, Kind.TOOK_IN, {"incident": row.ref, "findings": ids[:LISTED], **taken_over})
        if into.away and not row.away and row.state == State.OPEN:
            self._return(into, {"incident": row.ref})  # what is in the queue does not leave it by being merged

    def _return(self, row: Incident, why: dict[str, Any]) -> None:
        row.away, row.away_until, row.away_members, row.away_rank = "", None, None, None
        row.save(update_fields=["away", "away_until", "away_members", "away_rank"])
        self.say(row, Kind.RETURNED, why)

    # --- what they come to ----------------------------------------------------------------------------------------------

    def _refresh(self, row: Incident) -> None:
        if row.state == State.MERGED:
            return
        found = Finding.objects.filter(
            tenant=self.tenant,
            place_in_incident__tenant=self.tenant,
            place_in_incident__incident=row,
            place_in_incident__stands=True,
        )
        is_open = Q(state__in=("open", "acknowledged"))
        all_ = found.aggregate(
            count=Count("pk"), open=Count("pk", filter=is_open), members=Sum("events_total"), rank=Max(_RANK), principal=Min("principal"),
            first=Min("first_at"), last=Max("last_at"), undo=Max("place_in_incident__undo_until"), named=Sum("place_in_incident__named"),
        )  # fmt: skip
        before, had, count = row.state, row.findings, all_["count"]
        row.findings, row.changed_at = count, self.now
        if count:
            row.rank, row.severity, row.principal = all_["rank"], SEVERITIES[all_["rank"]], all_["principal"]
            row.first_at, row.last_at, row.undo_until = all_["first"], all_["last"], all_["undo"]
            row.over_minor = _most_over(found, is_large=all_["named"] > LARGE)
        members = all_["members"] or 0
        came, grown = self.came.get(row.pk, []), members > (row.closed_members or 0)
        settled = count > 0 and not all_["open"]
        why: dict[str, Any] = {}
        if not count:
            row.state = before if before == State.CLOSED else State.WITHDRAWN
        elif before == State.CLOSED and (came or grown):
            row.state = State.OPEN
            why = {"why": "grew", "findings": came[:LISTED], "acts": max(0, members - (row.closed_members or 0))}
        elif before == State.WITHDRAWN:
            row.state, why = State.OPEN, {"why": "ground"}
        elif before == State.RESOLVED and not settled:
            ids = found.filter(is_open).order_by("id").values_list("pk", flat=True)[:LISTED]
            row.state, why = State.OPEN, {"why": "finding", "findings": list(ids)}
        if row.state == State.OPEN and settled:
            row.state = State.RESOLVED
        row.members = members
        if row.state == State.OPEN:
            row.closed_members, row.outcome = None, ""
        row.save()
        if came and row.pk not in self.opened and had:
            self.say(row, Kind.GREW, {"findings": came[:LISTED], "more": max(0, len(came) - LISTED)})
        if row.away == Incident.Away.SNOOZED and count:
            more = members - (row.away_members or 0)
            if came or more > 0 or row.rank > (row.away_rank or 0):
                worse = row.severity if row.rank > (row.away_rank or 0) else ""
                self._return(row, {"findings": came[:LISTED], "acts": max(0, more), "severity": worse})
        if had and not count:
            self.say(row, Kind.WITHDRAWN, {})
        if row.state != before:
            if row.state == State.RESOLVED:
                self.say(row, Kind.RESOLVED, {})
            elif row.state == State.OPEN:
                self.say(row, Kind.REOPENED, why)

    def say(self, row: Incident, kind: str, data: dict[str, Any]) -> None:
        said = {name: value for name, value in data.items() if value}
        IncidentStep.objects.create(tenant=self.tenant, incident=row, at=self.now, kind=kind, data=said)


def _most_over(found: QuerySet[Finding], *, is_large: bool) -> int:
    """The most money that was too much in one currency; of very many acts, what one finding says at least."""
    told = found.filter(money_at_risk_minor__isnull=False).exclude(currency="")
    if is_large:
        return int(told.exclude(rule__in=AHEAD).aggregate(most=Max("money_at_risk_minor"))["most"] or 0)
    rows = told.values_list("rule", "leaves", "money_at_risk_minor", "currency")
    stakes = [
        Stake(rule, frozenset(leaves), int(amount), currency, is_sum(rule)) for rule, leaves, amount, currency in rows
    ]
    return max(over_of(stakes).values(), default=0)


def undo_until(evidence: Mapping[str, Any]) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(evidence.get("undo_until", "")))
    except ValueError:
        return None
    return at if at.tzinfo else None


def _parts(
    seen: Mapping[int, Linked], was_in: Mapping[int, int], reached: Mapping[int, set[int]], turns: Iterable[int]
) -> list[tuple[set[int], set[int]]]:
    """Findings with the incidents that they are in or linked to: each part by itself."""
    parts: list[tuple[set[int], set[int]]] = [(set(), {incident}) for incident in turns]
    parts += [(set(group), set()) for group in gather(seen.values())]
    parts += [({id}, {incident}) for id, incident in was_in.items()]
    parts += [({id}, {incident}) for id, incidents in reached.items() for incident in incidents]
    part_of: dict[tuple[str, int], tuple[set[int], set[int]]] = {}
    for part in parts:
        ids, incidents = part
        for name in _names(*part):
            if (other := part_of.get(name)) is not None and other is not part:
                ids |= other[0]
                incidents |= other[1]
        part_of |= dict.fromkeys(_names(*part), part)
    whole = list({id(part): part for part in part_of.values()}.values())
    return sorted(whole, key=lambda part: (min(part[0], default=0), min(part[1], default=0)))


def _names(ids: Iterable[int], incidents: Iterable[int]) -> list[tuple[str, int]]:
    return [*(("finding", id) for id in ids), *(("incident", pk) for pk in incidents)]


def _may_have_lost(place: IncidentFinding, each: Linked, leaves: Sequence[int]) -> bool:
    """Whether something that linked it is gone: a key, time, or an act; of a sum also where it has more acts by now."""
    if not set(place.links) <= each.links or each.first_at > place.first_at or each.last_at < place.last_at:
        return True
    return _digest(leaves[: place.named]) != place.leaves or (each.is_sum and len(leaves) != place.named)


def _digest(leaves: Sequence[int]) -> UUID:
    return UUID(bytes=blake2b(",".join(map(str, leaves)).encode(), digest_size=16).digest())


def _is_of_source(rule: str) -> bool:
    return rule.startswith("integrity.") and rule not in OF_EVENTS


def _hands(tenant: Tenant) -> tuple[list[tuple[int, int]], list[Apart]]:
    rows = list(IncidentHand.objects.filter(tenant=tenant, is_lifted=False).order_by("id"))
    together = [(row.one[0], row.other[0]) for row in rows if row.kind == IncidentHand.Kind.TOGETHER]
    apart = [Apart(frozenset(row.one), frozenset(row.other)) for row in rows if row.kind == IncidentHand.Kind.APART]
    return together, apart


def _linked(tenant: Tenant, rows: Sequence[Finding]) -> dict[int, Linked]:
    """What links these findings, by the acts that they name. One query."""
    leaves = list({leaf for row in rows if not _is_of_source(row.rule) for leaf in row.leaves})
    acts: dict[int, ActKeys] = {}
    if leaves:
        found = fetch_rows(_ACTS, {"tenant": tenant.pk, "generation": generation_of(tenant), "leaves": leaves})
        acts = {row[0]: ActKeys(*row) for row in found}
    return {
        row.pk: linked(
            row.pk, row.rule, row.anchor, row.principal, [acts[leaf] for leaf in row.leaves if leaf in acts], row.first_at,
            row.last_at, is_sum=is_sum(row.rule),
        )
        for row in rows
    }  # fmt: skip


_ACTS = """
    SELECT leaf_index, principal, principal_claimed, task, session, provider, charge, payment, invoice, request_id, idempotency_key
    FROM projection_event WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND leaf_index = ANY(%(leaves)s)
"""
_BY_LINK = """
    SELECT DISTINCT v.id, p.incident_id
    FROM unnest(%(ids)s::bigint[], %(links)s::text[], %(since)s::timestamptz[], %(until)s::timestamptz[]) AS v(id, link, since, until)
    JOIN incident_link l ON l.tenant_id = %(tenant)s AND l.link = v.link AND l.first_at <= v.until AND l.last_at >= v.since
    JOIN incident_finding p ON p.finding_id = l.finding_id AND p.incident_id IS NOT NULL
"""
_BY_LEAF = """
    SELECT DISTINCT m.finding_id, p.incident_id FROM finding_member m
    JOIN incident_finding p ON p.finding_id = m.finding_id AND p.stands AND p.incident_id IS NOT NULL
    WHERE m.tenant_id = %(tenant)s AND m.leaf_index = ANY(%(leaves)s) AND m.finding_id <> ALL(%(mine)s)
"""
