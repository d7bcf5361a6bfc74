"""When each activity of an engine's task waited, began and ended, and where: by Temporal's history."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.converter import DataConverter

from tests.support.product import Product


@dataclass
class Row:
    """One activity."""

    what: str
    waits: datetime
    begins: datetime | None = None
    ends: datetime | None = None
    worker: str = ""
    attempt: int = 0


def activities(product: Product, task: str) -> list[Row]:
    """Those of a *task*, in the order in which they were asked for; who is at one now isn't told."""
    address = json.loads((product.home / "addresses.json").read_text())["temporal"]
    return asyncio.run(_rows(address, task))


def timeline(product: Product, task: str) -> str:
    """A table of the activities of a *task*, in seconds since the first one was asked for."""
    rows = activities(product, task)
    zero = rows[0].waits
    lines = [f"| {task} | asked for | begins | ends | on |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        begins, ends = ((each - zero).total_seconds() if each else -1 for each in (row.begins, row.ends))
        waits = (row.waits - zero).total_seconds()
        lines.append(f"| {row.what} | {waits:.2f} | {begins:.2f} | {ends:.2f} | {row.worker} |")
    return "\n".join(lines)


async def _rows(address: str, task: str) -> list[Row]:
    client = await Client.connect(address)
    rows: dict[int, Row] = {}
    async for event in client.get_workflow_handle(task).fetch_history_events():
        at = event.event_time.ToDatetime()
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            asked = event.activity_task_scheduled_event_attributes
            summary = ""
            if event.user_metadata.summary.data:
                [summary] = await DataConverter.default.decode([event.user_metadata.summary])
            rows[event.event_id] = Row(summary or asked.activity_type.name, at)
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            started = event.activity_task_started_event_attributes
            rows[started.scheduled_event_id].begins = at
            rows[started.scheduled_event_id].worker = started.identity
            rows[started.scheduled_event_id].attempt = started.attempt
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            rows[event.activity_task_completed_event_attributes.scheduled_event_id].ends = at
    return list(rows.values())
