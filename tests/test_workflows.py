"""The pipeline's order, on a real Temporal server with scripted activities."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from functools import partial

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, TimeoutError, TimeoutType
from temporalio.worker import Replayer

from jobs.requests import Cancellation, Failure, RetryRequest
from jobs.result import PipelineResult
from jobs.state import FINISHED, JobState, Output
from jobs.workflow.failures import gone_silent, timed_out
from jobs.workflow.media_pipeline import MediaPipeline
from jobs.workflow.receipt import CancelReceipt
from tests.support.world import (
    BROKEN,
    FLAKY,
    World,
    attention,
    cloud_then_own,
    plan,
    running,
    states,
    status_when,
    transcode_last,
)

pytestmark = pytest.mark.anyio


async def test_a_job_runs_its_four_stages_with_one_task_each(skipping_env):
    world = World()
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert status.state == JobState.SUCCEEDED
    assert set(states(status).values()) == {"succeeded"}
    assert status.result == PipelineResult(*["outputs/x.mp4"] * 4)
    assert sorted(stage for stage, _ in world.created) == ["audio", "ingest", "thumbnails", "transcode"]
    assert world.created[0] == ("ingest", f"{handle.id}/ingest/1")


async def test_thumbnails_audio_and_transcode_run_at_the_same_time_after_ingest(dev_env):
    world = World({name: ["hang"] for name in ("generate_thumbnails", "extract_audio", "transcode")})
    async with running(dev_env, world) as handle:
        status = await status_when(
            dev_env, handle, lambda s: sum(x.task_id is not None for x in s.stages) == 4
        )
        assert states(status) == {
            "ingest": "succeeded",
            "thumbnails": "running",
            "audio": "running",
            "transcode": "running",
        }
        world.gate.set()
        assert (await handle.result()).state == JobState.SUCCEEDED


async def test_of_stages_that_may_begin_together_what_takes_longest_is_asked_for_first(skipping_env):
    async with running(skipping_env, World()) as handle:
        await handle.result()
        history = await handle.fetch_history()
    scheduled = [event.activity_task_scheduled_event_attributes for event in history.events]
    asked = [each.activity_id for each in scheduled if each.activity_type.name == "create_task"]
    assert asked == [f"create-{name}-1" for name in ("ingest", "transcode", "thumbnails", "audio")]


async def history_of(handle):
    """How many events a job's history has, and how often each activity was scheduled; it replays."""
    history = await handle.fetch_history()
    await Replayer(workflows=[MediaPipeline]).replay_workflow(history)
    events = history.events
    scheduled = [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    return len(events), Counter(scheduled)


async def test_a_stage_begins_when_all_that_it_waits_for_is_done_or_skipped(skipping_env):
    """What it only waits for it doesn't work on."""
    silent = Output(name="outputs/ingest.mp4", video_codec="h264", codecs_known=True)
    world = World({"ingest": [silent], "generate_thumbnails": [BROKEN]})
    async with running(skipping_env, world, transcode_last()) as handle:
        status = await status_when(skipping_env, handle, attention)
        assert states(status)["audio"] == "skipped" and states(status)["transcode"] == "pending"
        await handle.execute_update(MediaPipeline.retry_stage, RetryRequest("thumbnails", "ada"))
        assert (await handle.result()).state == JobState.SUCCEEDED
    assert [stage for stage, _ in world.created] == ["ingest", "thumbnails", "thumbnails", "transcode"]
    assert world.requests[-1].source.name == "outputs/ingest.mp4"


async def test_what_the_cloud_gives_up_the_own_engine_makes_with_attempts_of_its_own(skipping_env):
    script = {"transcode": [BROKEN, FLAKY], "extract_audio": [FLAKY] * 3, "create thumbnails": [BROKEN] * 2}
    world = World(script)
    async with running(skipping_env, world, cloud_then_own()) as handle:
        status = await status_when(skipping_env, handle, attention)
        made = {stage.name: (stage.engine, len(stage.attempts)) for stage in status.stages}
        await handle.execute_update(MediaPipeline.retry_stage, RetryRequest("thumbnails", "ada"))
        assert (await handle.result()).state == JobState.SUCCEEDED
    assert made == {"ingest": ("", 1), "thumbnails": ("own", 2), "audio": ("own", 4), "transcode": ("own", 3)}
    asked = [(each.stage, each.engine) for each in world.requests]
    assert asked[-1] == ("thumbnails", "")  # a person's retry begins with the cloud again
    assert asked.count(("audio", "")) == 3 and asked.count(("audio", "own")) == 1
    told = [event.text for event in world.events() if event.kind == "engine"]
    assert any(each.startswith("The cloud gave Transcode up: it failed: damaged") for each in told)


async def test_in_temporal_a_job_is_its_stages_and_their_tasks_and_only_its_end_is_recorded_by_an_activity(
    dev_env,
):
    world = World()
    async with running(dev_env, world) as handle:
        await handle.result()
        length, activities = await history_of(handle)
    stages = {"ingest": 1, "generate_thumbnails": 1, "extract_audio": 1, "transcode": 1}
    assert activities == {"create_task": 4, "record": 1, **stages}
    assert length <= 85, "docs/durability.md says about 80"


async def test_temporals_own_page_of_a_job_says_where_each_stage_stands(skipping_env):
    async with running(skipping_env, World({"transcode": [BROKEN]})) as handle:
        await status_when(skipping_env, handle, attention)
        about = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    assert about.current_details.splitlines() == [
        "- **Ingest**: succeeded, attempt 1 of 3",
        "- **Thumbnails**: succeeded, attempt 1 of 5",
        "- **Audio**: succeeded, attempt 1 of 3",
        "- **Transcode**: failed, attempt 1 of 1: it failed: damaged",
    ]


async def test_while_the_database_is_away_recording_waits_as_an_activity_and_then_is_none_again(dev_env):
    away = ApplicationError("the database is away")
    world = World({"record": [None, away, away, away]})
    async with running(dev_env, world) as handle:
        status = await handle.result()
        _, activities = await history_of(handle)
    assert activities["record"] == 2, "each of its retries took room in the history, or the end isn’t in it"
    assert world.records[-1].status == status
    seqs = [event.seq for event in world.events()]
    assert seqs == list(range(1, len(seqs) + 1))


async def test_what_is_recorded_last_is_how_the_job_ended_and_events_come_once(skipping_env):
    world = World()
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert world.records[-1].status.seq == status.seq
    assert world.records[-1].status.state == JobState.SUCCEEDED
    seqs = [event.seq for event in world.events()]
    assert seqs == list(range(1, len(seqs) + 1))


@pytest.mark.parametrize("end", [JobState.SUCCEEDED, JobState.FAILED])
async def test_a_cancel_that_comes_while_the_end_is_recorded_changes_nothing_of_it(dev_env, end):
    """Temporal takes no end from a workflow that hasn't heard of it: the same step is done again with it."""
    world = World({"transcode": [BROKEN]} if end == JobState.FAILED else {})
    given = plan(hold_days=0.1 / 86400) if end == JobState.FAILED else plan()
    async with running(dev_env, world, given) as handle:
        world.at_end = partial(handle.cancel, reason="grace")
        with pytest.raises(WorkflowFailureError) if end == JobState.FAILED else nullcontext():
            await handle.result()
        closed = await handle.describe()
        await Replayer(workflows=[MediaPipeline]).replay_workflow(await handle.fetch_history())
    assert closed.status.name == {JobState.SUCCEEDED: "COMPLETED", JobState.FAILED: "FAILED"}[end]
    assert [each.status.state for each in world.records if each.status.state in FINISHED] == [end]


async def test_a_video_without_sound_skips_audio_and_asks_for_no_task(skipping_env):
    world = World({"ingest": [Output(name="outputs/x.mp4", video_codec="h264", codecs_known=True)]})
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert status.state == JobState.SUCCEEDED
    assert states(status)["audio"] == "skipped"
    assert status.stage("audio").error == "no audio in this file."
    assert status.result and status.result.ingested_url and status.result.audio_url is None
    assert "audio" not in [stage for stage, _ in world.created]


async def test_an_audio_file_skips_thumbnails_and_transcode(skipping_env):
    world = World({"ingest": [Output(name="outputs/x.mp4", audio_codec="aac", codecs_known=True)]})
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert states(status) == {
        "ingest": "succeeded",
        "thumbnails": "skipped",
        "audio": "succeeded",
        "transcode": "skipped",
    }


async def test_an_api_that_finds_no_sound_by_itself_skips_the_stage_too(skipping_env):
    world = World(
        {
            "ingest": [Output(name="outputs/x.mp4")],
            "extract_audio": [Failure("no_audio", permanent=True, task_over=True)],
        }
    )
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert states(status)["audio"] == "skipped"


async def test_how_long_a_worker_may_be_silent_is_part_of_the_plan(skipping_env):
    world = World({"ingest": [Output(url="https://api.example.com/x.mp4")]})
    async with running(skipping_env, world, plan(heartbeat_timeout=7)) as handle:
        await handle.result()
        history = await handle.fetch_history()
    scheduled = [
        event.activity_task_scheduled_event_attributes
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    timeouts = {each.activity_type.name: each.heartbeat_timeout.seconds for each in scheduled}
    assert timeouts == {
        **dict.fromkeys(("ingest", "generate_thumbnails", "extract_audio", "transcode", "keep_output"), 7),
        "create_task": 0,
        "record": 0,
    }


def silent(*details) -> TimeoutError:
    return TimeoutError("heartbeat timeout", type=TimeoutType.HEARTBEAT, last_heartbeat_details=details)


@pytest.mark.parametrize(
    "details, outcome, says",
    [
        ([{"at": 968.0}], "lost", "The worker stopped."),
        ([{"at": 905.0}], "interrupted", "No sign from the worker for 95 s: it stopped, or the workflow"),
        ([{"state": "queued"}], "lost", "The worker stopped."),  # of a worker of the version before
        ([], "lost", "The worker stopped."),
    ],
)
def test_a_worker_is_told_as_lost_only_where_temporal_cannot_have_been_away(details, outcome, says):
    failed = gone_silent(silent(*details), now=1000.0, heartbeat_timeout=30)
    assert failed.outcome == outcome and str(failed).startswith(says)


@pytest.mark.parametrize(
    "activity, kind, outage, says",
    [
        ("transcode", TimeoutType.SCHEDULE_TO_START, True, "No worker was free in time."),
        ("create_task", TimeoutType.START_TO_CLOSE, True, "Creating the task took too long."),
        ("keep_output", TimeoutType.START_TO_CLOSE, False, "Copying the output took too long."),
        ("transcode", TimeoutType.START_TO_CLOSE, False, "This wasn’t done within its time limit"),
    ],
)
def test_what_took_too_long_is_told_as_that_and_not_as_a_lost_worker(activity, kind, outage, says):
    failed = timed_out(activity, kind)
    assert failed.outcome == "failed" and failed.failure.outage == outage and str(failed).startswith(says)


async def test_a_task_whose_creation_timed_out_is_asked_for_again_and_no_worker_was_lost(skipping_env):
    late = TimeoutError("late", type=TimeoutType.START_TO_CLOSE, last_heartbeat_details=[])
    world = World({"create ingest": [late]})
    async with running(skipping_env, world) as handle:
        status = await handle.result()
        await Replayer(workflows=[MediaPipeline]).replay_workflow(await handle.fetch_history())
    assert [a.outcome for a in status.stage("ingest").attempts] == ["succeeded"]
    assert world.keys("ingest") == ["ingest/1"] * 2


STOPPED = Cancellation(encoder_stopped=True)
RECEIPTS = [
    ([], 0.0, [], "Cancelled. Nothing was being encoded."),
    ([Cancellation()], 0.0, ["Ingest"], "Cancelled. Nothing was being encoded; the Ingest output was kept."),
    ([STOPPED], 2.3, [], "Cancelled. Encoding stopped within 3 s."),
    (
        [Cancellation(encoder_stopped=True, freed_bytes=400_000), Cancellation(freed_bytes=900_000)],
        0.01,
        ["Ingest", "Audio"],
        "Cancelled. Encoding stopped within 1 s and 1 MB of partial files were removed; "
        "the Ingest and Audio outputs were kept.",
    ),
    (
        [None, Cancellation(supported=False)],
        60.0,
        [],
        "Cancelled. The engine can’t be reached, so work it has started may still finish.",
    ),
    ([STOPPED, None], 5.0, [], "Cancelled. Encoding stopped within 5 s."),
    (
        [Cancellation(supported=False)],
        0.2,
        ["Ingest", "Thumbnails", "Audio"],
        "Cancelled. The cloud can’t cancel work it has started, so it may still finish (and be billed); "
        "the Ingest, Thumbnails and Audio outputs were kept.",
    ),
]


@pytest.mark.parametrize("results, seconds, kept, sentence", RECEIPTS)
def test_a_cancel_leaves_a_receipt_in_words(results, seconds, kept, sentence):
    assert str(CancelReceipt.of(results, seconds, kept)) == sentence
