"""What the outside saw of one log, held against the log: the same questions after every fault.

1. Every acknowledged event is present exactly once, at the acknowledged index, with the acknowledged bytes; what was
   sent and not acknowledged is there whole or not at all; nothing else is there.
2. Every pair of heads that anybody ever saw is consistent, and the independent head is not behind them.
3. The stand-alone verifier derives the tree again from an export, and comes to the signed root.

Each test adds the two others itself: nothing was acknowledged while it could not be guaranteed, and the fault was
reported by us. `Violation` says what does not hold; the broken variants of the tests must be caught by it.
"""

from io import BytesIO
from itertools import pairwise

from django.db import connection
from nacl.signing import SigningKey

from auditlog.core.errors import AnswerableError, LedgerCorrupt
from auditlog.core.log.checkpoint import opened, vkey
from auditlog.custody.bundle import export_log
from auditlog.custody.verify_ledger import verify
from auditlog.ledger.append import EPOCH, Appended, identity
from auditlog.ledger.heads import head_file
from auditlog.ledger.proofs import prove_consistency
from auditlog.ledger.publish import announce_key, origin_of, publish, take_fence
from auditlog.ledger.stored import read_leaves
from auditlog.models import Checkpoint, LogHead
from auditlog.verifier import answerable_verify as verifier
from tests.world import TenantWorld

KEY = SigningKey(b"\x07" * 32)


class Violation(AssertionError):
    """The log is not what the outside was told."""


