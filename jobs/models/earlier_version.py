"""EarlierVersion: an output that was replaced when its stage was made again, and whose files are whose.

It knows no workflow.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import models

from jobs.models.job_row import JobRow
from jobs.models.stage import Stage, parse_output
from jobs.state import Output
from mediapipe import storage

SOURCES = "sources/"  # where uploads lie


class EarlierVersion(models.Model):
    """An output that a stage had, and the options with which it was made.

    *run*: of the job, which replaced it; what one run has replaced belongs together. *removed*: somebody has
    removed it, and its files are on their way out.
    """

    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="earlier_versions")
    stage = models.CharField(max_length=40)
    run = models.IntegerField()
    output = models.JSONField()
    options = models.JSONField(default=dict)
    started_at = models.DateTimeField(null=True, blank=True)
    made_at = models.DateTimeField(null=True, blank=True)
    removed = models.BooleanField(default=False)

    class Meta:
        ordering = ["-run", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["job", "stage", "run"], name="a_run_replaces_an_output_once")
        ]

    def __str__(self) -> str:
        return f"{self.stage} of {self.job_id} before run {self.run}"

    @property
    def parsed_output(self) -> Output:
        """The output as the dataclass it was."""
        return parse_output(self.output)

    def as_json(self, output: dict[str, Any]) -> dict[str, Any]:
        """As the API has it, around its *output*."""
        made = self.made_at.isoformat(timespec="milliseconds") if self.made_at else None
        return {"id": self.pk, "made_at": made, "options": self.options, "output": output}


def files_of(**which: Any) -> dict[UUID, set[str]]:
    """The files in our storage that each job's stages consist of, those of their earlier versions, too.

    *which*: as filter() takes it, of both, such as those of one job; all of them without it.
    """
    outputs = Stage.objects.filter(**which).exclude(output=None).values_list("job", "output")
    earlier = EarlierVersion.objects.filter(**which).values_list("job", "output")
    found: dict[UUID, set[str]] = {}
    for job, output in (*outputs, *earlier):
        found.setdefault(job, set()).update(parse_output(output).names)
    return found


def files_alone_of(job: JobRow, *, with_source: bool) -> set[str]:
    """All files of a job, which go with it; *with_source*: no other job has the same."""
    names = files_of(job=job.pk).get(job.pk, set())
    ours = job.source_name.startswith(SOURCES)  # what lies elsewhere in the bucket was there before
    names |= {job.source_name} if ours and with_source else set()
    copies = storage.under(f"outputs/{job.pk}")  # of stages that were cancelled, too
    return {*storage.members(names), *(name for name, _, _ in copies)}
