"""What jobs no longer keep: their sources, their outputs, their timelines. Only of jobs that have ended.

For each job a Removal says so first, then the files go, and then the row forgets them: whoever is killed in
between leaves what the next one finishes. A job in the trash keeps all it has. It knows no Temporal.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, Max, Min, OuterRef, Q, Sum
from django.utils import timezone

from jobs.models import EarlierVersion, Event, Job, JobQuerySet, Pipeline, Removal, Stage
from jobs.models.earlier_version import SOURCES, files_alone_of
from jobs.models.job_queryset import NOT_IN_TRASH
from jobs.models.removal import OUTPUTS, SOURCE, TIMELINE
from jobs.state import FINISHED, JobState
from mediapipe import storage
from mediapipe.accounts import audit
from mediapipe.old_rows import before
from mediapipe.retention import Going, Kind, Removed, in_days

AT_ONCE = 20  # jobs, or sources, of which one step removes files
DONE = (JobState.SUCCEEDED,)
FAILED = (JobState.FAILED, JobState.CANCELLED)
ACTOR = audit.PRODUCT  # who does it, for timelines and the audit log
APPLIES_TO = {"sources": DONE, "failed_sources": FAILED, "outputs": FINISHED, "timelines": FINISHED}


def own_days(what: str) -> dict[str, int]:
    """The pipelines that have days of their own for *what*, as in OF; 0 is for ever."""
    if what == "timelines":
        return {}
    field = f"keep_{what}"
    return dict(Pipeline.objects.filter(**{f"{field}__isnull": False}).values_list("name", field))


def kept(what: str) -> str:
    """For how long, in words."""
    own = [f"{name} {in_days(days)}" for name, days in sorted(own_days(what).items())]
    return ", ".join([in_days(settings.KEEP_DAYS[what]), *own])


def days_of(job: Job, what: str) -> int:
    """For how many days a job's are kept; 0 is for ever."""
    return own_days(what).get(job.pipeline, settings.KEEP_DAYS[what])


def is_due(what: str) -> Q:
    """Of a job: it has ended, as OF says, and since then kept its own for its days."""
    own = own_days(what)
    common = settings.KEEP_DAYS[what]
    old = Q(pk__in=[])
    for name, days in own.items():
        old |= Q(pipeline=name, finished_at__lt=before(days)) if days else Q(pk__in=[])
    if common:
        old |= Q(finished_at__lt=before(common)) & ~Q(pipeline__in=own)
    return Q(old, NOT_IN_TRASH, state__in=APPLIES_TO[what], kept_wishes__isnull=True)


def due(what: str) -> JobQuerySet:
    """The jobs of which that is so."""
    return Job.objects.filter(is_due(what))


def needs_no_source() -> Q:
    """Of a job: it is due, however it ended."""
    return is_due("sources") | is_due("failed_sources")


def with_old_source(what: str) -> JobQuerySet:
    """Those of the due jobs whose uploaded source no other job may need."""
    # by what a row says, and not by a list of all that are due: it may be looked at once for each of them
    others = Job.with_trash.filter(source_name=OuterRef("source_name")).exclude(needs_no_source())
    return due(what).filter(~Exists(others), source_name__startswith=SOURCES)


def with_old_outputs() -> JobQuerySet:
    """The due jobs that have any output."""
    made = Stage.objects.filter(job=OuterRef("pk"), output__isnull=False)
    earlier = EarlierVersion.objects.filter(job=OuterRef("pk"))
    return due("outputs").filter(Exists(made) | Exists(earlier))


def with_old_timeline() -> JobQuerySet:
    """The due jobs that have a timeline."""
    return due("timelines").filter(Exists(Event.objects.filter(job=OuterRef("pk"))))


def _oldest(jobs: JobQuerySet) -> datetime | None:
    oldest: datetime | None = jobs.aggregate(oldest=Min("finished_at"))["oldest"]
    return oldest


def going_sources(what: str) -> Going:
    """The sources that would go; one that several jobs have counts once."""
    jobs = with_old_source(what).order_by()
    files = jobs.values("source_name").annotate(size=Max("source_size"))
    found = files.aggregate(count=Count("source_name"), total=Sum("size"))
    return Going(found["count"], found["total"] or 0, _oldest(jobs))


def going_outputs() -> Going:
    """The jobs whose outputs would go."""
    jobs = with_old_outputs().order_by()
    return Going(jobs.count(), _output_bytes(job__in=jobs), _oldest(jobs))


def _output_bytes(**which: object) -> int:
    """What the outputs of stages and earlier versions measure; *which*: as filter() takes it, of both."""
    sizes = (
        model.objects.filter(**which).order_by().values_list("output__filesize", flat=True)
        for model in (Stage, EarlierVersion)
    )
    return sum(size or 0 for each in sizes for size in each.iterator(chunk_size=500))


def going_timelines() -> Going:
    """The jobs whose timelines would go."""
    jobs = with_old_timeline().order_by()
    return Going(jobs.count(), None, _oldest(jobs))


