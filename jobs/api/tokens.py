"""A person's API tokens: the page on which they are made, shown once, and revoked."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from jobs.models import ApiToken
from jobs.models.api_token import SCOPES
from mediapipe.accounts.login_required import PageRequest

MAX_TOKENS = 50  # tokens of one person
LIFETIMES = {"30": "30 days", "90": "90 days", "365": "A year", "": "No limit"}
TOO_MANY = f"You have {MAX_TOKENS} tokens already. Revoke one that isn’t used any more."


class NewToken(forms.Form):
    """A token's name, what it allows, and for how long."""

    name = forms.CharField(max_length=60, label="Name", help_text="The program that will use it.")
    scopes = forms.MultipleChoiceField(
        choices=list(SCOPES.items()),
        initial=["submit", "read"],
        label="It may",
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one."},
    )
    days = forms.ChoiceField(choices=list(LIFETIMES.items()), initial="90", required=False, label="Valid for")


@never_cache
@require_http_methods(["GET", "POST"])
def index(request: PageRequest) -> HttpResponse:
    """The list and the form; a new token is shown in the answer to the form, and never again."""
    form = NewToken(request.POST if request.method == "POST" else None)
    tokens = ApiToken.objects.filter(owner=request.user)
    context: dict[str, Any] = {}
    if form.is_bound and form.is_valid():
        if tokens.count() >= MAX_TOKENS:
            form.add_error(None, TOO_MANY)
        else:
            data = form.cleaned_data
            row, text = ApiToken.issue(request.user, data["name"], data["scopes"], int(data["days"] or 0))
            context = {"issued": row, "text": text}
            form = NewToken()
    status = 400 if form.is_bound else 200
    return render(request, "jobs/tokens.html", {**context, "form": form, "tokens": tokens}, status=status)


@require_POST
def revoke(request: PageRequest, number: int) -> HttpResponse:
    """Ends a token of one's own at once."""
    token = get_object_or_404(ApiToken, pk=number, owner=request.user)
    token.revoke()
    messages.success(request, f"“{token.name}” is revoked. Programs can’t use it any more.")
    return redirect("jobs:tokens")
