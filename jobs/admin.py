"""Django's admin: jobs, stages, events and uploads, to view and not to edit."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db.models import Exists, OuterRef, Prefetch
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobs.dashboard import bulk, counting, presenters, stage_view
from jobs.dashboard.searching import parse_or_none
from jobs.models import Event, Job, JobQuerySet, Pipeline, Stage, Upload
from jobs.records import Many, ReadOnly, by_state, site
from jobs.state import JobState, StageState
from mediapipe import temporal


class Rows(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """Rows of a job, on its page."""

    template = "admin/rows.html"
    can_delete = False


class StageInline(Rows):
    """A job's stages."""

    model = Stage
    fields = ("name", "condition", "attempt", "max_attempts", "started_at", "finished_at", "task_id", "error")
    readonly_fields = ("condition",)

    @admin.display(description="State")
    def condition(self, stage: Stage) -> str:
        """The state in the dashboard's words."""
        return stage_view.STATE_LABELS[StageState(stage.state)]


class EventInline(Rows):
    """A job's timeline."""

    model = Event
    fields = ("at", "kind", "stage", "actor", "text")


class ByPipeline(admin.SimpleListFilter):
    """A filter by pipeline: of those that are, not of all that jobs name."""

    title = parameter_name = "pipeline"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Each pipeline by its name."""
        return [(name, name) for name in Pipeline.objects.values_list("name", flat=True)]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Its jobs."""
        return queryset.filter(pipeline=self.value()) if self.value() else queryset


def _named(jobs: JobQuerySet, text: str) -> JobQuerySet:
    """The jobs that a search for *text* finds; all where there is none."""
    if key := parse_or_none(UUID, text):
        return jobs.filter(pk=key)
    return jobs.matching(text) if text else jobs


# asked of each row that is shown: by a join the database may begin at the jobs, and sort the rows of all
_IN_THE_TRASH = Exists(Job.with_trash.filter(pk=OuterRef("job"), trashed_at__isnull=False))


class OfAJob(Many):
    """Rows of jobs: a search names a job, of which the newest some are looked at."""

    search_help_text = "A job’s title, file, owner or id"
    search_fields = ("job__searched",)

    def get_queryset(self, request: HttpRequest) -> Any:
        """With their jobs, each asked for once."""
        return self.model._default_manager.prefetch_related(Prefetch("job", Job.objects.only("title")))

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """The rows of the jobs that are found."""
        if not search_term:
            return queryset, False
        found = _named(Job.objects.order_by("-created_at"), search_term).values_list("pk", flat=True)
        return queryset.filter(job__in=list(found[: counting.RECENT])), False


@admin.register(Job, site=site)
class JobAdmin(Many):
    """Jobs, with a link to their workflow in Temporal's own UI."""

    list_display = ("title", "owner", "pipeline", "condition", "created_at", "finished_at", "in_temporal")
    list_filter = (by_state(presenters.STATE_LABELS), ByPipeline, "created_at", "owner")
    search_fields = ("searched",)
    ordering: ClassVar[tuple[str, ...]] = ("-created_at",)
    sortable_by: ClassVar[tuple[str, ...]] = ("title", "created_at")
    fields = (
        *("owner", "title", "made_by", "condition", "error", "note", "reason", "receipt"),
        *("source_url", "source_filename", "source_name", "source_size", "source_sha256"),
        *("created_at", "started_at", "finished_at", "run", "in_temporal"),
    )
    readonly_fields = ("made_by", "condition", "in_temporal")
    inlines = (StageInline, EventInline)

    actions = ("retry", "cancel", "delete")

    def get_queryset(self, request: HttpRequest) -> JobQuerySet:
        """Without what no column shows."""
        return Job.objects.defer("plan", "searched").prefetch_related("owner")

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """As the list of jobs is searched, or by a job's id."""
        return _named(queryset, search_term), False

    @admin.action(description="Retry what failed", permissions=["view"])
    def retry(self, request: HttpRequest, queryset: JobQuerySet) -> None:
        """As the button above the list of jobs."""
        self._do(request, "retry", queryset)

    @admin.action(description="Cancel", permissions=["view"])
    def cancel(self, request: HttpRequest, queryset: JobQuerySet) -> None:
        """As the button above the list of jobs."""
        self._do(request, "cancel", queryset)

    @admin.action(description="Delete", permissions=["view"])
    def delete(self, request: HttpRequest, queryset: JobQuerySet) -> HttpResponse:
        """Asks first, on the page that the list of jobs asks on, which then deletes them as that does."""
        jobs = bulk.ask_of("delete", queryset)
        back = reverse("admin:jobs_job_changelist")
        context = {
            **bulk.question("delete", jobs),
            "matching": counting.count(queryset),
            "back": back,
            "posted": {"query": "", "from": "history", "matching": ""},
        }
        return render(request, "jobs/confirm.html", context)

    def _do(self, request: HttpRequest, action: str, queryset: JobQuerySet) -> None:
        result = bulk.apply(action, bulk.select_jobs(action, queryset), request.user.get_username())
        self.message_user(request, str(result))

    @admin.display(description="State", ordering="state")
    def condition(self, job: Job) -> str:
        """The state in the dashboard's words."""
        return presenters.STATE_LABELS[JobState(job.state)]

    @admin.display(description="Temporal")
    def in_temporal(self, job: Job) -> SafeString | str:
        """A link to the workflow's page."""
        url = temporal.workflow_url(job.workflow_id) if job.workflow_started_at else ""
        return format_html('<a href="{}" title="{}">Workflow</a>', url, job.workflow_id) if url else ""


@admin.register(Stage, site=site)
class StageAdmin(OfAJob):
    """Stages of all jobs, to see what fails and how often."""

    list_display = ("job", "name", "condition", "attempt", "started_at", "finished_at", "error_kind")
    list_filter = (by_state(stage_view.STATE_LABELS),)

    def get_queryset(self, request: HttpRequest) -> Any:
        """Without those of jobs in the trash."""
        return super().get_queryset(request).filter(~_IN_THE_TRASH)

    @admin.display(description="State", ordering="state")
    def condition(self, stage: Stage) -> str:
        """The state in the dashboard's words."""
        return stage_view.STATE_LABELS[StageState(stage.state)]


@admin.register(Event, site=site)
class EventAdmin(OfAJob):
    """Who did what, and when."""

    list_display = ("at", "job", "kind", "stage", "actor", "text")

    def get_queryset(self, request: HttpRequest) -> Any:
        """Without those of jobs in the trash."""
        return super().get_queryset(request).filter(~_IN_THE_TRASH)


@admin.register(Upload, site=site)
class UploadAdmin(OfAJob):
    """Uploads, unfinished ones too."""

    ordering: ClassVar[tuple[str, ...]] = ("-created_at",)

    list_display = ("filename", "owner", "length", "created_at", "expires_at", "job")

    def get_queryset(self, request: HttpRequest) -> Any:
        """With their jobs and people."""
        return super().get_queryset(request).prefetch_related("owner")
