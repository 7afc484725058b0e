"""Charges, and what they come to."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from django import forms
from django.db.models import BooleanField, Q
from django.db.models.expressions import RawSQL
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from auditlog.core.money.exposure import is_open
from auditlog.reads.access import Viewer
from auditlog.reads.money import STANDINGS, standing_of
from dashboard.parts.access import page
from dashboard.parts.forms import Filters, Instant
from dashboard.parts.queries import PAGE, Page, conceal, guesses, spent_by, visible_charges

STANDING_WORDS = {
    "proven": "a chain proven to its root",
    "through the thing": "who made the thing",
    "claimed": "somebody's word only",
    "nobody": "nobody",
}


class ChargeFilters(Filters):
    standing = forms.ChoiceField(
        required=False,
        label="Who answers",
        choices=[("", "anybody or nobody"), *((name, STANDING_WORDS[name]) for name in STANDINGS)],
    )
    without = forms.CharField(
        required=False, max_length=120, label="Without", widget=forms.TextInput(attrs={"placeholder": "task, session"})
    )
    since = Instant(label="Since (UTC)")
    until = Instant(label="Until (UTC), exclusive")
    after = forms.CharField(required=False, max_length=80, widget=forms.HiddenInput)

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for name, label in CHARGE_KEYS.items():
            self.fields[name] = forms.CharField(required=False, max_length=700, label=label)
        self.order_fields(("principal", "actor", "provider", "currency", "since", "until"))

    def clean_currency(self) -> str:
        return self.cleaned_data["currency"].upper()

    def clean_without(self) -> list[str]:
        names = [name.strip() for name in self.cleaned_data["without"].split(",") if name.strip()]
        if wrong := [name for name in names if name not in CHARGE_KEYS]:
            raise forms.ValidationError(f"{wrong[0][:40]!r} is none of {', '.join(CHARGE_KEYS)}.")
        return names

    def chosen(self) -> dict[str, str]:
        return {name: value for name, value in super().chosen().items() if name not in ("standing", "without")}

    def clean_after(self):
        value = self.cleaned_data["after"]
        if not value:
            return None
        at, _, leaf_index = value.rpartition("_")
        try:
            return datetime.fromisoformat(at), int(leaf_index)
        except ValueError:
            raise forms.ValidationError("This is not a place in the list.") from None


CHARGE_KEYS = {
    "principal": "Principal", "actor": "Actor", "provider": "Provider", "grant": "Grant", "currency": "Currency",
    "rail": "Rail", "session": "Session", "task": "Task", "project": "Project",
}  # fmt: skip


def list_charges(
    viewer: Viewer,
    filters: Mapping[str, str],
    *,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    standing: str = "",
    without: Sequence[str] = (),
    after: tuple[datetime, int] | None = None,
    limit: int = PAGE,
) -> tuple[Page, list[dict]]:
    """Charges, the latest first, and what all that fit come to, by currency and rail. Held is what is held `now`.
    `without`: names that state nothing.
    """
    charges = visible_charges(viewer).filter(**filters, **dict.fromkeys(without, ""))
    if standing:
        charges = charges.filter(
            RawSQL(f"{standing_of('projection_charge')} = %s", [standing], output_field=BooleanField())
        )
    if guesses(viewer, filters):
        charges = charges.none()
    if since:
        charges = charges.filter(at__gte=since)
    if until:
        charges = charges.filter(at__lt=until)
    totals = spent_by(charges, "currency", now=now)
    if after:
        charges = charges.filter(Q(at__lt=after[0]) | Q(at=after[0], leaf_index__lt=after[1]))
    rows = list(charges.order_by("-at", "-leaf_index")[: limit + 1])
    for row in rows:
        row.held = row.held if is_open(row.held_from, row.held_until, now) else 0
    last = rows[limit - 1] if len(rows) > limit else None
    return Page(conceal(viewer, rows[:limit]), f"{last.at.isoformat()}_{last.leaf_index}" if last else ""), totals


@page
@require_GET
def charges(request: HttpRequest) -> HttpResponse:
    form = ChargeFilters(request.GET)
    listed, totals = Page([]), []
    if form.is_valid():
        data = form.cleaned_data
        listed, totals = list_charges(
            request.viewer,
            form.chosen(),
            now=timezone.now(),
            since=data["since"],
            until=data["until"],
            standing=data["standing"],
            without=data["without"],
            after=data["after"],
        )
    common = ("principal", "actor", "provider", "currency", "since", "until")
    more = [form[name] for name in form.fields if name not in common and name != "after"]
    context = {
        "may_contest": request.viewer.may("case"),
        "form": form, "page": listed, "totals": totals, "common": [form[name] for name in common], "more": more,
        "more_open": any(request.GET.get(field.name) for field in more),
    }  # fmt: skip
    return render(request, "dashboard/charges.html", context)
