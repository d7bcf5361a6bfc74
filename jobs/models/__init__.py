"""The rows: Job, Stage, EarlierVersion, Event, Upload and others, their states and their verbs."""

from __future__ import annotations

from jobs.models.api_token import ApiToken, IdempotencyKey
from jobs.models.earlier_version import EarlierVersion
from jobs.models.event import Event
from jobs.models.job import Job
from jobs.models.job_queryset import JobQuerySet
from jobs.models.saved_view import SavedView
from jobs.models.stage import Stage
from jobs.models.upload import Upload

__all__ = [
    "ApiToken",
    "EarlierVersion",
    "Event",
    "IdempotencyKey",
    "Job",
    "JobQuerySet",
    "SavedView",
    "Stage",
    "Upload",
]
