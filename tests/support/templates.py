"""A misspelt variable in a template of ours fails the test that renders it; Django by itself renders nothing there."""

import sys


class Misspelt(str):
    """Django's `string_if_invalid`: asked for its text, with the variable, each time a template finds nothing by a name."""

    def __new__(cls) -> "Misspelt":
        return super().__new__(cls, "%s")

    def __mod__(self, variable: object) -> str:
        context = sys._getframe(1).f_locals.get("context")
        template = getattr(getattr(context, "template", None), "name", None) or ""
        if template.startswith("dashboard/"):
            raise LookupError(f"{template} names {variable}, and nothing has that name")
        return ""  # the admin's own templates rest on it
