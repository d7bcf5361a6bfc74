"""The Pipelines pages, for admins: what can be requested, its versions, who may use it, and its form.

What a pipeline is and what may be done to it is decided in jobs.models.pipeline and jobs.pipeline_rules.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.text import slugify
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from jobs import control
from jobs.dashboard import counting
from jobs.dashboard.history import staff_only
from jobs.dashboard.keeping import Keeping
from jobs.dashboard.pipeline_form import Editor
from jobs.models import Job, Pipeline, PipelineVersion
from jobs.models.pipeline import Audience, NotChangeable
from jobs.models.removal import SOURCE
from jobs.option_words import in_words
from jobs.pipelines import PipelineDefinition, StageDefinition
from jobs.state import JobState, Source
from jobs.uploads import sample_clip
from mediapipe.accounts.login_required import PageRequest


class Access(forms.Form):
    """Who may use a pipeline."""

    audience = forms.ChoiceField(label="Who may use it", choices=Audience.choices, widget=forms.RadioSelect)
    people = forms.ModelMultipleChoiceField(
        label="People",
        queryset=User.objects.filter(is_active=True, is_staff=False).order_by("username"),
        widget=forms.CheckboxSelectMultiple,
        required=False,
    )


class Copy(forms.Form):
    """What a copy is called; its address is made of that."""

    label = forms.CharField(label="Name of the copy", max_length=60)

    def clean_label(self) -> str:
        """Something of which an address can be made that no other pipeline has."""
        label: str = self.cleaned_data["label"].strip()
        if not self.slug_of(label):
            raise forms.ValidationError("Write a name with letters or digits of the Latin alphabet.")
        if Pipeline.objects.filter(name=self.slug_of(label)).exists():
            raise forms.ValidationError("There’s a pipeline of this name. Choose another.")
        return label

    @staticmethod
    def slug_of(label: str) -> str:
        """The name in addresses and commands."""
        return slugify(label)[:40].strip("-_")


class Try(forms.Form):
    """Which version is tried, and on what: the sample clip, or the source of a job that is done."""

    version = forms.ChoiceField(label="Version")
    clip = forms.ChoiceField(label="Ten seconds of", required=False)

    def __init__(self, pipeline: Pipeline, viewer: User, data: Any = None) -> None:
        super().__init__(data, initial={"version": pipeline.current})
        numbers = pipeline.versions.values_list("number", flat=True)
        done = Job.objects.visible_to(viewer).filter(state=JobState.SUCCEEDED, is_try=False)
        self.done = done.exclude(source_name="", source_url="").exclude(removals__what=SOURCE)
        clips = [(str(each.pk), each.title[:60]) for each in self.done.only("title")[:20]]
        choices = {
            "version": [(each, str(each)) for each in numbers],
            "clip": [("", "the sample clip"), *clips],
        }
        for field, offered in choices.items():
            self.fields[field].choices = offered  # type: ignore[attr-defined]

    @property
    def source(self) -> Source:
        """The clip that was chosen. Raises OSError where the sample can't be stored."""
        chosen = self.cleaned_data["clip"]
        return self.done.get(pk=chosen).source if chosen else sample_clip.source()


class StageLine:
    """A stage as the page of its pipeline tells it."""

    def __init__(self, stage: StageDefinition, labels: dict[str, str]) -> None:
        self.label = stage.label
        self.optional = stage.optional
        self.options = in_words(stage.options)
        after = " and ".join(labels[name] for name in stage.after if name in labels)
        through = ", ".join(labels[name] for name in stage.looks_through if name in labels)
        self.place = f"Works on {labels.get(stage.needs, 'the source')}"
        self.place += f", after {after}" * bool(after) + f", looks through {through}" * bool(through) + "."
        retry = stage.retry
        self.tries = "1 attempt" if retry.attempts == 1 else f"{retry.attempts} attempts"
        self.waits = f"first wait {retry.first_interval:g} s, backoff {retry.backoff:g}"
        self.stall = f"stall limit {stage.timeout:g} s"


def stage_lines(pipeline: PipelineDefinition) -> list[StageLine]:
    """Its stages, for people."""
    labels = {stage.name: stage.label for stage in pipeline.stages}
    return [StageLine(stage, labels) for stage in pipeline.stages]


def _find(name: str) -> Pipeline:
    return get_object_or_404(Pipeline, name=name)


def _version(pipeline: Pipeline, number: str | int) -> PipelineVersion:
    """Raises Http404."""
    text = str(number)
    found = pipeline.version(int(text)) if text.isdecimal() and len(text) < 9 else None
    if found is None:
        raise Http404
    return found


@require_GET
@staff_only
def index(request: PageRequest) -> HttpResponse:
    """Every pipeline, with the version in use."""
    pipelines = [(each, _version(each, each.current)) for each in Pipeline.objects.order_by("id")]
    pipelines.sort(key=lambda each: each[0].retired_at is not None)
    return render(request, "jobs/pipelines.html", {"pipelines": pipelines})


