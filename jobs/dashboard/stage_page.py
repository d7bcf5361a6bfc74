"""One stage of a job on a page of its own: its output, its earlier versions, and how it is made again.

What the buttons do is decided in jobs.finished.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from jobs import finished, remaking
from jobs.dashboard.option_form import PlaceField, StageOptions
from jobs.dashboard.output_view import OutputView, view_output
from jobs.dashboard.views import act, find_job
from jobs.models import EarlierVersion, Job, Stage
from jobs.option_words import in_words
from jobs.pipelines import Option
from jobs.state import Output
from mediapipe.accounts.login_required import PageRequest


@dataclass(frozen=True)
class VersionView:
    """A version of a stage's output: what it is, how and when it was made; without a number it is in use."""

    output: OutputView
    kind: str  # of the element that shows it: "video", "audio", "image" or ""
    options: str
    made_at: datetime | None
    number: int | None = None


def _kind(output: Output) -> str:
    """By which element a browser shows the output; "" for none."""
    return output.kind if output.format not in ("hls", "json", "m3u8") else ""


def view_version(
    job: Job,
    stage: Stage,
    output: Output,
    options: Mapping[str, Option],
    version: EarlierVersion | None = None,
) -> VersionView:
    """The *output* of the *stage*, or of an earlier *version* of it."""
    return VersionView(
        view_output(job, stage.status(), output),
        _kind(output),
        in_words(options),
        version.made_at if version else stage.finished_at,
        version.pk if version else None,
    )


def versions(job: Job, stage: Stage, options: Mapping[str, Option]) -> list[VersionView]:
    """What is used of the stage, where there is something, and what it was before, newest first."""
    output = stage.parsed_output()
    earlier = job.earlier_versions.filter(stage=stage.name, removed=False)
    return [
        *([view_version(job, stage, output, options)] if output else []),
        *(view_version(job, stage, each.parsed_output, each.options, each) for each in earlier),
    ]


@require_http_methods(["GET", "POST"])
def index(request: PageRequest, pk: UUID, name: str) -> HttpResponse:
    """A stage's versions and its options; POST makes it again. Raises Http404."""
    job = find_job(request, pk)
    stages = {stage.name: stage for stage in job.stages.all()}
    planned = job.planned(name)
    if name not in stages or planned is None or not remaking.can_be_made_again(planned):
        raise Http404
    form = StageOptions(planned["kind"], planned["options"], request.POST or None)
    if form.is_bound and form.is_valid():
        return act(request, job, finished.make_again, name, form.changes)
    context = {
        "job": job,
        "stage": stages[name],
        "form": form,
        "versions": versions(job, stages[name], planned["options"]),
        "also": [stages[each].label for each in remaking.needing(job.plan, name)[1:]],
    }
    return render(request, "jobs/stage.html", context, status=400 if form.is_bound else 200)


class Frame(forms.Form):
    """A frame of what the player shows: when it comes, and which stage's output that is."""

    at = PlaceField(label="Time")
    plays = forms.CharField(max_length=40)


@require_POST
def use_frame(request: PageRequest, pk: UUID) -> HttpResponse:
    """Makes the thumbnail of the frame that the player shows."""
    job = find_job(request, pk)
    frame = Frame(request.POST)
    if not frame.is_valid():
        messages.error(request, "Write a time like 12.5 or 1:02:03.")
        return redirect(job)
    return act(request, job, finished.use_frame, frame.cleaned_data["at"], frame.cleaned_data["plays"])


@require_POST
def add(request: PageRequest, pk: UUID, name: str) -> HttpResponse:
    """Adds a stage that another pipeline has."""
    return act(request, find_job(request, pk), finished.add_stage, name)


@require_POST
def go_back(request: PageRequest, pk: UUID, number: int) -> HttpResponse:
    """Uses an earlier version again."""
    return act(request, find_job(request, pk), finished.go_back, number)


@require_POST
def remove(request: PageRequest, pk: UUID, number: int) -> HttpResponse:
    """Removes an earlier version and its files."""
    return act(request, find_job(request, pk), finished.remove_version, number)
