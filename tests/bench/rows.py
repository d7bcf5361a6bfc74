"""Rows as a year of work leaves them: a thousand jobs by the models, and copies of them by SQL, back in time.

It knows tables and no pages. Columns that come later are copied as they are.
"""

from __future__ import annotations

import hashlib
import random
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection, models, transaction
from django.utils import timezone

from jobs.models import Batch, BatchItem, Event, Job, Stage, Upload
from jobs.models.batch import SUBMITTED
from jobs.pipelines import PIPELINES
from jobs.state import JobState, Source, StageState
from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act
from mediapipe.accounts.models import AuditEntry
from tests.bench import beside

TEMPLATES = 1000  # jobs that are made by the models: the rest are copies
YEAR = timedelta(days=365)
PEOPLE = 300
BATCH = 20  # jobs of one person, of which every fourth group was submitted together
LARGE_OWNER = 0.05  # of the jobs are one editor's
STATES = ((JobState.SUCCEEDED, 0.88), (JobState.FAILED, 0.07), (JobState.CANCELLED, 0.05))
UNDER_WAY = ((JobState.ATTENTION, 30), (JobState.RUNNING, 20), (JobState.QUEUED, 10))  # of the last ones
ENDINGS = {JobState.SUCCEEDED: StageState.SUCCEEDED, JobState.CANCELLED: StageState.CANCELLED}
KINDS = (
    ("damaged", "The file is damaged: its index is missing."),
    ("unsupported", "This file’s video codec isn’t supported."),
    ("source_unreachable", "The source can’t be downloaded: nobody answers at its address."),
    ("timeout", "The stage took longer than it may."),
    ("invalid_input", "This is no video or audio file."),
    ("stalled", "The encoder made no progress for a minute."),
    ("no_space", "The disk is full."),
    ("task_failed", "The engine couldn’t finish the task."),
)
WORDS = """
    interview harbour council election weather storm floods minister strike railway airport Zürich café
    Straße übersicht night morning edition archive rushes camera drone studio concert festival football
    training press conference report court verdict police market prices budget school hospital doctors
""".split()  # noqa: SIM905 - forty quotes would not read better


def make(jobs: int) -> None:
    """So many jobs of a year, of many people, with all that is kept of them, the oldest first."""
    chance = random.Random(17)
    copies = max(1, jobs // TEMPLATES)
    span = YEAR / copies
    _templates(chance, span)
    tables = (Batch, Job, Stage, Event, Upload, BatchItem, AuditEntry)
    with transaction.atomic(), audit.changeable(), connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"CREATE TABLE made_{table.__name__} AS SELECT * FROM {table._meta.db_table}")
        for table in reversed(tables):
            cursor.execute(f"DELETE FROM {table._meta.db_table}")
    indexes = _without_indexes(tables)
    if connection.vendor == "sqlite":
        connection.connection.create_function("again", 2, _again, deterministic=True)
    for copy in range(copies - 1, -1, -1):
        with connection.cursor() as cursor:
            for table in tables:
                cursor.execute(_copying(table, copy, span * copy))
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"DROP TABLE made_{table.__name__}")
        for index in indexes:
            cursor.execute(index)
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = DEFAULT")
    beside.make()
    if connection.vendor == "postgresql":  # as it does by itself; SQLite never does
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")


def _without_indexes(tables: Any) -> list[str]:
    """Drops what is made faster at the end; the statements that make it again."""
    postgres = connection.vendor == "postgresql"
    found = []
    with connection.cursor() as cursor:
        for table in tables:
            asked = (
                "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name"
            )
            if postgres:
                kept = "indexname NOT IN (SELECT conname FROM pg_constraint)"
                asked = f"SELECT indexname, indexdef FROM pg_indexes WHERE {kept} AND tablename"
            cursor.execute(f"{asked} = %s", [table._meta.db_table])
            for name, statement in cursor.fetchall():
                cursor.execute(f'DROP INDEX "{name}"')
                found.append(statement)
        if postgres:
            cursor.execute("SET session_replication_role = replica")  # asks no foreign key of each row
    return found