def _page(request: PageRequest, pipeline: Pipeline, status: int = 200, **forms_: forms.Form) -> HttpResponse:
    used = _version(pipeline, pipeline.current)
    access = {"audience": pipeline.audience, "people": pipeline.people.all()}
    context = {
        "pipeline": pipeline,
        "used": used,
        "stages": stage_lines(used.definition),
        "versions": pipeline.versions.all(),
        "jobs": counting.count(Job.objects.filter(pipeline=pipeline.name)),
        "access": Access(initial=access),
        "try": Try(pipeline, request.user),
        "keeping": Keeping(pipeline),
        "copy": Copy(initial={"label": f"{used.label} copy"[:60]}),
        **forms_,
    }
    return render(request, "jobs/pipeline.html", context, status=status)


@require_GET
@staff_only
def detail(request: PageRequest, name: str) -> HttpResponse:
    """A pipeline: its stages, its versions, who may use it."""
    return _page(request, _find(name))


@require_http_methods(["GET", "POST"])
@staff_only
def edit(request: PageRequest, name: str) -> HttpResponse:
    """The form, of the version in use or of `?version=`; POST changes its stages, or saves one more."""
    pipeline = _find(name)
    base = _version(pipeline, request.GET.get("version", pipeline.current))
    if request.method == "GET":
        return _form(request, base, Editor.of(base.definition))
    editor = Editor.posted(request.POST)
    act = request.POST.get("act", "")
    if act not in ("save", "save and try", ""):
        return _form(
            request, base, editor.changed(f"add {request.POST.get('sort')}" if act == "add" else act)
        )
    if not editor.is_valid():
        return _form(request, base, editor, 400)
    use_it = act != "save and try"
    version = pipeline.add_version(editor.definition(pipeline.name), request.user.get_username(), use=use_it)
    if not use_it:
        return _try(request, version, sample_clip.source())
    messages.success(
        request, f"Saved as version {version.number}. New jobs get it; running ones keep theirs."
    )
    return redirect("jobs:pipeline", pipeline.name)


def _form(request: PageRequest, base: PipelineVersion, editor: Editor, status: int = 200) -> HttpResponse:
    context = {"pipeline": base.pipeline, "base": base, "editor": editor}
    return render(request, "jobs/pipeline_form.html", context, status=status)


@require_POST
@staff_only
def use(request: PageRequest, name: str, number: int) -> HttpResponse:
    """Gives new jobs that version."""
    pipeline = _find(name)
    pipeline.use(_version(pipeline, number), request.user.get_username())
    messages.success(request, f"New jobs get version {number} now.")
    return redirect("jobs:pipeline", pipeline.name)


def _try(request: PageRequest, version: PipelineVersion, source: Source) -> HttpResponse:
    """Starts a try, and shows its page."""
    job = Job.submit_try(request.user, version.offered(), source)
    async_to_sync(control.start)(job)  # where that fails, the page shows the job's note
    return redirect(job)


@require_POST
@staff_only
def try_out(request: PageRequest, name: str) -> HttpResponse:
    """Makes ten seconds of a clip by a version, whether it's in use or not."""
    pipeline = _find(name)
    form = Try(pipeline, request.user, request.POST)
    if not form.is_valid():
        return _page(request, pipeline, 400, **{"try": form})
    return _try(request, _version(pipeline, form.cleaned_data["version"]), form.source)


@require_POST
@staff_only
def set_access(request: PageRequest, name: str) -> HttpResponse:
    """Says who may use it."""
    pipeline = _find(name)
    form = Access(request.POST)
    if form.is_valid():
        try:
            people = [each.pk for each in form.cleaned_data["people"]]
            pipeline.open_to(form.cleaned_data["audience"], people, request.user.get_username())
        except NotChangeable as error:
            form.add_error("audience", str(error))
        else:
            messages.success(request, "Saved.")
            return redirect("jobs:pipeline", pipeline.name)
    return _page(request, pipeline, 400, access=form)


@require_POST
@staff_only
def set_keeping(request: PageRequest, name: str) -> HttpResponse:
    """Says for how long its jobs keep what is theirs."""
    pipeline = _find(name)
    form = Keeping(pipeline, request.POST)
    if not form.is_valid():
        return _page(request, pipeline, 400, keeping=form)
    pipeline.keep(form.days, request.user.get_username())
    messages.success(request, "Saved.")
    return redirect("jobs:pipeline", pipeline.name)


@require_POST
@staff_only
def retire(request: PageRequest, name: str) -> HttpResponse:
    """Offers it for no new job any more, or again where `back` is set."""
    pipeline = _find(name)
    back = bool(request.POST.get("back"))
    try:
        pipeline.retire(not back, request.user.get_username())
    except NotChangeable as error:
        messages.warning(request, str(error))
    else:
        done = "It’s offered again." if back else "No new job gets it. Jobs that have it go on."
        messages.success(request, done)
    return redirect("jobs:pipeline", pipeline.name)


@require_POST
@staff_only
def copy(request: PageRequest, name: str) -> HttpResponse:
    """A new pipeline with the stages of this one, for admins alone until they open it."""
    pipeline = _find(name)
    form = Copy(request.POST)
    if not form.is_valid():
        return _page(request, pipeline, 400, copy=form)
    label = form.cleaned_data["label"]
    made = Pipeline.objects.create(name=Copy.slug_of(label), audience=Audience.ADMINS)
    made.copy_of(_version(pipeline, pipeline.current), label, request.user.get_username())
    messages.success(request, "Only admins see this copy until you open it to others.")
    return redirect("jobs:edit_pipeline", made.name)
