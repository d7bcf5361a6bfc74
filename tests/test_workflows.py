"""The workflow's rules, on a real Temporal server with fake activities."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager, suppress

import pytest
from temporalio import activity
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import Worker

from jobs import messages
from jobs.messages import Cancellation, Failure, RecordRequest, RetryRequest, TaskRequest, TaskWatch
from jobs.pipelines import (
    ACTIVITIES,
    PIPELINES,
    JobState,
    Output,
    PipelineInput,
    Source,
    StageState,
    StageStatus,
)
from jobs.workflows import MediaPipeline

pytestmark = pytest.mark.anyio
BOTH = Output(name="outputs/x.mp4", video_codec="h264", audio_codec="aac", codecs_known=True, duration=10)


class World:
    """The outside, as the workflow sees it: a script of what each stage's attempts come to."""

    def __init__(self, script=None):
        self.script = {name: list(steps) for name, steps in (script or {}).items()}
        self.created, self.cancelled, self.records = [], [], []
        self.gate = asyncio.Event()

    def step(self, key):
        steps = self.script.get(key)
        return steps.pop(0) if steps else None

    def activities(self):
        @activity.defn
        async def create_task(request: TaskRequest) -> str:
            self.created.append((request.stage, request.key))
            step = self.step(f"create {request.stage}")
            if isinstance(step, Failure):
                raise ApplicationError(f"refused {step.kind}", step, type=messages.FAILED, non_retryable=True)
            return f"task-{len(self.created)}"

        @activity.defn
        async def cancel_task(task_id: str) -> Cancellation:
            self.cancelled.append(task_id)
            return Cancellation(encoder_stopped=True, freed_bytes=41_000_000)

        @activity.defn
        async def keep_output(request: messages.KeepRequest) -> Output:
            return request.output

        @activity.defn
        async def record(request: RecordRequest) -> bool:
            self.records.append(request)
            return True

        return [*map(self.stage, ACTIVITIES), create_task, cancel_task, keep_output, record]

    def stage(self, name):
        @activity.defn(name=name)
        async def run(watch: TaskWatch) -> Output:
            step = self.step(name)
            if isinstance(step, Failure):
                raise ApplicationError(
                    f"it failed: {step.kind}", step, type=messages.FAILED, non_retryable=True
                )
            if isinstance(step, ApplicationError):
                raise step
            if step == "hang":
                while not self.gate.is_set():
                    activity.heartbeat()
                    await asyncio.sleep(0.02)
            return step if isinstance(step, Output) else BOTH

        return run


def plan(pipeline="standard", **fields):
    return PipelineInput(
        "j", Source(url="https://example.com/a.mov"), list(PIPELINES[pipeline].stages), "ada", **fields
    )


@asynccontextmanager
async def running(env, world, given=None):
    """A started pipeline and its worker."""
    queue = str(uuid.uuid4())
    async with Worker(env.client, task_queue=queue, workflows=[MediaPipeline], activities=world.activities()):
        handle = await env.client.start_workflow(
            MediaPipeline.run, given or plan(), id=f"media-{queue}", task_queue=queue
        )
        try:
            yield handle
        finally:  # an open workflow without a worker would stop the server's skipping of time
            with suppress(RPCError):
                await handle.terminate()


async def until(env, handle, condition):
    """The first status for which *condition* holds; retries' waits are skipped where the server can."""
    for _ in range(500):
        status = await handle.query(MediaPipeline.status)
        if condition(status):
            return status
        if env.supports_time_skipping:
            await env.sleep(1)
        await asyncio.sleep(0.02)
    raise AssertionError(f"never came true; last: {status}")


def states(status):
    return {stage.name: str(stage.state) for stage in status.stages}


def attention(status):
    return status.state == JobState.ATTENTION


async def test_a_job_runs_its_four_stages_with_one_task_each(skipping_env):
    world = World()
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert status.state == JobState.SUCCEEDED
    assert set(states(status).values()) == {"succeeded"}
    assert sorted(stage for stage, _ in world.created) == ["audio", "ingest", "thumbnails", "transcode"]
    assert world.created[0] == ("ingest", f"{handle.id}/ingest/1")


async def test_thumbnails_audio_and_transcode_run_at_the_same_time_after_ingest(dev_env):
    world = World({name: ["hang"] for name in ("generate_thumbnails", "extract_audio", "transcode")})
    async with running(dev_env, world) as handle:
        status = await until(dev_env, handle, lambda s: sum(x.task_id is not None for x in s.stages) == 4)
        assert states(status) == {
            "ingest": "succeeded",
            "thumbnails": "running",
            "audio": "running",
            "transcode": "running",
        }
        world.gate.set()
        assert (await handle.result()).state == JobState.SUCCEEDED


