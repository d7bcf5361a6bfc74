"""A batch's manifest: what became of each source, as rows of a table and as JSON, some at a time.

It knows rows and no request.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any

from jobs import serialize
from jobs.dashboard.history import Echo, spreadsheet_cell
from jobs.models import Batch
from jobs.result import PipelineResult

CHUNK = 200  # items that are read together
COLUMNS = ("number", "source", "title", "pipeline", "state", "reason", "job", "job_url")
RESULT = tuple(PipelineResult.__dataclass_fields__)


def entries(batch: Batch) -> Iterator[dict[str, Any]]:
    """Each of its sources in order: where it stands, why, its job, and the URLs of one that is done."""
    items = batch.items.select_related("job__owner").prefetch_related("job__stages")
    for item in items.iterator(chunk_size=CHUNK):
        job = item.job_shown
        status = job.status() if job else None
        summary = serialize.summary(job, status) if job and status else {}
        yield {
            "number": item.number,
            "source": item.text,
            "title": job.title if job else item.title,
            "pipeline": item.pipeline,
            "state": item.says,
            "reason": item.error or (serialize.error(status) if status else "") or None,
            "job": summary.get("id"),
            "job_url": summary.get("url"),
            "result": summary.get("result"),
        }


def as_csv(batch: Batch) -> Iterator[str]:
    """The lines of a table: COLUMNS, and the result's."""
    writer = csv.writer(Echo())
    yield writer.writerow((*COLUMNS, *RESULT))
    for entry in entries(batch):
        result = entry["result"] or {}
        values = [*(entry[name] for name in COLUMNS), *(result.get(name) for name in RESULT)]
        yield writer.writerow([spreadsheet_cell(value) for value in values])


def as_json(batch: Batch, about: dict[str, Any]) -> Iterator[str]:
    """What there is to say *about* the batch, and in "items" its entries, a line each."""
    yield json.dumps(about)[:-1] + ', "items": [\n'
    for at, entry in enumerate(entries(batch)):
        yield (",\n" if at else "") + json.dumps(entry)
    yield "\n]}\n"
