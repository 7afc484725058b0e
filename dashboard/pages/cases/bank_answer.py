"""Answer a bank: the draft for a dispute of a case's payment, field by field, staged at Stripe or submitted once."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from auditlog.core.errors import AnswerableError
from dashboard.parts.access import page
from disputes.case.answer_bank import Draft, send
from disputes.core.bank_answer import CE3, TEXTS
from disputes.queries import bank_draft

_LABELS = {
    "access_activity_log": "Who did it, when and from where",
    "billing_address": "Billing address",
    "cancellation_rebuttal": "Why it was not cancelled",
    "customer_email_address": "Customer's e-mail address",
    "customer_name": "Customer's name",
    "customer_purchase_ip": "IP address of the purchase",
    "duplicate_charge_explanation": "How it differs from the other charge",
    "duplicate_charge_id": "The other charge",
    "product_description": "What was sold",
    "refund_refusal_explanation": "Refunds",
    "service_date": "When it was provided",
    "uncategorized_text": "The authority behind the payment",
}
_SHORT = ("customer_name", "customer_email_address", "customer_purchase_ip", "duplicate_charge_id", "service_date")


class BankAnswerForm(forms.Form):
    """One text a field of Stripe's evidence, as drafted; what is emptied is left out."""

    def __init__(self, *args: Any, found: Draft, may_submit: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        said, missing = found.answer.evidence, set(found.answer.missing)
        for name in dict.fromkeys((*found.answer.asked, *(name for name in said if name in TEXTS))):
            rows = 2 if name in _SHORT else min(12, 3 + said.get(name, "").count("\n"))
            self.fields[name] = forms.CharField(
                label=_LABELS[name],
                required=False,
                max_length=TEXTS[name],
                initial=said.get(name, ""),
                widget=forms.Textarea(attrs={"rows": rows}),
                help_text="The bank asks for it, and the record does not have it." if name in missing else "",
            )
        if "enhanced_evidence" in said:
            self.fields[CE3] = forms.BooleanField(
                label="With Compelling Evidence 3.0", required=False, initial=True, help_text=found.answer.ce3
            )
        if len(found.receivers) > 1:
            self.fields["receiver"] = forms.ChoiceField(choices=[(name, name) for name in found.receivers])
        if may_submit:
            self.fields["sure"] = forms.BooleanField(
                label="Submit to the bank",
                required=False,
                help_text="A bank takes one answer. Else it is staged.",
            )

    def evidence(self, found: Draft) -> dict[str, Any]:
        said = {name: self.cleaned_data[name] for name in TEXTS if self.cleaned_data.get(name)}
        if self.cleaned_data.get(CE3):
            said["enhanced_evidence"] = found.answer.evidence["enhanced_evidence"]
        return said


@page
@require_http_methods(["GET", "POST"])
def case_bank(request: HttpRequest, ref: str) -> HttpResponse:
    now = timezone.now()
    case, found = bank_draft(request.viewer, ref, now=now)
    may_submit = request.viewer.may("decide")
    form, status = BankAnswerForm(found=found, may_submit=may_submit), 200
    if request.method == "POST":
        form, status = BankAnswerForm(request.POST, found=found, may_submit=may_submit), 422
        if form.is_valid():
            said = form.cleaned_data
            try:
                done = send(
                    case,
                    request.viewer,
                    evidence=form.evidence(found),
                    submit=bool(said.get("sure")),
                    receiver=said.get("receiver", ""),
                    now=now,
                )
            except AnswerableError as error:
                form.add_error(None, str(error))
            else:
                if done.is_accepted:
                    messages.success(request, "The bank has the answer." if done.is_submitted else "Staged at Stripe.")
                    return redirect("dashboard:case_bank", ref=ref)
                form.add_error(None, done.error)
                case, found = bank_draft(request.viewer, ref, now=now)
    context = {"case": case, "found": found, "form": form, "may_submit": may_submit, "labels": _LABELS}
    return render(request, "dashboard/bank_answer.html", context, status=status)
