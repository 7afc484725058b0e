"""Configuration in the stock admin. What could shift blame goes through `configure`, which appends a leaf; ledger rows,
findings and refusals can only be looked at.
"""

from collections.abc import Callable
from copy import copy
from hashlib import sha256

from django import forms
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils import timezone

from auditlog import formats
from auditlog.core.errors import ConfigurationError, NotPermitted
from auditlog.core.event import LAYERS
from auditlog.core.wire.keys import keys_in
from auditlog.export import configure_export
from auditlog.models import (
    ApiToken,
    Export,
    ExportStream,
    Finding,
    LedgerEntry,
    Membership,
    Organisation,
    OwnedName,
    Pull,
    RefusalCount,
    Role,
    Source,
    SourceKey,
    Tenant,
)
from auditlog.reads.access import LONGEST, issue_token, must_hold
from auditlog.sources import configuration, configure

admin.site.site_header = admin.site.site_title = "Answerable configuration"
admin.site.index_title = "Configuration"


OWN_TENANTS = ("tenant", admin.RelatedOnlyFieldListFilter)  # no names of tenants that the list has no row of


class ReadOnly:
    """Of an admin or an inline: look, never touch."""

    def has_add_permission(self, request: HttpRequest, obj=None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj=None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj=None) -> bool:
        return False


class NeverDeleted:
    """What leaves name stays; suspend or empty it instead."""

    def has_delete_permission(self, request: HttpRequest, obj=None) -> bool:
        return False


class OfTenant:
    """Of an admin: rows of tenants that the signed-in person is an admin of, whatever Django's own permissions say; for
    a superuser, who runs the service, of all.
    """

    tenant_path = "tenant"  # from a row to its tenant

    def get_queryset(self, request: HttpRequest):
        found = super().get_queryset(request)
        return found if request.user.is_superuser else found.filter(**{f"{self.tenant_path}__in": tenants_of(request)})

    def formfield_for_foreignkey(self, field, request: HttpRequest, **options):
        if not request.user.is_superuser:
            options["queryset"] = _own(field.related_model, tenants_of(request))
        return super().formfield_for_foreignkey(field, request, **options)

    def _may(self, request: HttpRequest, obj=None) -> bool:
        if request.user.is_superuser:
            return True
        mine = tenants_of(request)
        return (
            bool(mine)
            if obj is None
            else type(obj)._base_manager.filter(pk=obj.pk, **{f"{self.tenant_path}__in": mine}).exists()
        )

    def has_module_permission(self, request: HttpRequest) -> bool:
        return super().has_module_permission(request) and self._may(request)

    def has_view_permission(self, request: HttpRequest, obj=None) -> bool:
        return super().has_view_permission(request, obj) and self._may(request, obj)

    def has_add_permission(self, request: HttpRequest, *args) -> bool:
        return super().has_add_permission(request, *args) and self._may(request)

    def has_change_permission(self, request: HttpRequest, obj=None) -> bool:
        return super().has_change_permission(request, obj) and self._may(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj=None) -> bool:
        return super().has_delete_permission(request, obj) and self._may(request, obj)


def _own(model: type, tenants: list[int]):
    """What of a model may be chosen by an admin of these tenants."""
    if model is Tenant:
        return Tenant.objects.filter(pk__in=tenants)
    if model is get_user_model():
        return model.objects.filter(memberships__tenant__in=tenants, is_superuser=False).distinct()
    return model.objects.filter(tenant__in=tenants)


def tenants_of(request: HttpRequest) -> list[int]:
    """The tenants that the signed-in person is an admin of, in force and as the log states it."""
    if not hasattr(request, "tenants_of_admin"):
        request.tenants_of_admin = []
        for membership in Membership.objects.select_related("tenant").filter(user=request.user, role=Role.ADMIN):
            try:
                must_hold(membership.tenant, ("membership", membership.pk), user_id=request.user.pk)
            except NotPermitted:
                continue
            request.tenants_of_admin.append(membership.tenant_id)
    return request.tenants_of_admin


class ForSuperusers:
    """Of an admin: accounts belong to the whole service, and whoever may change them may change everything."""

    def _is_superuser(self, request: HttpRequest, *args, **more) -> bool:
        return request.user.is_active and request.user.is_superuser

    has_module_permission = has_view_permission = has_add_permission = has_change_permission = has_delete_permission = (
        _is_superuser
    )


