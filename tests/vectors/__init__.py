"""Published vectors, read where they lie: `shared/vectors` beside the checkout. Tests skip where they are absent, or fail where
`ANSWERABLE_REQUIRE` says that they must not be."""

import json
from pathlib import Path

from tests.support.needs import cannot

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "vectors"


def read(path: str):
    """A JSON file of published vectors; skips the test, saying so, where the folder is absent."""
    file = FOLDER / path
    if not file.exists():
        cannot("vectors", f"published vectors are not here: shared/vectors/{path} beside the checkout")
    return json.loads(file.read_text())


def files(pattern: str) -> list[Path]:
    if not FOLDER.is_dir():
        cannot("vectors", "published vectors are not here: shared/vectors beside the checkout")
    return sorted(FOLDER.glob(pattern))
