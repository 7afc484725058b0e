"""The one way an embedded service says that it cannot go on."""


class EmbeddedError(Exception):
    """The embedded services cannot start, or one of them died. The message says why, and what to do."""
