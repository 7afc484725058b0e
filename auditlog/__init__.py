"""The record: what happened, who acted for whom, what it cost.

The road an event walks, one module a step:

    receive -> verify -> append -> project -> detect -> respond
    ingest.py  formats/  append.py project.py detect.py

`publish.py` signs the log's head beside the road. `core/`, `formats/` and `detectors/` are pure: no Django, no
clock, no settings. `queries.py` holds the reads, `tasks.py` the wake-ups.
"""