async def test_what_is_recorded_last_is_how_the_job_ended_and_events_come_once(skipping_env):
    world = World()
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert world.records[-1].status.seq == status.seq
    assert world.records[-1].status.state == JobState.SUCCEEDED
    seqs = [event.seq for request in world.records for event in request.events]
    assert seqs == list(range(1, len(seqs) + 1))


async def test_a_failed_task_is_tried_again_with_a_new_task_and_nothing_else_is(skipping_env):
    world = World({"generate_thumbnails": [Failure("internal_error", task_over=True)] * 2})
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    keys = [key.split("/", 1)[1] for stage, key in world.created if stage == "thumbnails"]
    assert keys == ["thumbnails/1", "thumbnails/2", "thumbnails/3"]
    assert [stage for stage, _ in world.created].count("ingest") == 1
    assert status.stage("thumbnails").attempt == 3
    assert [a.outcome for a in status.stage("thumbnails").attempts] == ["failed", "failed", "succeeded"]
    assert status.stage("thumbnails").error is None


async def test_an_attempt_that_lost_sight_of_its_task_goes_on_with_the_same_task(skipping_env):
    world = World({"transcode": [Failure("broken_answer")]})
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert [stage for stage, _ in world.created].count("transcode") == 1
    assert status.stage("transcode").attempt == 2


@pytest.mark.parametrize(
    "activity_name, stage, attempts",
    [("ingest", "ingest", 3), ("generate_thumbnails", "thumbnails", 5), ("extract_audio", "audio", 3)],
)
async def test_a_stage_is_tried_as_often_as_its_retry_policy_says(
    skipping_env, activity_name, stage, attempts
):
    world = World({activity_name: [Failure("internal_error", task_over=True)] * 9})
    async with running(skipping_env, world) as handle:
        status = await until(skipping_env, handle, attention)
    assert status.stage(stage).state == StageState.FAILED
    assert status.stage(stage).attempt == status.stage(stage).max_attempts == attempts
    assert status.stage(stage).error == "it failed: internal_error"


async def test_a_failure_that_would_only_repeat_is_not_tried_again(skipping_env):
    world = World({"ingest": [Failure("damaged", permanent=True, task_over=True)]})
    async with running(skipping_env, world) as handle:
        status = await until(skipping_env, handle, attention)
    assert status.stage("ingest").attempt == 1
    assert states(status)["transcode"] == "pending"


async def test_an_engine_that_is_away_burns_no_attempt(skipping_env):
    world = World({"create ingest": [Failure("unreachable", outage=True)] * 8})
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert status.state == JobState.SUCCEEDED
    assert status.stage("ingest").attempt == 1
    assert {key for stage, key in world.created if stage == "ingest"} == {f"{handle.id}/ingest/1"}


async def test_a_worker_that_hands_over_burns_no_attempt(skipping_env):
    shutdown = ApplicationError("restarting", type=messages.HANDED_OVER)
    world = World({"transcode": [shutdown] * 5})
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert status.state == JobState.SUCCEEDED
    assert [stage for stage, _ in world.created].count("transcode") == 1


async def test_a_video_without_sound_skips_audio_and_asks_for_no_task(skipping_env):
    world = World({"ingest": [Output(name="outputs/x.mp4", video_codec="h264", codecs_known=True)]})
    async with running(skipping_env, world) as handle:
        status = await handle.result()
    assert status.state == JobState.SUCCEEDED
    assert states(status)["audio"] == "skipped"
    assert status.stage("audio").error == "This file has no sound."
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


async def test_a_failed_stage_holds_while_its_siblings_go_on(skipping_env):
    world = World({"extract_audio": [Failure("damaged", permanent=True, task_over=True)]})
    async with running(skipping_env, world) as handle:
        status = await until(skipping_env, handle, attention)
    assert states(status) == {
        "ingest": "succeeded",
        "thumbnails": "succeeded",
        "audio": "failed",
        "transcode": "succeeded",
    }


async def test_a_retry_runs_that_stage_and_nothing_else_and_says_who_asked(skipping_env):
    world = World({"extract_audio": [Failure("damaged", permanent=True, task_over=True)]})
    async with running(skipping_env, world) as handle:
        await until(skipping_env, handle, attention)
        before = len(world.created)
        labels = await handle.execute_update(
            MediaPipeline.retry_stage, RetryRequest("audio", "grace", "new disk")
        )
        status = await handle.result()
    assert labels == ["Audio"]
    assert world.created[before:] == [("audio", f"{handle.id}/audio/2")]
    assert status.state == JobState.SUCCEEDED
    assert status.stage("audio").error is None
    events = [event for request in world.records for event in request.events]
    assert [(e.actor, e.stage, e.text) for e in events if e.kind == "retry"] == [
        ("grace", "audio", "Audio was retried: new disk")
    ]


