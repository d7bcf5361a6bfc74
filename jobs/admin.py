"""Django's admin: jobs, stages, events and uploads, to view and not to edit."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobs.dashboard import bulk
from jobs.models import Event, Job, JobQuerySet, Stage, Upload
from mediapipe import temporal


class ReadOnly:
    """Rows that only workflows and the dashboard write."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No: jobs are submitted in the dashboard."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No: a history is not edited."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No: it would leave the workflow and the files. A job has an action that takes all of it."""
        return False


class StageInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """A job's stages."""

    model = Stage
    fields = ("name", "state", "attempt", "max_attempts", "started_at", "finished_at", "task_id", "error")
    can_delete = False


class EventInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    """A job's timeline."""

    model = Event
    fields = ("at", "kind", "stage", "actor", "text")
    can_delete = False


@admin.register(Job)
class JobAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Jobs, with a link to their workflow in Temporal's own UI."""

    list_display = ("title", "owner", "pipeline", "state", "created_at", "finished_at", "in_temporal")
    list_filter = ("state", "pipeline", "created_at", "owner")
    search_fields = ("title", "source_filename", "source_url", "owner__username", "id")
    list_select_related = ("owner",)
    date_hierarchy = "created_at"
    inlines = (StageInline, EventInline)

    actions = ("retry", "cancel", "delete")

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
        jobs = bulk.select_jobs("delete", queryset)
        back = reverse("admin:jobs_job_changelist")
        context = {
            "action": "delete",
            "jobs": jobs,
            "matching": queryset.count(),
            "back": back,
            "posted": {"query": "", "from": "history", "matching": ""},
        }
        return render(request, "jobs/confirm.html", context)

    def _do(self, request: HttpRequest, action: str, queryset: JobQuerySet) -> None:
        result = bulk.apply(action, bulk.select_jobs(action, queryset), request.user.get_username())
        self.message_user(request, str(result))

    @admin.display(description="Temporal")
    def in_temporal(self, job: Job) -> SafeString | str:
        """A link to the workflow's page."""
        url = temporal.workflow_url(job.workflow_id) if job.workflow_started_at else ""
        return format_html('<a href="{}">{}</a>', url, job.workflow_id) if url else ""


@admin.register(Stage)
class StageAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Stages of all jobs, to see what fails and how often."""

    list_display = ("job", "name", "state", "attempt", "started_at", "finished_at", "error_kind")
    list_filter = ("state", "name", "error_kind")
    search_fields = ("job__title", "task_id", "error")
    list_select_related = ("job",)


@admin.register(Event)
class EventAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Who did what, and when."""

    list_display = ("at", "job", "kind", "stage", "actor", "text")
    list_filter = ("kind", "at")
    search_fields = ("job__title", "actor", "text")
    list_select_related = ("job",)


@admin.register(Upload)
class UploadAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Uploads, unfinished ones too."""

    list_display = ("filename", "owner", "length", "created_at", "expires_at", "job")
    has_delete_permission = admin.ModelAdmin.has_delete_permission  # a person who goes takes them along
    search_fields = ("filename", "owner__username")
