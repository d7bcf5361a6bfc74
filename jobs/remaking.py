"""What a person changes in the row of a job that rests: a stage to make or add, a version to use, a source.

Each verb compares before it sets, in one transaction: a kill leaves all of it or nothing, and a job that is
queued then is started by jobs.reconcile like any other, with what is finished. It knows no Temporal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.db import transaction
from django.db.models import Q

from jobs import option_words
from jobs.models import EarlierVersion, Job, Pipeline, Removal, Stage, Upload
from jobs.models.earlier_version import SOURCES
from jobs.models.removal import AS_NOTHING, SOURCE
from jobs.pipelines import Option, PipelineDefinition, StageDefinition
from jobs.state import PASSED, JobState, Source, StageState
from mediapipe import storage
from mediapipe.accounts.audit import Act
from mediapipe.task_options import ASKED

Plan = list[dict[str, Any]]


def needing(plan: Plan, name: str) -> list[str]:
    """The stage *name*, and all that need its output or look through it, in the order of the plan."""
    found = [name]
    for stage in plan:
        if {stage["needs"], *stage.get("looks_through", ())} & set(found):
            found.append(stage["name"])
    return found


def can_be_made_again(stage: dict[str, Any]) -> bool:
    """Whether a stage of a plan is made by options that are known; a check is made again with its outputs."""
    return stage["kind"] in ASKED and not stage.get("looks_through")


def options_of(plan: Plan, name: str) -> dict[str, Option]:
    """The options with which a stage of the plan is made."""
    return next(dict(stage["options"]) for stage in plan if stage["name"] == name)


def with_options(plan: Plan, options: Mapping[str, Mapping[str, Option]]) -> Plan:
    """The plan with other options for some of its stages."""
    return [{**stage, "options": dict(options.get(stage["name"], stage["options"]))} for stage in plan]


def _closed(job: Job) -> Job | None:
    """The row as it is now, locked; None where it may not be changed: it runs, or it or its files go."""
    row = job.locked()
    kept = row is not None and not (row.active or row.being_deleted or Removal.is_under_way(row))
    return row if kept else None


@transaction.atomic
def make_again(job: Job, name: str, options: Mapping[str, Option], actor: str, reason: str = "") -> bool:
    """Queues the job to make one of its stages again with these *options*, and what needs it.

    Their outputs become earlier versions. False where the job isn't closed.
    """
    row = _closed(job)
    if row is None:
        return False
    stages = {stage.name: stage for stage in row.stages.all()}
    for each in needing(row.plan, name):
        _set_aside(row, stages[each])
    changed = option_words.changes(options_of(row.plan, name), options)
    Job.objects.filter(pk=row.pk).update(plan=with_options(row.plan, {name: options}))
    row.queue_again(Q(), reason)
    text = f"Making {stages[name].label} again{changed and f': {changed}'}"
    text = f"{text} (“{reason}”)" if reason else text
    row.add_event("made_again", stage=name, actor=actor, text=text)
    row.recorded(Act.MAKE_AGAIN, actor, text)
    return True


def addable(job: Job) -> list[StageDefinition]:
    """The stages of what its owner may use that the job hasn't and the engine can make of what it has."""
    has = {stage["name"] for stage in job.plan}
    usable = Pipeline.usable_by(job.owner).values()
    known = {stage.name: stage for pipeline in usable for stage in pipeline.stages}
    others = [stage for name, stage in known.items() if name not in has]
    return [stage for stage in others if stage.needs in has and not stage.unavailable]


def lacking(job: Job, pipeline: PipelineDefinition) -> list[StageDefinition]:
    """The stages of a *pipeline* that the job hasn't, and the engine can make of what it has and of these."""
    has = {stage["name"] for stage in job.plan}
    found: list[StageDefinition] = []
    for stage in pipeline.stages:
        if stage.name not in has and stage.needs in has and not stage.unavailable:
            has.add(stage.name)
            found.append(stage)
    return found


@transaction.atomic
def add(job: Job, stage: StageDefinition, actor: str, reason: str = "") -> bool:
    """Queues the job to make a *stage* that it hasn't had; False where it isn't closed, or has it."""
    row = _closed(job)
    if row is None or stage not in addable(row):
        return False
    _append(row, [stage], actor, reason)
    return True


@transaction.atomic
def add_pipeline(job: Job, name: str, actor: str, reason: str = "") -> bool:
    """The same for all that it lacks of the pipeline of that *name*, where its owner may use that."""
    row = _closed(job)
    pipeline = Pipeline.usable_by(job.owner).get(name)
    stages = lacking(row, pipeline) if row and pipeline else []
    if row and stages:
        _append(row, stages, actor, reason)
    return bool(stages)


def _append(row: Job, stages: list[StageDefinition], actor: str, reason: str) -> None:
    for at, stage in enumerate(stages, row.stages.count()):
        attempts = stage.retry.attempts
        row.stages.create(position=at, name=stage.name, label=stage.label, max_attempts=attempts)
    Job.objects.filter(pk=row.pk).update(plan=[*row.plan, *map(asdict, stages)])
    row.queue_again(Q(), reason)
    labels = ", ".join(stage.label for stage in stages)
    text = f"Adding {labels}" + (f" (“{reason}”)" if reason else "")
    row.add_event("stage_added", stage=stages[0].name, actor=actor, text=text)
    row.recorded(Act.ADD_STAGE, actor, text)


