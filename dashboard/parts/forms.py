"""Fields and forms that several page families share, with errors in words."""

from datetime import UTC, date, datetime, time

from django import forms
from django.utils.dateparse import parse_datetime


class Instant(forms.CharField):
    """A time as people write it: a day, or a day and a time; UTC unless it says otherwise."""

    default_error_messages = {"invalid": "Write a day as 2026-05-01, or a time as 2026-05-01 14:30 (UTC)."}

    def __init__(self, **kwargs) -> None:
        kwargs.setdefault("widget", forms.TextInput(attrs={"placeholder": "2026-05-01 14:30", "inputmode": "numeric"}))
        super().__init__(required=False, **kwargs)

    def clean(self, value):
        value = super().clean(value)
        if not value:
            return None
        try:
            if len(value) == 10:
                return datetime.combine(date.fromisoformat(value), time(), UTC)
            at = parse_datetime(value.replace(" ", "T", 1))
            if at is not None:
                return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            pass  # also of a day that is one only where the zone is another
        raise forms.ValidationError(self.error_messages["invalid"], code="invalid")


class Filters(forms.Form):
    """A form of optional exact filters; `chosen` are those that were given."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, label_suffix="", **kwargs)

    def chosen(self) -> dict[str, str]:
        return {
            name: value
            for name, value in self.cleaned_data.items()
            if value not in ("", None) and name not in ("since", "until", "sort", "after", "before")
        }
