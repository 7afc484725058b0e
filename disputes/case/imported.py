"""Imported: another organisation's packet, checked and read. Nothing of it is kept, and nothing in it is taken for true
beyond what it proves.

It is checked by the verifier that lies in our own packets (`verifier/`), never by the one that came with it.
"""

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import msgspec

from auditlog.core.errors import DeliveryTooLarge, MalformedEvent
from auditlog.reads.access import Viewer
from auditlog.verifier.answerable_verify import Unusable, verify

MOST_BYTES = 16 * 1024 * 1024
MOST_UNPACKED = 256 * 1024 * 1024
MOST_KEY = 2_000  # characters
_PAPERS = ("case", "criteria", "decision", "missing", "evidence", "deadlines", "assessments")
MOST_ACTS = 1_000


@dataclass(frozen=True, slots=True)
class Imported:
    """`problem`: the first thing that is wrong, and where; then nothing else in it is shown. `proves`, `leaves_out`:
    sentences. `acts`: each contested event with its verdict. Texts are the sender's own.
    """

    problem: dict[str, str] | None
    proves: list[str] = field(default_factory=list)
    leaves_out: list[str] = field(default_factory=list)
    ref: str = ""
    origin: str = ""
    title: str = ""
    state: str = ""
    complaint: str = ""
    acts: list[dict[str, Any]] = field(default_factory=list)
    proposals: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def read_packet(viewer: Viewer, body: bytes, *, vkeys: Sequence[str] = ()) -> Imported:
    """Check a packet and say what is in it. `vkeys`: the log's verifier keys, from elsewhere than the packet.

    Raises NotPermitted, DeliveryTooLarge, or MalformedEvent for what is no packet.
    """
    viewer.must("case")
    given = [key.strip() for key in vkeys if key.strip()]
    if any(len(key) > MOST_KEY for key in given):
        raise MalformedEvent(f"a verifier key has at most {MOST_KEY:,} characters")
    _bounded(body)
    try:
        report = verify(BytesIO(body), vkeys=given)
    except Unusable as error:
        raise MalformedEvent(str(error)[:300]) from None
    if report["problem"]:
        return Imported({name: str(report["problem"][name])[:500] for name in ("where", "what")})
    papers = _papers(body) if report.get("case") else {}
    case, verdicts = papers.get("case", {}), _listed(papers.get("criteria", {}), "verdicts")
    about = case.get("about") if isinstance(case.get("about"), dict) else {}
    acts = [
        {
            "event_id": _text(verdict.get("event_id")),
            "verdict": _text(verdict.get("verdict")),
            "codes": [_text(code) for code in _listed(verdict, "codes", each=str)][:20],
            "unknown": [_text(c.get("id")) for c in _listed(verdict, "criteria") if c.get("result") == "unknown"][:20],
        }
        for verdict in verdicts[:MOST_ACTS]
    ]
    proposals = [
        {
            "outcome": _text(one.get("outcome")),
            "by": _text(one.get("by")),
            "reason": _text(one.get("reason")),
            "answer": _answer(one),
        }
        for one in _listed(papers.get("decision", {}), "proposals")[:100]
    ]
    return Imported(
        None,
        list(_proves(report)),
        list(_leaves_out(report, papers, len(verdicts))),
        _text(case.get("ref")),
        _text(report.get("origin")),
        _text(about.get("title")),
        _text(case.get("state")),
        _text(about.get("complaint"), 4_000),
        acts,
        proposals,
    )


def _bounded(body: bytes) -> None:
    if len(body) > MOST_BYTES:
        raise DeliveryTooLarge(f"a packet has at most {MOST_BYTES:,} bytes here, found {len(body):,}")
    try:
        with zipfile.ZipFile(BytesIO(body)) as archive:
            whole = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, IndexError, OSError) as error:
        raise MalformedEvent(f"expected a packet, which is a zip archive: {error}"[:300]) from None
    if whole > MOST_UNPACKED:
        raise DeliveryTooLarge(f"a packet has at most {MOST_UNPACKED:,} bytes unpacked, found {whole:,}")


def _papers(body: bytes) -> dict[str, dict[str, Any]]:
    """The case's papers, which the check has held to the manifest."""
    found: dict[str, dict[str, Any]] = {}
    with zipfile.ZipFile(BytesIO(body)) as archive:
        for name in _PAPERS:
            try:
                said = msgspec.json.decode(archive.read(f"case/{name}.json"))
            except (KeyError, msgspec.MsgspecError, ValueError, RecursionError):
                continue
            if isinstance(said, dict):
                found[name] = said
    return found


def _listed(said: dict[str, Any], name: str, each: type = dict) -> list[Any]:
    value = said.get(name)
    return [one for one in value if isinstance(one, each)] if isinstance(value, list) else []


def _text(value: Any, limit: int = 300) -> str:
    return value[:limit] if isinstance(value, str) else ""


def _answer(proposal: dict[str, Any]) -> str:
    answer = proposal.get("answer")
    return f"{_text(answer.get('result'))} by {_text(answer.get('by'))}" if isinstance(answer, dict) else ""


def _proves(report: dict[str, Any]) -> Iterator[str]:
    counts = report["counts"]
    yield f"{counts['leaves']:,} leaves stand in a log of {report['size']:,} whose head is signed, each at its place"
    signed = f"{counts['signatures_good']:,} of {counts['events']:,}"
    yield f"{signed} events are signed by the keys that the log names for their sources"
    if case := report.get("case"):
        yield f"all {case['steps']:,} steps of the case are those that the log states, in their order"
        yield f"the {case['verdicts']:,} verdicts are those that were kept when it was assessed"
        if "case/criteria.json" not in case["loose"]:
            yield "acts, words of the verdicts, proposals, answers and evidence are as the log states them"
    if report["key_given"]:
        yield "the head is signed by the key that you gave"
    if report.get("witnessed"):
        yield "witnesses that you named cosigned it"


def _leaves_out(report: dict[str, Any], papers: dict[str, dict[str, Any]], verdicts: int) -> Iterator[str]:
    if not report["key_given"]:
        yield "whose log it is: no key was given from elsewhere, so it shows only that the packet agrees with itself"
    if not report.get("witnessed"):
        yield "that the log showed everybody the same: no witness's cosignature was checked"
    counts = report["counts"]
    if erased := counts["erased"] + counts["withheld"]:
        yield f"the content of {erased:,} leaves, which was erased or is withheld"
    if left_out := counts.get("left_out"):
        yield f"the content of {left_out:,} leaves, which its maker left out of this copy"
    if unchecked := counts["events"] - counts["signatures_good"]:
        yield f"who said it of {unchecked:,} events, whose signature could not be checked"
    if not report.get("case"):
        yield "a case: this is a bundle of the log and no packet"
        return
    if missing := _listed(papers.get("missing", {}), "missing"):
        yield f"what {len(missing):,} of {verdicts:,} acts turn on: a criterion is unknown there"
    yield "that the verdicts are right: they are that engine's, and can be computed again from the events by another"
