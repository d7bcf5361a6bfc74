"""Job, Stage, Event, Upload and SavedView: states, and the verbs that change them."""

from __future__ import annotations

from jobs.models.job import Job, JobQuerySet
from jobs.models.people import SavedView, Upload
from jobs.models.stage import Event, Stage
from jobs.pipelines import Output
from mediapipe import files

__all__ = ["Event", "Job", "JobQuerySet", "SavedView", "Stage", "Upload", "link"]


def link(output: Output | None) -> str:
    """A path or URL at which a browser gets the output; ours are signed anew."""
    if output is None:
        return ""
    return files.link(output.name) if output.name else output.url
