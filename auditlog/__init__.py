"""The record: what happened, who acted for whom, what it cost.

The road an event walks, one folder a step:

    receive -> verify -> append -> project -> detect -> respond
    ingest/    formats/  ledger/   projection/ detection/ response/

    sources/     who may send, and what is called outside
    incidents/   findings of one cause: gathered, read, and handled by people
    alerts/      who is told of incidents, what is news to them, and how it is sent
    custody/     what keeps a ledger honest once it stands: verify, watch, witness, erase, back up
    reads/       every read, and what a viewer may see
    export/      out to a SIEM
    work/ api/   the edges: wake-ups and HTTP

`core/`, `formats/` and `detectors/` are pure: no Django, no clock, no settings. `emit.py` and `recorder.py` are run by
others. `tests/test_house.py` holds the order in which these may import each other.
"""