def _mark(row: Job, what: str, days: int, text: str) -> None:
    """Says that something of the job goes, in its row and in its timeline."""
    if Removal.objects.get_or_create(job=row, what=what, defaults={"days": days})[1]:
        row.add_event(f"{what}_removed", actor=ACTOR, text=f"{text} (kept {in_days(days)})")


@transaction.atomic
def mark_source(name: str) -> None:
    """Says that the source *name* goes, of every job that has it; nothing where one may need it again."""
    rows = list(Job.with_trash.filter(source_name=name).select_for_update())
    old = set(Job.objects.filter(needs_no_source(), source_name=name).values_list("pk", flat=True))
    if old == {row.pk for row in rows}:
        for row in rows:
            what = "sources" if row.state in DONE else "failed_sources"
            _mark(row, SOURCE, days_of(row, what), "The source was removed")


def remove_source(name: str) -> Removed:
    """Removes a source that goes, unless a new job has come to it meanwhile. Raises OSError."""
    marked = Removal.objects.filter(what=SOURCE, done=False, job__source_name=name)
    if Job.with_trash.filter(source_name=name).exclude(removals__what=SOURCE).exists():
        marked.delete()
        return Removed()
    storage.remove(name)
    with transaction.atomic():
        jobs = list(marked.values_list("job", flat=True))
        rows = Job.with_trash.filter(pk__in=jobs)
        size = rows.aggregate(size=Max("source_size"))["size"]
        # by columns of its own alone: a row that another has changed meanwhile is looked at again
        if not Removal.objects.filter(what=SOURCE, done=False, job__in=jobs).update(done=True):
            return Removed()  # another has
        rows.update(source_name="")
    return Removed(1, size or 0)


def remove_sources(what: str) -> Removed:
    """One step: some sources, those first that somebody was at and left."""
    left = Job.with_trash.filter(removals__what=SOURCE, removals__done=False)
    names = [
        name
        for jobs in (left, with_old_source(what))
        for name in jobs.order_by("source_name").values_list("source_name", flat=True).distinct()[:AT_ONCE]
    ]
    removed = []
    for name in dict.fromkeys(names):
        mark_source(name)
        removed.append(remove_source(name))
    return _together(removed, len(names))


def _together(removed: list[Removed], looked_at: int) -> Removed:
    count = sum(each.many for each in removed)
    return Removed(count, sum(each.size for each in removed), more=bool(count) and looked_at >= AT_ONCE)


@transaction.atomic
def mark_outputs(job: Job) -> None:
    """Says that the outputs of *job* go; nothing where it was started again meanwhile."""
    row = job.locked()
    if row and with_old_outputs().filter(pk=row.pk).exists():
        _mark(row, OUTPUTS, days_of(row, "outputs"), "The outputs were removed")


def remove_outputs_of(job: Job) -> Removed:
    """Removes the outputs of a job of which they go, with those of earlier versions. Raises OSError."""
    marked = Removal.objects.filter(what=OUTPUTS, done=False, job=job.pk)
    if not marked.exists():
        return Removed()
    size = _output_bytes(job=job.pk)
    for name in files_alone_of(job, with_source=False):
        storage.remove(name)
    with transaction.atomic():
        if not marked.update(done=True):
            return Removed()  # another has
        Stage.objects.filter(job=job.pk).update(output=None)
        EarlierVersion.objects.filter(job=job.pk).delete()
        Job.with_trash.filter(pk=job.pk).update()
    return Removed(1, size)


def remove_outputs() -> Removed:
    """One step: the outputs of some jobs, those first that somebody was at and left."""
    left = Job.with_trash.filter(removals__what=OUTPUTS, removals__done=False)
    jobs = [job for found in (left, with_old_outputs()) for job in found.order_by("pk")[:AT_ONCE]]
    removed = []
    for job in jobs:
        mark_outputs(job)
        removed.append(remove_outputs_of(job))
    return _together(removed, len(jobs))


@transaction.atomic
def remove_timeline_of(job: Job) -> int:
    """Removes the timeline of a job that is due; how many were."""
    row = job.locked()
    if row is None or not with_old_timeline().filter(pk=row.pk).exists():
        return 0
    Event.objects.filter(job=row.pk).delete()
    now = {"days": days_of(row, "timelines"), "at": timezone.now(), "done": True}
    Removal.objects.update_or_create(job=row, what=TIMELINE, defaults=now)
    Job.with_trash.filter(pk=row.pk).update()
    return 1


def remove_timelines() -> Removed:
    """One step: the timelines of some jobs."""
    jobs = list(with_old_timeline().order_by("pk")[:AT_ONCE])
    count = sum(remove_timeline_of(job) for job in jobs)
    return Removed(count, more=bool(count) and len(jobs) == AT_ONCE)


def _sources(what: str, words: str) -> Kind:
    return Kind(what, words, partial(kept, what), partial(going_sources, what), partial(remove_sources, what))


KINDS = [
    _sources("sources", "sources of jobs that are done"),
    _sources("failed_sources", "sources of jobs that failed or were cancelled"),
    Kind("outputs", "jobs’ outputs", partial(kept, "outputs"), going_outputs, remove_outputs),
    Kind("timelines", "jobs’ timelines", partial(kept, "timelines"), going_timelines, remove_timelines),
]