async def test_a_retried_ingest_is_followed_by_what_needs_it(skipping_env):
    world = World({"ingest": [Failure("damaged", permanent=True, task_over=True)]})
    async with running(skipping_env, world) as handle:
        await until(skipping_env, handle, attention)
        await handle.execute_update(MediaPipeline.retry_stage, RetryRequest(actor="ada"))
        status = await handle.result()
    assert set(states(status).values()) == {"succeeded"}


@pytest.mark.parametrize(
    "request_, sentence",
    [
        (RetryRequest("ingest"), "Ingest is succeeded, not failed: there is nothing to retry."),
        (RetryRequest("poster"), "This job has no stage 'poster'."),
        (RetryRequest("audio", tries=7), "Audio has been retried by somebody else meanwhile."),
    ],
)
async def test_a_retry_that_makes_no_sense_is_refused_with_a_sentence(skipping_env, request_, sentence):
    world = World({"extract_audio": [Failure("damaged", permanent=True, task_over=True)]})
    async with running(skipping_env, world) as handle:
        await until(skipping_env, handle, attention)
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update(MediaPipeline.retry_stage, request_)
    assert sentence in str(refused.value.cause)


async def test_two_people_who_retry_at_once_get_one_retry(dev_env):
    world = World({"extract_audio": [Failure("damaged", permanent=True, task_over=True), "hang"]})
    async with running(dev_env, world) as handle:
        await until(dev_env, handle, attention)
        asked = [
            handle.execute_update(MediaPipeline.retry_stage, RetryRequest("audio", who, tries=1))
            for who in ("ada", "grace", "linus")
        ]
        results = await asyncio.gather(*asked, return_exceptions=True)
        world.gate.set()
        await handle.result()
    assert sum(result == ["Audio"] for result in results) == 1
    assert [stage for stage, _ in world.created].count("audio") == 2


async def test_a_job_nobody_decides_about_is_given_up_after_a_week(skipping_env):
    world = World({"extract_audio": [Failure("damaged", permanent=True, task_over=True)]})
    async with running(skipping_env, world) as handle:
        with pytest.raises(WorkflowFailureError) as ended:
            await handle.result()
    assert "Nobody decided within 7 days" in str(ended.value.cause)
    assert world.records[-1].status.state == JobState.FAILED
    assert world.records[-1].status.stage("audio").state == StageState.FAILED


async def test_the_failure_of_an_extra_leaves_the_job_done(skipping_env):
    world = World({"draw_waveform": [Failure("damaged", permanent=True, task_over=True)]})
    async with running(skipping_env, world, plan("previews")) as handle:
        status = await handle.result()
    assert status.state == JobState.SUCCEEDED
    assert states(status)["waveform"] == "failed"


async def test_finished_stages_of_an_earlier_run_are_carried_over(skipping_env):
    done = StageStatus("ingest", "Ingest", StageState.SUCCEEDED, attempt=2, output=BOTH, tries=2)
    world = World()
    async with running(skipping_env, world, plan(carried={"ingest": done}, tries={"audio": 3})) as handle:
        status = await handle.result()
    assert "ingest" not in [stage for stage, _ in world.created]
    assert ("audio", f"{handle.id}/audio/4") in world.created
    assert status.stage("ingest").attempt == 2


async def test_a_cancel_stops_the_tasks_at_work_and_leaves_a_receipt(dev_env):
    world = World({"transcode": ["hang"]})
    async with running(dev_env, world) as handle:
        await until(
            dev_env, handle, lambda s: s.stage("transcode").task_id and s.stage("audio").state == "succeeded"
        )
        await handle.cancel(reason="grace\nwrong file")
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    last = world.records[-1].status
    assert len(world.cancelled) == 1
    assert last.state == JobState.CANCELLED
    assert states(last)["transcode"] == "cancelled"
    assert states(last)["ingest"] == "succeeded"
    assert "encoder stopped, 41 MB of partial files removed; kept the output of ingest" in last.receipt
    events = [event for request in world.records for event in request.events]
    assert ("grace", "Cancel was asked for: wrong file") in [(e.actor, e.text) for e in events]


async def test_a_held_job_can_be_cancelled(dev_env):
    world = World({"ingest": [Failure("damaged", permanent=True, task_over=True)]})
    async with running(dev_env, world) as handle:
        await until(dev_env, handle, attention)
        await handle.cancel(reason="ada\n")
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert world.records[-1].status.state == JobState.CANCELLED
    assert world.cancelled == []
    assert "no encoder was at work" in world.records[-1].status.receipt


async def test_a_cancel_during_the_wait_for_a_retry_ends_at_once(dev_env):
    world = World({"ingest": [Failure("internal_error", task_over=True)]})
    async with running(dev_env, world) as handle:
        await until(dev_env, handle, lambda s: s.stage("ingest").retry_at is not None)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 3)
    assert world.records[-1].status.state == JobState.CANCELLED
