"""The rows of the application: their states, and the verbs that change them."""

from __future__ import annotations

from jobs.models.api_token import ApiToken, IdempotencyKey
from jobs.models.batch import Batch, BatchItem
from jobs.models.delivery import Delivery
from jobs.models.destination import Destination
from jobs.models.earlier_version import EarlierVersion
from jobs.models.event import Event
from jobs.models.fleet_worker import FleetWorker
from jobs.models.job import Job
from jobs.models.job_queryset import JobQuerySet
from jobs.models.notice import Notice
from jobs.models.pipeline import Pipeline, PipelineVersion
from jobs.models.removal import Removal
from jobs.models.saved_view import SavedView
from jobs.models.share import Share
from jobs.models.stage import Stage
from jobs.models.trashed_file import TrashedFile
from jobs.models.turn import Turn
from jobs.models.upload import Upload

__all__ = [
    "ApiToken",
    "Batch",
    "BatchItem",
    "Delivery",
    "Destination",
    "EarlierVersion",
    "Event",
    "FleetWorker",
    "IdempotencyKey",
    "Job",
    "JobQuerySet",
    "Notice",
    "Pipeline",
    "PipelineVersion",
    "Removal",
    "SavedView",
    "Share",
    "Stage",
    "TrashedFile",
    "Turn",
    "Upload",
]
