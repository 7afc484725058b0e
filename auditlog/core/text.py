"""Text that senders wrote, made safe to look at: what the eye would not see is written out. Escaping is the caller's."""

import unicodedata

_HIDDEN = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])


def number(text: str, *, digits: int = 18) -> int | None:
    """A whole number, 0 or more, of at most so many digits; None of anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= digits else None


def visible(text: str) -> str:
    """Control, format and unassigned characters as `⟨U+202E⟩`; so that nothing reorders, hides or breaks a line."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in _HIDDEN else c for c in text)