class Oracle:
    def __init__(self, log: TenantWorld, key: SigningKey = KEY) -> None:
        self.log, self.key = log, key
        self.acked: dict[tuple[str, str], tuple[int, bytes]] = {}  # (source, source event id) -> (index, bytes)
        self.maybe: dict[tuple[str, str], set[bytes]] = {}  # sent, and no answer came
        self.refused: set[tuple[str, str, bytes]] = set()  # sent, and told that it was not taken
        self.notes: list[str] = []

    # -- what the outside does and sees

    def send(self, signed) -> Appended | None:
        """Send one event. Returns the acknowledgement; None when the answer was an error."""
        try:
            [appended] = self.log.send(signed)
        except Exception:
            self.unanswered(signed)
            raise
        self.saw(signed, appended.leaf_index)
        return appended

    def saw(self, signed, leaf_index: int) -> None:
        """This event was acknowledged, at this leaf."""
        before = self.acked.setdefault((signed.source, signed.jti), (leaf_index, signed.raw))
        if before[0] != leaf_index:
            raise Violation(f"{signed.jti} was acknowledged at leaf {before[0]}, and now at {leaf_index}")

    def unanswered(self, signed) -> None:
        """This event was sent, and nobody said what became of it."""
        self.maybe.setdefault((signed.source, signed.jti), set()).add(signed.raw)

    def sign(self, fence: int | None = None) -> str | None:
        """Publish as the leader does, and look at the result as the outside does."""
        log = self.log
        if fence is None:
            announce_key(log.row, key=self.key, now=log.now)
        note = publish(log.row, key=self.key, fence=take_fence(log.row) if fence is None else fence, now=log.now)
        self.look()
        return note

    def look(self) -> None:
        """Remember every head that can be seen now: published, or in the independent head file."""
        seen = list(Checkpoint.objects.filter(tenant=self.log.row).order_by("size").values_list("note", flat=True))
        if head_file(self.log.tenant).exists():
            seen.append(head_file(self.log.tenant).read_text())
        self.notes += [note for note in seen if note not in self.notes]

    # -- what must hold

    def check(self, *, outside: bool = True) -> None:
        """Raises Violation. Without `outside` the export is left out: every signature in it costs milliseconds."""
        self.look()
        try:
            verify(self.log.row, public_key=self.key.verify_key)
        except LedgerCorrupt as corrupt:
            raise Violation(f"verify: {corrupt}") from corrupt
        self.check_events()
        self.check_heads()
        if outside:
            self.check_from_outside()

    def check_events(self) -> None:
        tenant = self.log.row
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT l.leaf_index, s.name, p.source_event_id, p.raw, l.event_id FROM ledger_leaf l"
                " JOIN ledger_payload p USING (tenant_id, epoch, leaf_index) JOIN auditlog_source s ON s.id = l.source_id"
                " WHERE l.tenant_id = %s AND l.kind = 0",
                [tenant.pk],
            )
            rows = cursor.fetchall()
        found: dict[tuple[str, str], list[tuple[int, bytes]]] = {}
        for index, source, event_id, raw, identified in rows:
            found.setdefault((source, event_id), []).append((index, bytes(raw)))
            if identified != identity(bytes(tenant.pepper), source, event_id):
                raise Violation(f"leaf {index} stands under another identity than its source and event id make")
        for given, (index, raw) in self.acked.items():
            there = found.get(given, [])
            if len(there) != 1:
                raise Violation(
                    f"{given[1]} was acknowledged and is in the ledger {len(there)} times, expected exactly once"
                )
            if there != [(index, raw)]:
                raise Violation(
                    f"{given[1]} was acknowledged at leaf {index}, and leaf {there[0][0]} has other bytes or place"
                )
        for given, there in found.items():
            if given in self.acked:
                continue
            if len(there) != 1 or there[0][1] not in self.maybe.get(given, ()):
                raise Violation(f"{given[1]} is in the ledger {len(there)} times and nobody sent those bytes")
        size = LogHead.objects.get(tenant=tenant, epoch=EPOCH).size
        indexes = [row.index for row in read_leaves(tenant, 0, size)]
        if indexes != list(range(size)):
            raise Violation("indexes have gaps")

    def check_heads(self) -> None:
        """By the verifier's own arithmetic, from the leaves that are stored now."""
        tenant = self.log.row
        public = bytes(self.key.verify_key)
        heads = sorted(
            (opened(note, origin=origin_of(tenant), public_key=public) for note in self.notes), key=lambda h: h.size
        )
        size = LogHead.objects.get(tenant=tenant, epoch=EPOCH).size
        tree, roots = verifier.Tree(), {}
        for row in read_leaves(tenant, 0, size):
            tree.add(verifier.leaf_hash(row.encoded()))
            roots[tree.size] = tree.root()
        for head in heads:
            if head.size > size:
                raise Violation(
                    f"a head of {head.size} leaves was seen, and the log has {size}: signed leaves were lost"
                )
            if roots[head.size] != head.root:
                raise Violation(f"the head of {head.size} leaves that was seen is not consistent with the log now")
        published = Checkpoint.objects.filter(tenant=tenant).order_by("-size").values_list("size", flat=True).first()
        for old, new in pairwise(heads):
            if published is None or new.size > published:
                continue  # in the head file, and not published yet
            try:
                proof = prove_consistency(tenant, old.size, new.size)
                verifier.check_consistency(old.size, new.size, old.root, new.root, proof)
            except (ValueError, AnswerableError) as error:
                raise Violation(f"heads {old.size} and {new.size}: {error}") from error
        if published is not None:
            file = head_file(tenant.name)
            kept = opened(file.read_text(), origin=origin_of(tenant), public_key=public).size if file.exists() else 0
            if kept < published:
                raise Violation(
                    f"the independent head has {kept} leaves, and {published} were published: a restore would go unseen"
                )

    def check_from_outside(self) -> None:
        newest = Checkpoint.objects.filter(tenant=self.log.row).order_by("-size").first()
        if newest is None:
            return
        bundle = BytesIO()
        try:
            export_log(self.log.row, bundle)
        except AnswerableError as error:
            raise Violation(f"export: {error}") from error
        report = verifier.verify(bundle, [vkey(origin_of(self.log.row), bytes(self.key.verify_key))])
        if report["result"] != "ok":
            raise Violation(f"the stand-alone verifier: {report['problem']['where']}: {report['problem']['what']}")
        if report["root"] != bytes(newest.root).hex():
            raise Violation("the stand-alone verifier comes to another root")