def _again(key: str, copy: int) -> str:
    return hashlib.md5(f"{key}{copy}".encode()).hexdigest()  # as Postgres has it


def _copying(table: type[models.Model], copy: int, earlier: timedelta) -> str:
    """The SQL that copies a table's templates, so much *earlier*; what is under way exists once."""
    postgres = connection.vendor == "postgresql"
    columns, values = [], []
    for field in table._meta.concrete_fields:
        column = field.column
        value = f'"{column}"'
        if isinstance(field, models.BigAutoField):
            continue
        if isinstance(field, models.UUIDField) or column in ("job_id", "batch_id"):
            value = f"md5({column}::text || '{copy}')::uuid" if postgres else f"again({column}, {copy})"
        elif isinstance(field, models.DateTimeField):
            seconds = earlier.total_seconds()
            shifted = f"strftime('%Y-%m-%d %H:%M:%f', {column}, '-{seconds} seconds') || '000'"
            value = f"{column} - interval '{seconds} seconds'" if postgres else shifted
        elif column in ("title", "searched", "name") and table in (Job, Batch, AuditEntry):
            value = f"{column} || ' {copy:04}'"
        elif column == "source_name" and table is Job:
            value = f"replace({column}, '/source', '-{copy:04}/source')"
        elif column == "key" and table is AuditEntry:
            value = (
                f"md5(key || '{copy}')::uuid::text" if postgres else f"again(replace(key, '-', ''), {copy})"
            )
        columns.append(f'"{column}"')
        values.append(value)
    once = ", ".join(f"'{state.value}'" for state, _ in UNDER_WAY)
    mine = {Job: "id", Batch: "", AuditEntry: ""}.get(table, "job_id")
    ended = f"WHERE {mine} NOT IN (SELECT id FROM made_Job WHERE state IN ({once}))" if copy and mine else ""
    into = f"INSERT INTO {table._meta.db_table} ({', '.join(columns)})"
    return f"{into} SELECT {', '.join(values)} FROM made_{table.__name__} {ended}"


def _people() -> list[Any]:
    user = get_user_model()
    user.objects.create(username="chief", is_staff=True, is_superuser=True)
    user.objects.create(username="ada")
    user.objects.bulk_create(user(username=f"person{number}") for number in range(PEOPLE))
    return list(user.objects.filter(is_staff=False).order_by("pk"))


def _templates(chance: random.Random, span: timedelta) -> None:
    """The thousand, over the last *span*; those under way are the oldest, so that no list asks Temporal."""
    people, now = _people(), timezone.now()
    under_way = [state for state, many in UNDER_WAY for _ in range(many)]
    jobs: list[Job] = []
    stages: list[Stage] = []
    events: list[Event] = []
    uploads: list[Upload] = []
    for number in range(TEMPLATES):
        created = now - span * (TEMPLATES - number) / TEMPLATES
        state = under_way[number] if number < len(under_way) else _drawn(chance, STATES)
        owner = people[0] if chance.random() < LARGE_OWNER else chance.choice(people)
        chosen = PIPELINES[chance.choices(list(PIPELINES), [7, 2, 1] + [0] * (len(PIPELINES) - 3))[0]]
        title = " ".join(chance.sample(WORDS, chance.randint(2, 5)))
        source = Source(name=f"sources/{number}/source.mp4", filename=f"{title}.mp4", size=2_400_000_000)
        job = Job(owner=owner, created_at=created, state=state, **Job.columns_of(title, chosen, source))
        job.searched = job.found_by()["searched"]
        job.source_sha256 = hashlib.sha256(str(number).encode()).hexdigest()
        job.started_at = created + timedelta(seconds=2)
        job.workflow_started_at = None if state == JobState.QUEUED else job.started_at
        job.finished_at = None if state in under_way else created + timedelta(seconds=chance.randint(20, 900))
        jobs.append(job)
        stages += _stages(chance, job)
        events += _events(job)
        uploads.append(
            Upload(
                owner=owner, job=job, length=1, filename=source.filename, created_at=created, expires_at=now
            )
        )
    batches, items = _batches(jobs[len(under_way) :])
    for rows in (batches, jobs, stages, events, uploads, items, _entries(chance, jobs)):
        type(rows[0]).objects.bulk_create(rows, batch_size=500)


