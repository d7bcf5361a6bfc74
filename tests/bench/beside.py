"""Rows beside a year’s jobs: saved views, the trash, the engine’s own records, sessions. It makes no job."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone

from jobs.models import Job, SavedView
from jobs.state import JobState, StageState
from mediapipe.accounts.models import Session
from mediapipe.engine.models import EngineTask

TRASHED = 5000  # jobs that were deleted lately
TASKS = timedelta(days=100)  # for which the engine's records are there: some are due to go
SESSIONS = 3000  # of which a third has ended
VIEWS = (  # that the chief has saved
    "",
    "q=harbour",
    "q=nothing-like-it",
    "why=damaged",
    "why=task_failed&owner=ada",
    "tab=attention",
    "tab=attention&sort=title",
    "owner=person7&q=film",
    "pipeline=streaming&state=failed",
    "q=z%C3%BCrich&tab=done",
    "owner=ada&q=strike",
    "q=damaged&why=damaged",
)


def make() -> None:
    """All of it, for the jobs that are there."""
    chief = get_user_model().objects.get(username="chief")
    SavedView.objects.bulk_create(
        SavedView(owner=chief, name=f"view {number:02}", query=query) for number, query in enumerate(VIEWS)
    )
    old = Job.objects.filter(state=JobState.SUCCEEDED).order_by("-created_at").values_list("pk", flat=True)
    each = list(old[: TRASHED * 10 : 10])
    for number, at in enumerate(range(0, len(each), 1000)):
        deleted = timezone.now() - timedelta(hours=number)
        Job.objects.filter(pk__in=each[at : at + 1000]).update(trashed_at=deleted)
    _tasks()
    _sessions()


def _tasks() -> None:
    """A record for each stage of the last days."""
    output = {
        "object": "file",
        "name": "outputs/a.mp4",
        "kind": "video",
        "filesize": 48_000_000,
        "duration": 9,
    }
    options = {"format": "mp4", "width": 1280, "quality": "medium"}
    like = EngineTask(kind="video", input="own:sources/a.mp4", options=options, output=output, progress=100)
    ended = StageState.SUCCEEDED, StageState.FAILED, StageState.CANCELLED
    of_stage = {
        "id": "'task_' || s.id",
        "kind": "CASE s.name WHEN 'thumbnails' THEN 'image' WHEN 'audio' THEN 'audio' ELSE 'video' END",
        "status": "s.state",
        **dict.fromkeys(("created_at", "started_at"), "s.started_at"),
        **dict.fromkeys(("finished_at", "updated_at"), "s.finished_at"),
    }
    columns, values = [], []
    given: list[Any] = []
    for field in EngineTask._meta.concrete_fields:
        columns.append(f'"{field.column}"')
        values.append(of_stage.get(field.column, "%s"))
        if field.column not in of_stage:
            given.append(field.get_db_prep_save(getattr(like, field.attname), connection))
    since = timezone.now() - TASKS
    states = ", ".join(f"'{state.value}'" for state in ended)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {EngineTask._meta.db_table} ({', '.join(columns)}) SELECT {', '.join(values)} "
            f"FROM jobs_stage s WHERE s.state IN ({states}) AND s.started_at > %s",
            [*given, since],
        )


def _sessions() -> None:
    """Of everybody, some of which have ended."""
    now = timezone.now()
    people = list(get_user_model().objects.values_list("pk", flat=True))
    Session.objects.bulk_create(
        Session(
            session_key=f"{number:032}",
            session_data="",
            expire_date=now + timedelta(days=number % 3 * 7 - 7, hours=1),
            person_id=people[number % len(people)],
            browser="Firefox on Linux",
        )
        for number in range(SESSIONS)
    )
