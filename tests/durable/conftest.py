"""The product against an API that misbehaves: as processes, and inside the test's own process."""

from __future__ import annotations

import uuid

import pytest
from asgiref.sync import sync_to_async

from jobs import control, worker, workflow_calls
from jobs.batches import waking
from jobs.ittybit.client import IttybitClient, open_http
from jobs.models import Job
from jobs.state import Source
from jobs.workflow.activities import Activities
from mediapipe import temporal
from tests.support.dashboard import URL, cancel_all
from tests.support.product import CALM, PATIENCE, make_clip, until_async


@pytest.fixture(scope="session")
def film(tmp_path_factory):
    """A film that ingest must encode."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    return make_clip(path, 40, "640x360", "-c:v", "mpeg4", *CALM)  # long enough to hold


@pytest.fixture(autouse=True)
def _alone(request):
    """No job of an earlier test is at work in the product."""
    if "product" in request.fixturenames:
        cancel_all(request.getfixturevalue("product"))


@pytest.fixture
async def doing(api, settings, anyio_backend):
    """The activities alone, against that API."""
    settings.EMBEDDED_ENGINE = False
    async with open_http(api.url, "secret") as http:
        yield Activities(IttybitClient(http))


class Inside:
    """The dashboard and its workers in this process, on a real Temporal and a real database."""

    def __init__(self, client, engine, owner, api):
        self.client = client
        self.engine = engine
        self.owner = owner
        self.api = api
        self.jobs = []

    async def submit(self, start: bool = True, **fields) -> Job:
        given = {"title": "a film", "pipeline": "standard", "source": Source(url=URL)}
        job = await sync_to_async(Job.submit)(self.owner, **{**given, **fields})
        self.jobs.append(job)
        if start:
            assert await control.start(job)
        return job

    async def until(self, job: Job, condition, patience: float = PATIENCE) -> Job:
        """The row as soon as *condition* holds for it.

        Patient: a worker that has stopped may have taken a short activity along, which is given out anew when
        its time is over: 20 or 30 s.
        """
        last = job

        async def look() -> Job | None:
            nonlocal last
            last = await Job.objects.select_related("owner").aget(pk=job.pk)
            return last if await sync_to_async(condition)(last) else None

        return await until_async(look, patience, about=lambda: f"{last.state}, {last.error or last.note}")

    async def ended(self, job: Job, state: str) -> Job:
        return await self.until(job, lambda j: j.state == state)

    def workflow(self, job: Job):
        return self.client.get_workflow_handle(job.workflow_id)

    async def terminate(self, job: Job, reason: str = "") -> None:
        """Ends its workflow, as an admin may do it in Temporal itself."""
        run = (await self.workflow(job).describe()).run_id
        await self.workflow(job).terminate(reason)
        await self.listed(job, run, running=False)

    async def listed(self, job: Job, run: str = "", *, running: bool) -> None:
        """Waits until Temporal's list, which is a moment behind, has its latest *run* as running, or not."""
        run = run or (await self.workflow(job).describe()).run_id
        query = f"WorkflowId = '{job.workflow_id}' AND RunId = '{run}' AND ExecutionStatus = 'Running'"

        async def as_it_is() -> bool:
            return bool([each async for each in self.client.list_workflows(query)]) is running

        await until_async(as_it_is)

    def asked(self, job: Job, stage: str = "") -> list[dict]:
        """The tasks that the API was asked for."""
        return self.api.asked(job.pk, stage)


@pytest.fixture
async def dashboard(dev_env, api, settings, temporal_at, transactional_db, editor, monkeypatch):
    """Inside, without workers. Its task queue is its own: no earlier test's worker takes anything from it."""
    queue = f"media-pipeline-{uuid.uuid4()}"
    for module in (worker, workflow_calls, waking):
        monkeypatch.setattr(module, "TASK_QUEUE", queue)
    temporal_at(dev_env.client.service_client.config.target_host)
    settings.EMBEDDED_ENGINE = False
    settings.ITTYBIT_API_URL, settings.ITTYBIT_API_KEY = api.url, "k"
    settings.PUBLIC_URL = "http://dashboard.example.com"
    settings.HEARTBEAT_SECONDS = settings.ENGINE_HEARTBEAT_SECONDS = 3.0  # a lost worker is noticed soon
    async with open_http(api.url, "k") as http:
        made = Inside(dev_env.client, IttybitClient(http), editor, api)
        yield made
        for job in made.jobs:
            try:
                await made.workflow(job).terminate()
            except Exception:
                continue


@pytest.fixture
async def inside(dashboard, settings):
    """Inside, with its workers: none is lost, and none seems so because a busy machine keeps it waiting."""
    settings.HEARTBEAT_SECONDS = settings.ENGINE_HEARTBEAT_SECONDS = 30.0
    async with temporal.run_workers(worker.build(dashboard.client, dashboard.engine)):
        yield dashboard
        for job in dashboard.jobs:  # nobody hands over to nobody
            try:
                await dashboard.workflow(job).terminate()
            except Exception:
                continue
