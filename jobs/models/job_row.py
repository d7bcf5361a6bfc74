"""JobRow: the columns of a job, and what they say by themselves. Its verbs are in job.py."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from jobs import pipelines
from jobs.models.job_queryset import NOT_IN_TRASH, searchable
from jobs.models.wish import DELETE, Wish
from jobs.state import ACTIVE, JobState, PipelineStatus, Source, workflow_id
from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act
from mediapipe.search_index import SearchIndex


class JobRow(models.Model):
    """A job as its row tells it."""

    State = JobState

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="jobs")
    title = models.CharField(max_length=300)
    pipeline = models.CharField(max_length=40, default=pipelines.DEFAULT)
    pipeline_version = models.PositiveIntegerField(default=1, db_default=1)
    pipeline_label = models.CharField(max_length=80, db_default="", blank=True)  # as it was called then
    is_try = models.BooleanField(default=False, db_default=False)  # by an admin, on ten seconds
    plan = models.JSONField(default=list)  # the pipeline's stages as they were at submission
    state = models.CharField(
        max_length=10, choices={s.value: s.value.title() for s in JobState}, default=JobState.QUEUED.value
    )
    source_url = models.CharField(max_length=4000, blank=True)
    source_name = models.CharField(max_length=300, blank=True)  # under the media root
    source_filename = models.CharField(max_length=300, blank=True)  # as the editor's machine called it
    searched = models.TextField(default="", db_default="", editable=False)  # the names, as they are searched
    source_size = models.BigIntegerField(null=True, blank=True)
    source_sha256 = models.CharField(max_length=64, blank=True, db_index=True)
    reason = models.CharField(max_length=500, blank=True)  # why a person started it again
    cancelling = models.BooleanField(default=False)
    receipt = models.TextField(blank=True)
    error = models.TextField(blank=True)
    note = models.TextField(blank=True)  # why it is queued, as a sentence
    seq = models.IntegerField(default=0)  # of the last recorded status
    run = models.IntegerField(default=1)  # workflows started for this job
    kept_wishes = models.JSONField(null=True, blank=True)  # what its workflow hasn't taken yet
    version = models.PositiveIntegerField(
        default=0, db_default=0
    )  # raised by each write: pages are cached by it
    created_at = models.DateTimeField(default=timezone.now)
    claimed_at = models.DateTimeField(null=True, blank=True)  # when somebody last went to start it
    workflow_started_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    trashed_at = models.DateTimeField(null=True, blank=True)  # when somebody deleted it

    class Meta:
        abstract = True
        ordering = ["-created_at"]
        # A page of a list is found in one of these, and reads no other rows: so each has the id in its order.
        # Some is counted in them: they have the state, and trashed_at, for which SQLite asks all the same.
        indexes = [
            *(
                models.Index(fields=[*fields, "trashed_at"], name=name, condition=NOT_IN_TRASH)
                for name, fields in {
                    "jobs_by_time": ("-created_at", "id", "state"),
                    "jobs_by_state": ("state", "-created_at", "id"),
                    "jobs_by_title": ("title", "-created_at", "id", "state"),
                    "jobs_of_pipeline": ("pipeline", "-created_at", "id", "state"),
                    "jobs_of_pipeline_by_state": ("pipeline", "state", "-created_at", "id"),
                    "jobs_of_owner": ("owner", "-created_at", "id", "state"),
                    "jobs_of_owner_by_state": ("owner", "state", "-created_at", "id", "pipeline"),
                    "jobs_of_owner_by_title": ("owner", "title", "-created_at", "id", "state"),
                }.items()
            ),
            models.Index(fields=["owner", "finished_at"], name="jobs_of_owner_ended", condition=NOT_IN_TRASH),
            SearchIndex(
                fields=["-created_at", "id", "searched", "owner", "state", "trashed_at"],
                name="jobs_searched",
                condition=NOT_IN_TRASH,
            ),
            models.Index(fields=["source_name"], name="jobs_on_source"),
            models.Index(
                fields=["trashed_at"], name="jobs_in_the_trash", condition=Q(trashed_at__isnull=False)
            ),
            models.Index(fields=["id"], name="jobs_with_wishes", condition=Q(kept_wishes__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As Django's, and raises the version in the database, where another process may have raised it."""
        if self._state.adding:
            self.searched = self.found_by()["searched"]
            return super().save(*args, **kwargs)
        self.version = F("version") + 1
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = {*kwargs["update_fields"], "version"}
        super().save(*args, **kwargs)
        self.refresh_from_db(fields=["version"])

    def get_absolute_url(self) -> str:
        """The job's page."""
        return reverse("jobs:detail", args=[self.pk])

    def recorded(self, act: Act, actor: str, text: str = "") -> None:
        """Has the audit log say what *actor* did to it."""
        audit.record(act, actor, key=self.pk, name=self.title, text=text)

    @staticmethod
    def columns_of(title: str, chosen: pipelines.PipelineDefinition, source: Source) -> dict[str, Any]:
        """The columns of a new job of that pipeline on that *source*."""
        return {
            "title": title[:300],
            "pipeline": chosen.name,
            "pipeline_version": chosen.version,
            "pipeline_label": chosen.label,
            "plan": [asdict(stage) for stage in chosen.stages],
            "source_url": source.url,
            "source_name": source.name,
            "source_filename": source.filename[:300],
            "source_size": source.size,
        }

    def planned(self, name: str) -> dict[str, Any] | None:
        """The stage *name* as its plan has it; None where it has none."""
        return next((stage for stage in self.plan if stage["name"] == name), None)

    def found_by(self, **names: str) -> dict[str, str]:
        """The columns of other *names* (`title`, `source_filename`), and what a search finds it by then."""
        searched = {"title": self.title, "source_filename": self.source_filename, **names}
        return {**names, "searched": searchable("\n".join(searched.values()))}

    def named_by(self, status: PipelineStatus) -> dict[str, str]:
        """The columns that change where a link's server names the file; none where a person gave a title."""
        sources = [stage.output.source for stage in status.stages if stage.output and stage.output.source]
        name = next((source.filename for source in sources if source.filename), "")[:300]
        defaults = (self.source_filename, self.source_url, urlsplit(self.source_url).hostname)
        if not name or not self.source_url or self.title not in defaults:
            return {}
        return self.found_by(title=name, source_filename=name)

    @property
    def made_by(self) -> str:
        """Its pipeline for people, like "Standard, version 2"."""
        trying = " (a try on ten seconds)" if self.is_try else ""
        return f"{self.pipeline_label or self.pipeline}, version {self.pipeline_version}{trying}"

    @property
    def workflow_id(self) -> str:
        """The id of this job's workflow."""
        return workflow_id(str(self.pk))

    @property
    def active(self) -> bool:
        """Whether it may still change."""
        return self.state in ACTIVE

    @property
    def working(self) -> bool:
        """Whether something may be made of its source at the moment; one that needs a person rests."""
        return self.state in (JobState.QUEUED, JobState.RUNNING)

    @property
    def being_deleted(self) -> bool:
        """Whether it is in the trash, or somebody has asked for its end, which waits for the storage."""
        return self.trashed_at is not None or any(wish.kind == DELETE for wish in self.wishes)

    def shares_source(self) -> bool:
        """Whether another job has the same source, in the trash too."""
        others = type(self)._base_manager.exclude(pk=self.pk)
        return others.filter(source_name=self.source_name).exists()

    @property
    def source(self) -> Source:
        """The file or URL that the job processes."""
        return Source(self.source_url, self.source_name, self.source_filename, self.source_size)

    @property
    def wishes(self) -> list[Wish]:
        """What people asked for and the workflow hasn't taken yet, oldest first."""
        return [Wish.from_json(value) for value in self.kept_wishes or []]
