"""Sharing a job: the page on which links for people without an account are made, and ended.

What such a link shows is decided in handed_over.
"""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from jobs.dashboard.views import find_job
from jobs.models import Job, Share
from jobs.state import JobState
from mediapipe.accounts.login_required import PageRequest

MOST = 50  # links to one job
LIFETIMES = {"1": "1 day", "7": "7 days", "30": "30 days"}
TOO_MANY = f"This job has {MOST} links already. Revoke one that isn’t used any more."
log = logging.getLogger(__name__)


class NewShare(forms.Form):
    """How long a link works, and what it asks for."""

    days = forms.ChoiceField(choices=list(LIFETIMES.items()), initial="7", label="It works for")
    password = forms.CharField(
        required=False,
        min_length=8,
        max_length=128,
        label="Password (optional)",
        help_text="8 characters or more. Send it another way than the link.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


def address(request: PageRequest, token: str) -> str:
    """The link of a *token*, as it is handed on."""
    path = reverse("jobs:shared", args=[token])
    return f"{settings.PUBLIC_URL}{path}" if settings.PUBLIC_URL else request.build_absolute_uri(path)


@never_cache
@require_http_methods(["GET", "POST"])
def index(request: PageRequest, pk: UUID) -> HttpResponse:
    """The form and the links that there are; a new one is shown in the answer to the form alone."""
    job = find_job(request, pk)
    if job.state != JobState.SUCCEEDED:
        messages.info(request, "A job can be shared once it’s done.")
        return redirect(job)
    form = NewShare(request.POST if request.method == "POST" else None)
    context: dict[str, Any] = {}
    if form.is_bound and form.is_valid():
        if job.shares.count() >= MOST:
            form.add_error(None, TOO_MANY)
        else:
            context = _issue(request, job, form)
            form = NewShare()
    status = 400 if form.is_bound else 200
    context |= {"job": job, "form": form, "shares": job.shares.all()}
    return render(request, "jobs/share.html", context, status=status)


def _issue(request: PageRequest, job: Job, form: NewShare) -> dict[str, Any]:
    """Makes a link as the *form* says: what the page shows of it."""
    days = int(form.cleaned_data["days"])
    password = form.cleaned_data["password"]
    share, token = Share.issue(job, request.user.get_username(), days, password)
    log.info("job %s (%s) was shared by %s until %s", job.pk, job, share.made_by, share.expires_at)
    return {"issued": share, "link": address(request, token)}


@require_POST
def revoke(request: PageRequest, pk: UUID, number: int) -> HttpResponse:
    """Ends a link at once."""
    job = find_job(request, pk)
    share = get_object_or_404(job.shares, pk=number)
    share.revoke(request.user.get_username())
    log.info("a link to job %s (%s) was revoked by %s", job.pk, job, request.user.get_username())
    messages.success(request, "The link was revoked. It doesn’t work any more.")
    return redirect(job)
