"""What readers type: filters and triage, with errors in words."""

from datetime import UTC, date, datetime, time

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.utils.dateparse import parse_datetime

from auditlog.api.filters import MomentField
from auditlog.core import holding
from auditlog.core.errors import ConfigurationError
from auditlog.core.event import LAYERS
from auditlog.core.wire.keys import keys_in
from auditlog.formats import NAMES, named
from auditlog.formats.trial import TRIALS, VARIABLE
from auditlog.models import Finding
from auditlog.models.directory import slug
from auditlog.reads import reach, standing
from dashboard.queries import CHARGE_KEYS, EVENT_KEYS, LAYER_NAMES, SEVERITIES
from disputes.models import Case, Proposal


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


class _Filters(forms.Form):
    """A form of optional exact filters; `chosen` are those that were given."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, label_suffix="", **kwargs)

    def chosen(self) -> dict[str, str]:
        return {
            name: value
            for name, value in self.cleaned_data.items()
            if value not in ("", None) and name not in ("since", "until", "sort", "after", "before")
        }


class EventFilters(_Filters):
    layer = forms.ChoiceField(
        required=False, choices=[("", "any layer"), *((name, name) for name in LAYER_NAMES)], label="Layer"
    )
    chain = forms.ChoiceField(
        required=False, label="Acts by chain",
        choices=[("", "all events"), ("proven", "acts, chain proven"), ("unproven", "acts, chain not proven")],
    )  # fmt: skip
    since = Instant(label="Since (UTC)")
    until = Instant(label="Until (UTC), exclusive")
    before = forms.IntegerField(required=False, min_value=0, widget=forms.HiddenInput)

    field_order = ("type", "layer", "provider", "target", "principal", "actor", "grant", "charge", "since", "until")

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for name, label in EVENT_KEYS.items():
            self.fields[name] = forms.CharField(required=False, max_length=700, label=label)
        self.fields["principal"].widget.attrs["placeholder"] = "iss|sub"
        self.fields["actor"].widget.attrs["placeholder"] = "iss|sub"
        self.fields["type"].widget.attrs["placeholder"] = "domain.registered"
        self.order_fields(self.field_order)


class ThreadForm(forms.Form):
    kind = forms.ChoiceField(
        required=False, label="Kind", choices=[("session", "sessions"), ("task", "tasks"), ("txn", "transactions")]
    )
    beginning = forms.CharField(required=False, max_length=500, label="Begins with")
    before = forms.IntegerField(required=False, min_value=0, max_value=2**62, widget=forms.HiddenInput)

    def clean_kind(self) -> str:
        return self.cleaned_data["kind"] or "session"


class ChargeFilters(_Filters):
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

    def clean_after(self):
        value = self.cleaned_data["after"]
        if not value:
            return None
        at, _, leaf_index = value.rpartition("_")
        try:
            return datetime.fromisoformat(at), int(leaf_index)
        except ValueError:
            raise forms.ValidationError("This is not a place in the list.") from None


class FindingFilters(_Filters):
    rule = forms.CharField(required=False, max_length=60, label="Rule")
    severity = forms.ChoiceField(
        required=False, label="Severity", choices=[("", "any"), *((name, name) for name in SEVERITIES)]
    )
    state = forms.ChoiceField(
        required=False, label="State", initial="open",
        choices=[("", "open"), *((value, label) for value, label in Finding.State.choices if value != "open"), ("any", "any")],
    )  # fmt: skip
    principal = forms.CharField(
        required=False, max_length=700, label="Principal", widget=forms.TextInput(attrs={"placeholder": "iss|sub"})
    )
    provider = forms.CharField(required=False, max_length=120, label="Provider")
    sort = forms.ChoiceField(required=False, label="Order", choices=[("", "worst first"), ("newest", "newest first")])
    after = forms.RegexField(r"^\d+(\.\d+)?\Z", required=False, max_length=30, widget=forms.HiddenInput)

    def __init__(self, *args, rules: list[str] = (), **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fields["rule"] = forms.ChoiceField(
            required=False, label="Rule", choices=[("", "any"), *((rule, rule) for rule in rules)]
        )
        self.order_fields(("severity", "rule", "state", "principal", "provider", "sort"))

    def clean(self):
        data = super().clean()
        # "newest" counts by id alone, "worst" by rank and id: one list's place means nothing in the other.
        if data.get("after") and ("." in data["after"]) == (data.get("sort") == "newest"):
            data["after"] = ""
        return data

    def chosen(self) -> dict[str, str]:
        chosen = super().chosen()
        if chosen.get("state") == "any":
            del chosen["state"]
        elif "state" not in chosen:
            chosen["state"] = "open"
        return chosen


class TriageForm(forms.Form):
    state = forms.ChoiceField(
        label="New state", choices=[(value, label) for value, label in Finding.State.choices if value != "withdrawn"],
        error_messages={"required": "Choose a state.", "invalid_choice": "There is no such state."},
    )  # fmt: skip
    reason = forms.CharField(
        label="Reason", max_length=2000, widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Kept for ever with your name and the time.",
        error_messages={"required": "Write why: the reason is kept with the decision."},
    )  # fmt: skip


class Keys(forms.CharField):
    """Public keys, pasted as a JWK or a JWKS."""

    def __init__(self, **kwargs) -> None:
        widget = forms.Textarea(
            attrs={"rows": 4, "spellcheck": "false", "placeholder": '{"keys": [{"kty": "OKP", ...}]}'}
        )
        super().__init__(max_length=200_000, widget=widget, **kwargs)

    def clean(self, value):
        try:
            return keys_in(super().clean(value))
        except ConfigurationError as error:
            raise forms.ValidationError(str(error)) from None


# Whoever names both a variable and an address could have any of the service's secrets sent there.
POLLED = tuple(
    name for name in NAMES if hasattr(named(name), "poll_request") and not getattr(named(name), "POLL_NEEDS_KEY", True)
)


class SourceForm(forms.Form):
    """A new sender. What depends on the format is checked where the source is made, too."""

    format = forms.ChoiceField(
        label="Format", help_text="What it sends; Formats says what each carries and how to set it up."
    )
    name = forms.CharField(
        label="Name", max_length=48, validators=[slug], widget=forms.TextInput(attrs={"autocapitalize": "none"}),
        help_text="Stands in its address and in every leaf it causes, so it never changes: a-z, 0-9, dot, dash, underscore.",
    )  # fmt: skip
    issuer = forms.CharField(
        label="Issuer",
        max_length=300,
        help_text="The iss of its events, or a name for the system: https://conductor.example",
    )
    keys = Keys(
        required=False,
        label="Public keys",
        help_text="For senders that sign with a key of their own: a JWK with a kid, or a JWKS.",
    )
    jwks_url = forms.CharField(
        required=False, max_length=500, label="Address of its public keys", widget=forms.URLInput(attrs={"placeholder": "https://conductor.example/jwks.json"}),
        help_text="A JWKS by https, read now and every ten minutes, and when an event names a key that is not known.",
    )  # fmt: skip
    secret_env = forms.RegexField(
        VARIABLE, required=False, label="Variable of the shared secret",
        help_text="For senders with a shared secret or token. The secret itself goes into the service's environment under "
        "this name, never into a form: CONDUCTOR_SECRET",
        error_messages={"invalid": "Use capital letters, digits and underscores, such as CONDUCTOR_SECRET."},
    )  # fmt: skip
    audience = forms.CharField(
        required=False, max_length=300, label="Audience of its tokens", help_text="For CAEP: the aud that its stream was given for us. Empty: urn:answerable: and the tenant's name.",
    )  # fmt: skip
    poll_url = forms.CharField(
        required=False, max_length=500, label="Address to poll", widget=forms.URLInput(),
        help_text="For senders that are asked for their events and do not send them: " + ", ".join(POLLED)
        + ". Where our key for their API is needed, an operator adds the source: which variable is sent where is not decided here.",
    )  # fmt: skip
    poll_seconds = forms.IntegerField(
        label="Polled every (seconds)", required=False, min_value=5, max_value=86_400, help_text="60 when empty."
    )
    provider = forms.CharField(
        label="Provider",
        required=False,
        max_length=120,
        help_text="When it is a provider's own word about itself: the provider.",
    )
    layers = forms.MultipleChoiceField(
        label="Layers it may speak for", required=False, choices=[(layer, layer) for layer in LAYERS],
        widget=forms.CheckboxSelectMultiple, help_text="None ticked: all. What it says outside them is kept as claimed.",
    )  # fmt: skip
    speaks_for = forms.CharField(
        label="Issuers it may speak for", required=False, max_length=10_000, widget=forms.Textarea(attrs={"rows": 2}),
        help_text="One a line; none: any.",
    )  # fmt: skip
    heartbeat_seconds = forms.IntegerField(
        label="Promised to be heard every (seconds)", required=False, min_value=1, max_value=31_536_000,
        help_text="Its silence is then found. Empty: no promise.",
    )  # fmt: skip

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["format"].choices = [
            ("", "choose"),
            *((name, f"{named(name).ABOUT.title} ({name})") for name in NAMES),
        ]

    def clean_speaks_for(self) -> list[str]:
        return [line.strip() for line in self.cleaned_data["speaks_for"].splitlines() if line.strip()]

    def clean(self):
        data = super().clean()
        if self.errors:
            return data
        by = TRIALS[data["format"]].by
        if data["keys"] and data["jwks_url"]:
            self.add_error("jwks_url", "Give the keys or their address, not both.")
        if data["poll_url"] and data["format"] not in POLLED:
            self.add_error(
                "poll_url", "This format is not polled without our key for its API: an operator adds such a source."
            )
        if by == "sender" and not data["keys"] and not data["jwks_url"]:
            self.add_error(
                "keys",
                "Events of this format are signed with the sender's own key: paste the public one, or say where it is published.",
            )
        if by in ("token", "mac") and not data["secret_env"]:
            self.add_error(
                "secret_env", "Deliveries of this format are authenticated by a shared secret: name its variable."
            )
        if by == "webhook" and not data["secret_env"] and not data["keys"] and not data["jwks_url"]:
            self.add_error(None, "This format needs a shared secret (v1) or the sender's public key (v1a).")
        return data

    def asked(self) -> dict:
        data = dict(self.cleaned_data)
        keys = {"jwks": {"keys": data.pop("keys")}} if not data["jwks_url"] else {}
        data.pop("keys", None)
        return data | keys | {"poll_seconds": data["poll_seconds"] or 60}


class KeyForm(forms.Form):
    act = forms.CharField(widget=forms.HiddenInput, initial="add_key")
    key = Keys(
        label="A public key to add", help_text="A JWK with a kid, or a JWKS. Adding a key appends a leaf to the log."
    )


class TryForm(forms.Form):
    """A delivery as its sender would make it, to be looked at and thrown away."""

    act = forms.CharField(widget=forms.HiddenInput, initial="try")
    content_type = forms.CharField(label="Content-Type", max_length=120)
    headers = forms.CharField(
        label="Other headers", required=False, max_length=20_000, widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="One a line, as Name: value.",
    )  # fmt: skip
    body = forms.CharField(
        label="Body", max_length=1_000_000, strip=False, widget=forms.Textarea(attrs={"rows": 5, "spellcheck": "false"})
    )

    def clean_headers(self) -> dict[str, str]:
        found = {}
        for line in self.cleaned_data["headers"].splitlines():
            name, colon, value = line.partition(":")
            if line.strip() and not (colon and name.strip()):
                raise forms.ValidationError(f"Expected Name: value, found {line[:60]!r}.")
            if line.strip():
                found[name.strip().lower()] = value.strip()
        return found


class OpenCaseForm(forms.Form):
    finding = forms.IntegerField(widget=forms.HiddenInput)
    kind = forms.ChoiceField(label="About", choices=Case.Kind.choices)
    title = forms.CharField(label="Title", max_length=200)
    complaint = forms.CharField(
        label="Complaint", required=False, max_length=4000, widget=forms.Textarea(attrs={"rows": 2})
    )


class MoveForm(forms.Form):
    """One step of a case. The choices are the steps that this person may take now."""

    to = forms.ChoiceField(label="Step")
    outcome = forms.ChoiceField(
        label="Outcome",
        required=False,
        choices=[("", "–"), *Proposal.Outcome.choices],
        help_text="When you propose one.",
    )
    reason = forms.CharField(
        label="Reason", required=False, max_length=4000, widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Kept for ever with your name; most steps need one.",
    )  # fmt: skip
    merged_into = forms.CharField(label="Merged into", required=False, max_length=20)

    def __init__(self, *args, moves, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fields["to"].choices = [(move.to, f"{move.verb}: {move.to.replace('_', ' ')}") for move in moves]
        steps = {move.to for move in moves}
        if "proposed" not in steps:
            del self.fields["outcome"]
        if "merged" not in steps:
            del self.fields["merged_into"]


class ReachForm(forms.Form):
    kind = forms.ChoiceField(label="Of", choices=[(kind, kind) for kind in reach.KINDS])
    key = forms.CharField(label="Id, party or key", max_length=700, error_messages={"required": "Say which one."})
    before = forms.IntegerField(required=False, min_value=0, max_value=2**62, widget=forms.HiddenInput)


class InventoryFilters(forms.Form):
    kind = forms.ChoiceField(
        label="Kind", required=False, choices=[("", "any"), *((kind, kind) for kind in holding.KINDS)]
    )
    provider = forms.CharField(label="Provider", required=False, max_length=200)
    account = forms.CharField(label="Customer of record", required=False, max_length=500)
    id = forms.CharField(label="What", required=False, max_length=500)
    live = forms.ChoiceField(
        label="Now", required=False, choices=[("", "any"), ("yes", "still there"), ("no", "ended")]
    )
    after = MomentField(required=False, widget=forms.HiddenInput)  # with `beside`: the last row of the page before
    beside = forms.UUIDField(required=False, widget=forms.HiddenInput)


class PermissionFilters(forms.Form):
    principal = forms.CharField(label="In the name of", required=False, max_length=700)
    agent = forms.CharField(label="Agent", required=False, max_length=700)
    show = forms.ChoiceField(
        label="Show",
        required=False,
        choices=[("", "all"), *((name, label) for name, label in standing.QUESTIONS.items())],
    )
    after = forms.CharField(required=False, max_length=600, widget=forms.HiddenInput)


class CompareForm(forms.Form):
    one = forms.CharField(label="Grant", max_length=500)
    other = forms.CharField(label="Beside grant", max_length=500)


class AtForm(forms.Form):
    at = Instant(label="As of (UTC)", widget=forms.TextInput(attrs={"placeholder": "2026-05-01 14:30", "size": 26}))


class LoginForm(AuthenticationForm):
    error_messages = AuthenticationForm.error_messages | {
        "invalid_login": "This user name and password do not belong together. Both are case-sensitive.",
    }
