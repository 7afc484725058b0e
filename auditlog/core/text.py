"""Text that senders wrote, made safe to look at: what the eye would not see is written out. Escaping is the caller's."""

import unicodedata

_HIDDEN = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])


def visible(text: str) -> str:
    """Control, format and unassigned characters as `⟨U+202E⟩`; so that nothing reorders, hides or breaks a line."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in _HIDDEN else c for c in text)
