"""Jobs as their workflow leaves them in the database, and the text of a page."""

from __future__ import annotations

import re
from datetime import timedelta

from django.utils import timezone

from jobs.models import Job, Stage
from jobs.state import JobState, Source, StageState


def job(owner, title="film.mp4", state=JobState.SUCCEEDED, pipeline="standard", **fields) -> Job:
    row = Job.submit(
        owner, title=title, pipeline=pipeline, source=Source(name="sources/x.mp4", size=2_400_000)
    )
    now = timezone.now()
    Job.objects.filter(pk=row.pk).update(state=state, started_at=now, finished_at=now, **fields)
    Stage.objects.filter(job=row).update(
        state=StageState.SUCCEEDED if state == JobState.SUCCEEDED else StageState.PENDING,
        started_at=now - timedelta(seconds=4),
        finished_at=now,
    )
    row.refresh_from_db()
    return row


def text(answer) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))
