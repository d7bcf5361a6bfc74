"""What bytes become that are all here: one job of an upload, or of what this very person has uploaded before.

It knows rows, digests and files. Nobody's digest finds another person's file.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone

from jobs.models import Job, JobQuerySet, Pipeline, Removal, Upload
from jobs.models.removal import OUTPUTS
from jobs.pipelines import PipelineDefinition
from jobs.state import JobState, Source
from jobs.uploads.intake import store_of
from jobs.uploads.naming import source_of
from mediapipe import storage

DUPLICATE_LIFETIME = timedelta(hours=1)  # of the same bytes as before, should they be run again


@dataclass(frozen=True)
class File:
    """A file that a person has and that may be here already; *sha256* is of all its bytes."""

    name: str
    size: int
    sha256: str = ""


def store(upload: Upload) -> Source:
    """Gives a whole upload its digest and its place, however often it is called. Raises OSError."""
    with suppress(FileNotFoundError):  # another request was faster
        if not upload.sha256:
            upload.sha256 = store_of(upload).take_sha256(upload)
            Upload.objects.filter(pk=upload.pk).update(sha256=upload.sha256)
        store_of(upload).publish(upload)
    return Source(name=source_of(upload), filename=upload.filename, size=upload.length)


def create_job(
    upload: Upload, *, again: bool = False, title: str = "", pipeline: str = ""
) -> tuple[Job, bool]:
    """The job of a whole upload, and whether it is an older one of the same bytes.

    One job per upload, however often it is called; *again* runs the same bytes once more. *title* and
    *pipeline* go before what the upload says.
    """
    source = store(upload)
    return _one_job(upload, source, again, title, pipeline or upload.pipeline)


@transaction.atomic
def _one_job(upload: Upload, source: Source, again: bool, title: str, pipeline: str) -> tuple[Job, bool]:
    upload = Upload.objects.select_for_update().get(pk=upload.pk)
    if upload.job is not None:
        return upload.job, False
    chosen = Pipeline.chosen_by(upload.owner, pipeline)
    older = _made_by(chosen, _same_bytes(upload.owner, upload.sha256))
    if older and not again:
        Upload.objects.filter(pk=upload.pk).update(expires_at=timezone.now() + DUPLICATE_LIFETIME)
        return older, True
    job = _submit(upload.owner, title or upload.filename, chosen, source, upload.sha256)
    upload.job = job
    upload.save(update_fields=["job"])
    return job, False


def _same_bytes(owner: AbstractBaseUser, sha256: str) -> JobQuerySet:
    return Job.objects.filter(owner_id=owner.pk, source_sha256=sha256)


def _made_by(chosen: PipelineDefinition, jobs: JobQuerySet) -> Job | None:
    """The newest of *jobs* that has come, or may come, to what the pipeline makes."""
    same = jobs.filter(pipeline=chosen.name, pipeline_version=chosen.version).exclude(removals__what=OUTPUTS)
    return same.exclude(state__in=(JobState.CANCELLED, JobState.FAILED)).first()


def _submit(
    owner: AbstractBaseUser, title: str, chosen: PipelineDefinition, source: Source, sha256: str
) -> Job:
    job = Job.submit(owner, title=title, pipeline=chosen.name, source=source)
    Job.objects.filter(pk=job.pk).update(source_sha256=sha256)
    return job


def may_be_here(owner: AbstractBaseUser, size: int) -> bool:
    """Whether the person has uploaded a file of that size, whose digest is worth knowing then."""
    return Job.objects.filter(owner_id=owner.pk, source_size=size).exclude(source_sha256="").exists()


@transaction.atomic
def job_of_bytes_here(
    owner: AbstractBaseUser, file: File, pipeline: str, *, again: bool = False
) -> tuple[Job, bool] | None:
    """A job of bytes that are here, and whether it is an older one that made the same; None: send them.

    Without a second copy: the new job has the source of an older one, whose row is locked meanwhile, so that
    nobody deletes the file in between (Job.remove looks for others that have it).
    """
    same = _same_bytes(owner, file.sha256).filter(source_size=file.size)
    chosen = Pipeline.chosen_by(owner, pipeline)
    if (older := _made_by(chosen, same)) and not again:
        return older, True
    for found in same.exclude(source_name="").select_for_update():
        if not (found.being_deleted or Removal.is_under_way(found)) and storage.exists(found.source_name):
            source = Source(name=found.source_name, filename=file.name, size=file.size)
            return _submit(owner, file.name, chosen, source, file.sha256), False
    return None
