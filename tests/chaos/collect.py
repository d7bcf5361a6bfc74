"""Collects the facts: asks the database, Temporal, the engine and the disk, each by itself.

It reads the database's file and not the models: what is judged is not asked to help.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from datetime import UTC, datetime
from typing import Any

from temporalio.client import Client

from tests.chaos.facts import AttemptRow, EventRow, Facts, JobRow, StageRow, Task, Workflow
from tests.chaos.installation import Installation

OPTIONAL = ("storyboard", "waveform", "preview")


def rows(installation: Installation, query: str) -> list[sqlite3.Row]:
    """What a query of the product's database finds."""
    path = f"file:{installation.product.home}/mediapipe.sqlite3?mode=ro"
    connection = sqlite3.connect(path, uri=True, timeout=20)
    connection.row_factory = sqlite3.Row
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def moment(text: str | None) -> float:
    """A moment of the database as unix seconds."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() if text else 0.0


def unfinished(installation: Installation) -> int:
    """How many jobs are still under way."""
    query = "select count(*) from jobs_job where state in ('queued', 'running') or cancelling"
    return int(rows(installation, query)[0][0])


async def collect(installation: Installation) -> Facts:
    """All facts but the answers and the processes."""
    engine = {row["id"]: row for row in rows(installation, "select * from engine_enginetask")}
    facts = Facts(rows=job_rows(installation), history_lost_at=installation.history_lost_at)
    host, port = installation.temporal()
    client = await Client.connect(f"{host}:{port}")
    flows: dict[str, str] = {}  # of the engine's tasks
    async for found in client.list_workflows():
        if found.workflow_type != "MediaPipeline":
            flows[found.id] = found.status.name if found.status else ""
            continue
        run = int(await found.memo_value("run", 1))
        closed = found.close_time.timestamp() if found.close_time else None
        state = found.status.name if found.status else ""
        job = found.id.removeprefix("media-")
        facts.workflows.append(Workflow(job, state, run, found.start_time.timestamp(), closed))
    facts.workflows.sort(key=lambda flow: flow.started_at)
    for task in engine.values():
        about = json.loads(task["metadata"])
        key = str(task["key"]).removeprefix("tasks/")
        created, flow = moment(task["created_at"]), flows.get(task["id"], "")
        facts.tasks.append(Task(task["id"], about["job"], about["stage"], key, task["status"], created, flow))
    for key, task in list(installation.gateway.tasks.items()):
        about = task["metadata"]
        made = Task(task["id"], about["job"], about["stage"], key, task["status"], task.get("created_at", 0))
        facts.tasks.append(made)
    media = installation.media
    facts.files = [str(path.relative_to(media)) for path in media.rglob("*") if path.is_file()]
    facts.unfinished = part_files(installation, facts.files)
    facts.scratch = [path.name for path in (installation.product.home / "work").glob("*")]
    return facts


def part_files(installation: Installation, files: list[str]) -> list[str]:
    """The part files of uploads that their people may still continue."""
    waiting = {row["id"] for row in rows(installation, "select id from jobs_upload where job_id is null")}
    return [name for name in files if name.startswith("incoming/") and name[9:].split(".")[0] in waiting]


def files_of(output: dict[str, Any]) -> list[str]:
    """The files in the storage that an output consists of."""
    return [name for name in (output.get("name"), *(output.get("extras") or {}).values()) if name]


def job_rows(installation: Installation) -> list[JobRow]:
    """The rows of jobs, each with its stages and its timeline."""
    owners = {row["id"]: row["username"] for row in rows(installation, "select id, username from auth_user")}
    jobs: dict[str, JobRow] = {}
    plans: dict[str, dict[str, int]] = {}
    for row in rows(installation, "select * from jobs_job"):
        jobs[row["id"]] = JobRow(
            str(uuid.UUID(row["id"])),
            owners[row["owner_id"]],
            row["title"],
            row["state"],
            row["run"],
            bool(row["cancelling"]),
            moment(row["finished_at"]) or None,
            row["error"],
            row["source_name"],
            row["receipt"],
        )
        plans[row["id"]] = {s["name"]: s["retry"]["attempts"] for s in json.loads(row["plan"])}
    for row in rows(installation, "select * from jobs_stage order by position"):
        names = files_of(json.loads(row["output"] or "null") or {})
        optional = row["name"] in OPTIONAL
        stage = StageRow(row["name"], row["state"], row["task_id"], row["tries"], names, optional)
        stage.planned = plans[row["job_id"]][row["name"]]
        stage.attempt, stage.max_attempts = row["attempt"], row["max_attempts"]
        for each in json.loads(row["attempts"]):
            over = each["finished_at"] or float("inf")
            stage.attempts.append(AttemptRow(each["outcome"], each["started_at"], over, each["error"]))
        jobs[row["job_id"]].stages.append(stage)
    for row in rows(installation, "select job_id, output from jobs_earlierversion"):
        jobs[row["job_id"]].earlier_files += files_of(json.loads(row["output"]))
    for row in rows(installation, "select * from jobs_event order by at, id"):
        at, run = moment(row["at"]), row["run"]
        event = EventRow(row["kind"], at, row["actor"], row["stage"], row["text"], run)
        jobs[row["job_id"]].events.append(event)
    return list(jobs.values())
