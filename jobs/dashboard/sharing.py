"""Sharing a job: the page on which links for people without an account are made, and ended.

What such a link shows is decided in handed_over.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.html import format_html
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from jobs import control, shares
from jobs.dashboard.views import find_job
from jobs.models import Job
from jobs.state import JobState
from mediapipe.accounts.login_required import PageRequest
from mediapipe.own_address import absolute_for

FRAME = 640  # pixels of an embedded player's longer side
SOUND = 640, 80  # where there is nothing to see
EMBED = '<iframe src="{}" width="{}" height="{}" title="{}" frameborder="0" allow="fullscreen"></iframe>'
LIFETIMES = {"1": "1 day", "7": "7 days", "30": "30 days"}


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


@never_cache
@require_http_methods(["GET", "POST"])
def index(request: PageRequest, pk: UUID) -> HttpResponse:
    """The form and the links that there are; a new one is shown in the answer to the form alone."""
    job = find_job(request, pk)
    if job.state != JobState.SUCCEEDED:
        messages.info(request, shares.NOT_DONE)
        return redirect(job)
    form = NewShare(request.POST if request.method == "POST" else None)
    context: dict[str, Any] = {}
    if form.is_bound and form.is_valid():
        days = int(form.cleaned_data["days"])
        try:
            made, token = shares.make(job, request.user.get_username(), days, form.cleaned_data["password"])
            context = {"issued": made, "link": absolute_for(request, reverse("jobs:shared", args=[token]))}
            if not made.password:  # in a frame no other site's cookie would unlock it
                context["frame"] = _frame(request, job, token)
            form = NewShare()
        except control.NotPossible as error:
            form.add_error(None, str(error))
    status = 400 if form.is_bound else 200
    context |= {"job": job, "form": form, "shares": job.shares.all()}
    return render(request, "jobs/share.html", context, status=status)


def _frame(request: PageRequest, job: Job, token: str) -> str:
    """The HTML that shows a link's player in a page of another site, as large as the film's sides say."""
    shown = (each.output for each in job.status().stages if each.output)
    wide, high = next(((each.width, each.height) for each in shown if each.width and each.height), SOUND)
    ratio = FRAME / max(wide, high)
    return format_html(
        EMBED,
        absolute_for(request, reverse("jobs:embedded", args=[token])),
        round(wide * ratio),
        round(high * ratio),
        job.title,
    )


@require_POST
def revoke(request: PageRequest, pk: UUID, number: int) -> HttpResponse:
    """Ends a link at once. Raises Http404."""
    job = find_job(request, pk)
    try:
        messages.success(request, shares.revoke(job, number, request.user.get_username()))
    except control.NotPossible:
        raise Http404 from None
    return redirect(job)