def _set_aside(row: Job, stage: Stage) -> None:
    """Keeps the stage's output as an earlier version, and has the stage wait for its turn."""
    if stage.state == StageState.SUCCEEDED and stage.output:
        EarlierVersion.objects.create(
            job=row,
            stage=stage.name,
            run=row.run + 1,
            output=stage.output,
            options=options_of(row.plan, stage.name),
            started_at=stage.started_at,
            made_at=stage.finished_at,
        )
    Stage.objects.filter(pk=stage.pk).update(state=StageState.PENDING, output=None, **AS_NOTHING)


@transaction.atomic
def replace_source(
    job: Job, source: Source, actor: str, reason: str = "", upload: Upload | None = None
) -> bool:
    """Queues the job to run on another *source*; what was made of the one it had becomes earlier versions.

    *upload*: which it came by, and which is the job's from now on. False where the job works, or somebody has
    asked for its end. One that waits for a person is given another run, and whoever starts it has
    Temporal end the one that waits.
    """
    row = job.locked()
    if row is None or row.working or row.being_deleted or row.cancelling or Removal.is_under_way(row):
        return False
    for stage in row.stages.all():
        _set_aside(row, stage)
    names = row.found_by(source_filename=source.filename[:300])
    where = {"source_url": source.url, "source_name": source.name, "source_size": source.size}
    Job.objects.filter(pk=row.pk).update(**names, **where, source_sha256=upload.sha256 if upload else "")
    Removal.objects.filter(job=row.pk, what=SOURCE).delete()
    Upload.objects.filter(job=row.pk).delete()
    if upload:
        Upload.objects.filter(pk=upload.pk).update(job=row.pk)
    row.queue_again(Q(), reason)
    text = f"Replaced the source {_quoted(row.source)} by {_quoted(source)}"
    text = f"{text} (“{reason}”)" if reason else text
    row.add_event("source_replaced", actor=actor, text=text)
    row.recorded(Act.REPLACE_SOURCE, actor, text)
    return True


def _quoted(source: Source) -> str:
    return f"“{source.filename or source.url}”"


def remove_source(name: str) -> None:
    """Removes a source that was uploaded and that no job has any more. Raises OSError."""
    if name.startswith(SOURCES) and not Job.with_trash.filter(source_name=name).exists():
        storage.remove(name)


@transaction.atomic
def go_back(job: Job, number: int, actor: str) -> bool:
    """Uses the earlier version of that *number* again, and those of what needs it that went with it.

    What they replace becomes an earlier version in their place; a job that lacks nothing then is done.
    False where the job isn't closed, or there is no such version.
    """
    row = _closed(job)
    chosen = EarlierVersion.objects.filter(job=job.pk, pk=number, removed=False).first()
    if row is None or chosen is None:
        return False
    together = row.earlier_versions.filter(
        stage__in=needing(row.plan, chosen.stage), run=chosen.run, removed=False
    )
    options = {version.stage: version.options for version in together}
    labels = [_exchange(row, version) for version in together]
    Job.objects.filter(pk=row.pk).update(plan=with_options(row.plan, options))
    required = [stage["name"] for stage in row.plan if not stage.get("optional")]
    if not row.stages.filter(name__in=required).exclude(state__in=PASSED).exists():
        Job.objects.filter(pk=row.pk).update(state=JobState.SUCCEEDED, error="", receipt="")
    text = f"Went back to {', '.join(labels)}"
    row.add_event("went_back", stage=chosen.stage, actor=actor, text=text)
    row.recorded(Act.GO_BACK, actor, text)
    return True


def _exchange(row: Job, version: EarlierVersion) -> str:
    """Exchanges the version and its stage's output; the label of what is used now."""
    stage = row.stages.get(name=version.stage)
    Stage.objects.filter(pk=stage.pk).update(
        state=StageState.SUCCEEDED,
        output=version.output,
        started_at=version.started_at,
        finished_at=version.made_at,
        error="",
        error_kind="",
        details="",
        progress=100,
        retry_at=None,
    )
    if stage.state == StageState.SUCCEEDED and stage.output:
        version.output = stage.output
        version.options = options_of(row.plan, stage.name)
        version.started_at = stage.started_at
        version.made_at = stage.finished_at
        version.save()
    else:
        version.delete()
    return f"an earlier {stage.label}"


@transaction.atomic
def mark_removed(job: Job, number: int, actor: str) -> EarlierVersion | None:
    """Takes an earlier version out of use, for good; its files are removed by remove_files().

    None where there is no such version.
    """
    version = EarlierVersion.objects.select_for_update().filter(job=job.pk, pk=number).first()
    if version and not version.removed:
        version.removed = True
        version.save()
        label = job.stages.get(name=version.stage).label
        text = f"Removed an earlier {label}"
        job.add_event("version_removed", stage=version.stage, actor=actor, text=text)
        job.recorded(Act.REMOVE_VERSION, actor, text)
    return version


def remove_files(version: EarlierVersion) -> None:
    """Removes the files of a version that was taken out of use, and then its row. Raises OSError."""
    for member in list(storage.members(version.parsed_output.names)):
        storage.remove(member)
    version.delete()