def rehearse(act: Callable[[], object]) -> None:
    """Run `act` and take it back, so that a form can tell its errors before anything is saved."""
    try:
        with transaction.atomic():
            act()
            transaction.set_rollback(True)
    except ConfigurationError as error:
        raise ValidationError(str(error)) from None


@admin.register(Tenant)
class TenantAdmin(NeverDeleted, OfTenant, admin.ModelAdmin):
    tenant_path = "pk"
    list_display = ("name", "title", "created_at")
    fields = ("name", "title")

    def get_readonly_fields(self, request: HttpRequest, obj=None):
        return ("name",) if obj else ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def save_model(self, request: HttpRequest, obj: Tenant, form, change: bool) -> None:
        if change:
            obj.save(update_fields=["title"])
        else:
            added = configure.add_tenant(obj.name, title=obj.title, now=timezone.now())
            obj.pk, obj.pepper, obj.created_at = added.pk, added.pepper, added.created_at


class OwnedNameInline(admin.TabularInline):
    model = OwnedName
    fields = ("name", "is_private")
    extra = 1
    verbose_name_plural = "owned names and marks: what lookalikes are measured against"


@admin.register(Organisation)
class OrganisationAdmin(OfTenant, admin.ModelAdmin):
    list_display = ("name", "tenant", "issuers", "parties")
    list_filter = (OWN_TENANTS,)
    search_fields = ("name",)
    fields = ("tenant", "name", "issuers", "parties")
    inlines = (OwnedNameInline,)

    def get_readonly_fields(self, request: HttpRequest, obj=None):
        return ("tenant",) if obj else ()

    def save_model(self, request: HttpRequest, obj: Organisation, form, change: bool) -> None:
        if change:
            obj.save()
        else:
            obj.pk = configure.add_organisation(
                obj.tenant, obj.name, issuers=obj.issuers, parties=obj.parties, now=timezone.now()
            ).pk

    def save_formset(self, request: HttpRequest, form, formset, change: bool) -> None:
        for row in formset.save(commit=False):
            row.tenant = form.instance.tenant
            row.save()
        for row in formset.deleted_objects:
            row.delete()

    def save_related(self, request: HttpRequest, form, formsets, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if (form.has_changed() and change) or any(formset.has_changed() for formset in formsets):
            _note_organisation(form.instance, "changed")

    def delete_model(self, request: HttpRequest, obj: Organisation) -> None:
        configure.remove_organisation(obj, now=timezone.now())

    def delete_queryset(self, request: HttpRequest, queryset) -> None:
        for organisation in queryset:
            self.delete_model(request, organisation)


def _note_organisation(organisation: Organisation, change: str) -> None:
    names = list(organisation.owned_names.order_by("name").values_list("name", flat=True))
    configuration.state(
        organisation.tenant, organisation,
        {"change": f"organisation.{change}", "organisation": organisation.name, "issuers": organisation.issuers,
         "parties": organisation.parties, "names": names},
        now=timezone.now(),
    )  # fmt: skip


OUTWARD = ("audience", "jwks_url", "poll_url", "poll_seconds", "api_key_env", "api_url", "allow_private")


class SourceKeyInline(ReadOnly, admin.TabularInline):
    model = SourceKey
    fields = readonly_fields = ("kid", "thumbprint", "added_at", "retired_at")
    extra = 0
    verbose_name_plural = "keys: add one by pasting it above, retire one by ticking it above"


class PullInline(ReadOnly, admin.TabularInline):
    model = Pull
    fields = readonly_fields = ("kind", "last_at", "succeeded_at", "brought", "due_at", "error", "warning")
    extra = 0
    verbose_name_plural = "what the service asks of it by itself"


class SourceForm(forms.ModelForm):
    layers = forms.MultipleChoiceField(
        required=False, choices=[(layer, layer) for layer in LAYERS], widget=forms.CheckboxSelectMultiple,
        help_text="Layers it may speak for; none ticked: all.",
    )  # fmt: skip
    new_key = forms.CharField(
        required=False, label="Add a public key", widget=forms.Textarea(attrs={"rows": 5, "cols": 90, "spellcheck": "false"}),
        help_text="Paste a public JWK (RFC 7517) with a kid, or a JWKS with keys. Adding a key appends a leaf to the log.",
    )  # fmt: skip
    poll_seconds = forms.IntegerField(
        required=False, min_value=5, initial=60, help_text="How often it is asked; 60 when empty."
    )
    retire = forms.ModelMultipleChoiceField(
        queryset=SourceKey.objects.none(), required=False, label="Retire keys", widget=forms.CheckboxSelectMultiple,
        help_text="No new event is taken under a retired key; what it signed stays as proven as it was.",
    )  # fmt: skip

    class Meta:
        model = Source
        fields = (
            "tenant", "name", "format", "issuer", "organisation", "provider", "layers", "speaks_for", "state",
            "secret_env", *OUTWARD, "requests_per_second", "events_per_second", "heartbeat_seconds",
        )  # fmt: skip

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.fields["retire"].queryset = self.instance.keys.filter(retired_at=None)
        else:
            del self.fields["retire"]
        if "format" in self.fields:
            self.fields["format"] = forms.ChoiceField(choices=[(name, name) for name in formats.NAMES])

    def clean_poll_seconds(self) -> int:
        return self.cleaned_data["poll_seconds"] or 60

    def clean_new_key(self) -> list[dict]:
        try:
            return keys_in(self.cleaned_data["new_key"])
        except ConfigurationError as error:
            raise ValidationError(str(error)) from None

    def clean(self):
        data = super().clean()
        tenant = data.get("tenant") or (self.instance.tenant_id and self.instance.tenant)
        if data.get("organisation") and tenant and data["organisation"].tenant_id != tenant.pk:
            self.add_error("organisation", "This organisation belongs to another tenant.")
        if self.errors:
            return data
        if self.instance.pk:
            rehearse(lambda: (configure.check_outward(self.changed()), self.add_keys(self.instance)))
        else:
            rehearse(self.add_source)
        return data

    def add_source(self) -> Source:
        data = self.cleaned_data
        limits = {name: data[name] for name in ("requests_per_second", "events_per_second")}
        return configure.add_source(
            data["tenant"], data["name"], format=data["format"], issuer=data["issuer"], now=timezone.now(),
            jwks={"keys": data["new_key"]}, secret_env=data["secret_env"], provider=data["provider"],
            layers=list(data["layers"]), speaks_for=data["speaks_for"] or [], organisation=data["organisation"],
            heartbeat_seconds=data["heartbeat_seconds"], **{name: data[name] for name in OUTWARD}, **limits,
        )  # fmt: skip

    def changed(self) -> Source:
        """The source as it would be."""
        changed = copy(self.instance)
        for name in OUTWARD:
            setattr(changed, name, self.cleaned_data[name])
        return changed

    def add_keys(self, source: Source) -> None:
        for jwk in self.cleaned_data["new_key"]:
            configure.add_key(source, jwk, now=timezone.now())


@admin.register(Source)
class SourceAdmin(NeverDeleted, OfTenant, admin.ModelAdmin):
    form = SourceForm
    list_display = ("name", "tenant", "format", "issuer", "provider", "state", "speaks_for_all")
    list_filter = (OWN_TENANTS, "state", "format")
    search_fields = ("name", "issuer")
    inlines = (SourceKeyInline, PullInline)
    list_select_related = ("tenant",)

    @admin.display(description="may speak for")
    def speaks_for_all(self, source: Source) -> str:
        return ", ".join(source.speaks_for) or "any issuer (not restricted)"

    def get_readonly_fields(self, request: HttpRequest, obj=None):
        # They are in every leaf it caused.
        return ("tenant", "name", "format", "issuer") if obj else ()

    def get_fields(self, request: HttpRequest, obj=None):
        state = ("state",) if obj else ()
        keys = ("new_key", "retire") if obj else ("new_key",)
        return (
            "tenant", "name", "format", "issuer", "organisation", "provider", "layers", "speaks_for", *state,
            "secret_env", *OUTWARD, "requests_per_second", "events_per_second", "heartbeat_seconds", *keys,
        )  # fmt: skip

    def get_inlines(self, request: HttpRequest, obj=None):
        return self.inlines if obj else ()

    def save_model(self, request: HttpRequest, obj: Source, form: SourceForm, change: bool) -> None:
        now = timezone.now()
        if not change:
            added = form.add_source()
            obj.pk, obj.created_at = added.pk, added.created_at
            return
        changed = [
            name for name in form.changed_data if name not in ("new_key", "retire", "state", "heartbeat_seconds")
        ]
        if changed:
            obj.save(update_fields=changed)
            configure.note_source_change(obj, changed, now=now)
        if "state" in form.changed_data:
            configure.set_source_state(obj, obj.state, now=now)
        if "heartbeat_seconds" in form.changed_data:
            configure.promise_heartbeat(obj, obj.heartbeat_seconds, now=now)
        form.add_keys(obj)
        for key in form.cleaned_data.get("retire", ()):
            configure.retire_key(key, now=now)


class ExportStreamInline(ReadOnly, admin.TabularInline):
    model = ExportStream
    fields = readonly_fields = ("what", "position", "sent", "last_at", "succeeded_at", "due_at", "failures", "error")
    extra = 0
    verbose_name_plural = "how far it is"


class ExportForm(forms.ModelForm):
    from_now = forms.BooleanField(
        required=False, label="From now on", help_text="Leave out what the record holds already."
    )

    class Meta:
        model = Export
        fields = (
            "tenant",
            "name",
            "kind",
            "what",
            "url",
            "secret_env",
            "token_env",
            "token_scheme",
            "allow_private",
            "state",
        )

    def clean(self):
        data = super().clean()
        if self.errors:
            return data
        if self.instance.pk:
            rehearse(lambda: configure_export.check_export(self.changed()))
        else:
            rehearse(self.add_export)
        return data

    def changed(self) -> Export:
        """The export as it would be."""
        changed = copy(self.instance)
        for name in ("url", "secret_env", "token_env", "token_scheme", "allow_private", "state"):
            setattr(changed, name, self.cleaned_data[name])
        return changed

    def add_export(self) -> Export:
        data = self.cleaned_data
        return configure_export.add_export(
            data["tenant"], data["name"], kind=data["kind"], what=data["what"], url=data["url"], secret_env=data["secret_env"],
            token_env=data["token_env"], token_scheme=data["token_scheme"], allow_private=data["allow_private"], from_now=data["from_now"], now=timezone.now(),
        )  # fmt: skip


@admin.register(Export)
class ExportAdmin(OfTenant, admin.ModelAdmin):
    form = ExportForm
    list_display = ("name", "tenant", "kind", "what", "url", "state")
    list_filter = (OWN_TENANTS, "state")
    list_select_related = ("tenant",)
    inlines = (ExportStreamInline,)

    def get_readonly_fields(self, request: HttpRequest, obj=None):
        return ("tenant", "name", "kind", "what") if obj else ()

    def get_fields(self, request: HttpRequest, obj=None):
        last = ("state",) if obj else ("from_now",)
        return (
            "tenant",
            "name",
            "kind",
            "what",
            "url",
            "secret_env",
            "token_env",
            "token_scheme",
            "allow_private",
            *last,
        )

    def get_inlines(self, request: HttpRequest, obj=None):
        return self.inlines if obj else ()

    def save_model(self, request: HttpRequest, obj: Export, form: ExportForm, change: bool) -> None:
        if change:
            configure_export.change_export(obj, now=timezone.now())
        else:
            added = form.add_export()
            obj.pk, obj.created_at = added.pk, added.created_at

    def delete_model(self, request: HttpRequest, obj: Export) -> None:
        configure_export.remove_export(obj, now=timezone.now())

    def delete_queryset(self, request: HttpRequest, queryset) -> None:
        for export in queryset:
            self.delete_model(request, export)


def _provider_fits(form: forms.ModelForm) -> None:
    data = form.cleaned_data
    if data.get("role") == Role.ABUSE and not data.get("provider"):
        form.add_error("provider", "The abuse role sees one provider's events: name the provider.")


class MembershipForm(forms.ModelForm):
    class Meta:
        model = Membership
        fields = ("tenant", "user", "role", "provider")

    def clean(self):
        _provider_fits(self)
        return super().clean()


@admin.register(Membership)
class MembershipAdmin(OfTenant, admin.ModelAdmin):
    form = MembershipForm
    list_display = ("user", "tenant", "role", "provider")
    list_filter = (OWN_TENANTS, "role")
    list_select_related = ("user", "tenant")
    search_fields = ("user__username",)

    def get_readonly_fields(self, request: HttpRequest, obj=None):
        return ("tenant", "user") if obj else ()

    def save_model(self, request: HttpRequest, obj: Membership, form, change: bool) -> None:
        configure.give_role(obj, now=timezone.now())

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        configure.take_role(obj, now=timezone.now())

    def delete_queryset(self, request: HttpRequest, queryset) -> None:
        for membership in queryset:
            self.delete_model(request, membership)


class ApiTokenForm(forms.ModelForm):
    class Meta:
        model = ApiToken
        fields = ("tenant", "name", "role", "provider", "owner", "expires_at")

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if "owner" in self.fields:
            self.fields["owner"].required = True

    def clean(self):
        _provider_fits(self)
        if (ends := self.cleaned_data.get("expires_at")) and ends - timezone.now() > LONGEST:
            self.add_error("expires_at", f"A token lives for {LONGEST.days} days at most.")
        return super().clean()


@admin.register(ApiToken)
class ApiTokenAdmin(OfTenant, admin.ModelAdmin):
    form = ApiTokenForm
    list_display = (
        "name",
        "tenant",
        "role",
        "provider",
        "owner",
        "issued_by",
        "expires_at",
        "last_used_at",
        "created_at",
    )
    list_filter = (OWN_TENANTS, "role")
    list_select_related = ("tenant",)

    def has_change_permission(self, request: HttpRequest, obj=None) -> bool:
        return False  # issue another and delete this one

    def save_model(self, request: HttpRequest, obj: ApiToken, form, change: bool) -> None:
        token = issue_token(
            obj.tenant,
            name=obj.name,
            role=obj.role,
            provider=obj.provider,
            expires_at=obj.expires_at,
            owner=obj.owner,
            issued_by=request.user,
        )
        obj.pk = ApiToken.objects.get(digest=sha256(token.encode()).digest()).pk
        request.issued_token = token

    def response_add(self, request: HttpRequest, obj: ApiToken, post_url_continue=None):
        """Show the token, this once. Not by a message: those travel through a cookie."""
        context = self.admin_site.each_context(request) | {
            "title": "Token issued", "token": request.issued_token, "opts": self.opts, "obj": obj,
        }  # fmt: skip
        response = TemplateResponse(request, "admin/auditlog/apitoken/issued.html", context)
        response.headers["Cache-Control"] = "no-store"
        return response


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnly, OfTenant, admin.ModelAdmin):
    list_display = ("leaf_index", "tenant", "kind", "source", "event_id", "received_at", "grade", "key")
    list_filter = (OWN_TENANTS, "kind", "grade")
    list_select_related = ("tenant", "source")
    search_fields = ("=event_id",)
    search_help_text = "A whole event id."
    show_full_result_count = False


@admin.register(Finding)
class FindingAdmin(ReadOnly, OfTenant, admin.ModelAdmin):
    list_display = ("id", "tenant", "rule", "severity", "state", "title", "last_at")
    list_filter = (OWN_TENANTS, "state", "severity", "rule")
    list_select_related = ("tenant",)
    show_full_result_count = False


@admin.register(RefusalCount)
class RefusalCountAdmin(ReadOnly, OfTenant, admin.ModelAdmin):
    list_display = ("hour", "tenant", "source", "err", "count", "key", "sample")
    list_filter = (OWN_TENANTS, "source", "err")
    list_select_related = ("tenant",)
    ordering = ("-hour",)
    show_full_result_count = False


admin.site.unregister(get_user_model())
admin.site.unregister(Group)


@admin.register(get_user_model())
class AccountAdmin(ForSuperusers, UserAdmin):
    pass


@admin.register(Group)
class AccountGroupAdmin(ForSuperusers, GroupAdmin):
    pass


# What people sign in with is theirs, on the pages of their account, and no table for an admin to edit.
for _model in [*admin.site._registry]:
    if _model._meta.app_config.name.startswith("allauth."):
        admin.site.unregister(_model)