def _batches(jobs: list[Job]) -> tuple[list[Batch], list[BatchItem]]:
    """Every fourth group of jobs was submitted at once: all of its jobs become one person's."""
    batches: list[Batch] = []
    items: list[BatchItem] = []
    for at in range(0, len(jobs), BATCH * 4):
        members = jobs[at : at + BATCH]
        since = members[0].created_at
        batch = Batch(owner=members[0].owner, title=members[0].title, created_at=since, finished_at=since)
        batches.append(batch)
        for number, job in enumerate(members, 1):
            job.owner = batch.owner
            item = BatchItem(batch=batch, number=number, text=job.title, title=job.title)
            item.pipeline, item.state, item.job = job.pipeline, SUBMITTED, job
            items.append(item)
    return batches, items


def _entries(chance: random.Random, jobs: list[Job]) -> list[AuditEntry]:
    """What the audit log says of them: each was submitted, some were looked at; once the line was paused."""
    found = [
        AuditEntry(at=jobs[0].created_at, act=Act.PAUSE_LINE, actor="chief", key="line", name="The line")
    ]
    acts = [Act.SIGN_IN, Act.OPEN_SHARE, Act.RETRY, Act.CANCEL]
    for job in jobs:
        who = job.owner.get_username()
        for act in [Act.SUBMIT, *([chance.choice(acts)] if chance.random() < 0.5 else [])]:
            found.append(AuditEntry(at=job.created_at, act=act, actor=who, key=str(job.pk), name=job.title))
    return found


def _drawn(chance: random.Random, weights: Any) -> Any:
    return chance.choices([each for each, _ in weights], [weight for _, weight in weights])[0]


def _stages(chance: random.Random, job: Job) -> list[Stage]:
    failed = chance.randrange(len(job.plan)) if job.state in (JobState.FAILED, JobState.ATTENTION) else -1
    ends = ENDINGS.get(JobState(job.state), StageState.SUCCEEDED)
    kind, error = chance.choices(KINDS, range(len(KINDS), 0, -1))[0]
    rows = []
    for at, stage in enumerate(job.plan):
        since = job.started_at + timedelta(seconds=10 * at)
        until = since + timedelta(seconds=chance.expovariate(0.1) + 1)
        state = StageState.FAILED if at == failed else ends
        row = Stage(job=job, position=at, name=stage["name"], label=stage["label"], state=state)
        row.started_at, row.finished_at, row.attempt, row.max_attempts = since, until, 1, 3
        row.task_id = f"task_{chance.randrange(10**18):018}"
        outcome = "succeeded" if state == StageState.SUCCEEDED else "failed"
        times = {"started_at": since.timestamp(), "finished_at": until.timestamp()}
        row.attempts = [{"number": 1, **times, "outcome": outcome, "error": ""}]
        if state == StageState.SUCCEEDED:
            row.output = _output(job, stage["name"])
        if state == StageState.FAILED:
            row.error, row.error_kind, row.details = error, kind, "Traceback\n" * 20
        rows.append(row)
    return rows


def _output(job: Job, stage: str) -> dict[str, Any]:
    return {
        "name": f"outputs/{job.pk}/{stage}.mp4",
        "kind": "video",
        "format": "mp4",
        "width": 1280,
        "height": 720,
        "duration": 312.4,
        "filesize": 48_000_000,
        "video_codec": "h264",
        "audio_codec": "aac",
        "codecs_known": True,
        "warnings": [],
        "extras": {},
        "source": None,
        "findings": [],
        "filename": "",
    }


def _events(job: Job) -> list[Event]:
    kinds = ["submitted", "started", *["stage_started", "stage_succeeded"] * len(job.plan), "finished"]
    return [
        Event(
            job=job,
            run=1,
            seq=seq,
            at=job.created_at + timedelta(seconds=seq),
            kind=kind,
            actor=job.owner.get_username() if seq == 0 else "",
            text=f"{kind.replace('_', ' ').capitalize()}: {job.title}",
        )
        for seq, kind in enumerate(kinds)
    ]
