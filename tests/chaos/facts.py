"""What is known afterwards, as plain values: rows, workflows, tasks, files, answers, processes.

Pure: it knows no product; tests/chaos/collect.py fills it in. Moments are unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

Found = Iterator[tuple[str, str]]  # what a rule yields: job, evidence
ACTIVE = ("queued", "running", "attention")
OPEN_TASK = ("queued", "processing")


@dataclass
class Answer:
    """What a person asked for, and what was answered."""

    verb: str
    door: str
    person: str
    jobs: list[str]  # that it was about; of a submission none
    asked_at: float = 0
    answered_at: float = 0
    status: int = 0  # of HTTP; of a command 200 where it succeeded and 409 where it did not; 0: no answer
    sentences: list[str] = field(default_factory=list)
    made: str = ""  # the job of a submission
    title: str = ""
    fate: str = ""  # of a submission's tasks, as its script has it
    errors: list[str] = field(
        default_factory=list
    )  # each reply that was a mistake of the product's, on the way
    cut: bool = False  # asked, and the line broke before the answer: it may have been done

    @property
    def sentence(self) -> str:
        """All that was said."""
        return " ".join(self.sentences)


@dataclass
class AttemptRow:
    """An attempt as the time axis has it."""

    outcome: str
    started_at: float = 0
    finished_at: float = 0
    error: str = ""


@dataclass
class StageRow:
    """A stage as its row has it."""

    name: str
    state: str = "succeeded"
    task: str = ""
    tries: int = 1
    files: list[str] = field(default_factory=list)
    optional: bool = False
    planned: int = 3  # attempts that its plan gives it
    attempt: int = 1
    max_attempts: int = 3
    attempts: list[AttemptRow] = field(default_factory=list)


@dataclass
class EventRow:
    """A line of a job's timeline."""

    kind: str
    at: float
    actor: str = ""
    stage: str = ""
    text: str = ""
    run: int = 0


@dataclass
class JobRow:
    """A job as its row has it."""

    id: str
    owner: str = "ada"
    title: str = ""
    state: str = "succeeded"
    run: int = 1
    cancelling: bool = False
    finished_at: float | None = None
    error: str = ""
    source: str = ""
    receipt: str = ""
    stages: list[StageRow] = field(default_factory=list)
    earlier_files: list[str] = field(default_factory=list)  # of what its stages were before
    events: list[EventRow] = field(default_factory=list)

    def at(self, kind: str) -> list[float]:
        """When that happened to it."""
        return [event.at for event in self.events if event.kind == kind]


@dataclass
class Workflow:
    """A run of a job's workflow in Temporal."""

    job: str
    status: str = "COMPLETED"
    run: int = 1
    started_at: float = 0
    closed_at: float | None = None


@dataclass
class Task:
    """A task that the API was asked for."""

    id: str
    job: str
    stage: str
    key: str  # workflow, stage and try
    status: str = "succeeded"
    created_at: float = 0
    workflow: str = ""  # the status of its workflow, of the embedded engine's tasks


@dataclass
class Facts:
    """All of it, once everything is quiet."""

    rows: list[JobRow] = field(default_factory=list)
    workflows: list[Workflow] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    files: list[str] = field(default_factory=list)  # under the media root
    unfinished: list[str] = field(default_factory=list)  # the names of part files that an upload's row owns
    scratch: list[str] = field(default_factory=list)  # what is left in the engine's work folder
    processes: list[str] = field(default_factory=list)  # that are left once the product has stopped
    errors: list[str] = field(default_factory=list)  # the last lines of tracebacks in the web's log
    waited: list[str] = field(default_factory=list)  # jobs that waited for a person once people were done
    history_lost_at: list[float] = field(default_factory=list)  # when Temporal's history was removed
    encoders_killed_at: list[float] = field(default_factory=list)  # alone, without their worker
    database_locked: bool = False  # for a time, by somebody else
    web_killed: bool = False
    worker_killed: bool = False

    @property
    def fates(self) -> dict[str, str]:
        """How each job's tasks should have gone, by its title: `tests/chaos/script.py` has the words."""
        return {answer.title: answer.fate for answer in self.answers if answer.verb == "submit"}
