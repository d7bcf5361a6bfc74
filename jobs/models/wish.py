"""Wish: what a person asked of a job that its workflow hasn't taken yet. It knows no rows and no Temporal."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from mediapipe.accounts.audit import Act

# The kinds. A wish to start is no wish: the job is queued.
RETRY = "retry"
CANCEL = "cancel"
FORCE_RESTART = "force_restart"  # end a workflow that can't continue, and start the job again
DELETE = "delete"
DELETE_AT_END = "delete_at_end"  # of a job that was cancelled for it; it is recorded when that is done
ACTS = {RETRY: Act.RETRY, CANCEL: Act.CANCEL, FORCE_RESTART: Act.FORCE_RESTART, DELETE: Act.DELETE_FOR_GOOD}


@dataclass(frozen=True)
class Wish:
    """Kept in the job's row until the workflow of *run* has taken it, or there is no more use in it.

    *key*: the same key is the same wish; for a retry it is the id of Temporal's update. *at*: unix seconds.
    """

    kind: str
    actor: str
    reason: str = ""
    run: int = 1
    key: str = ""
    stage: str = ""  # of a retry; none: all that failed
    tries: int | None = None  # as in RetryRequest
    at: float = field(default_factory=time.time)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Wish:
        """As it was kept; what another version added is left out."""
        known = {key: value[key] for key in cls.__dataclass_fields__ if key in value}
        return cls(**known)

    @property
    def act(self) -> Act | None:
        """What the audit log calls it; None where it isn't recorded when it is asked for."""
        return ACTS.get(self.kind)

    @property
    def text(self) -> str:
        """What it says beside its kind: of which stage, and why."""
        return f"{self.stage}: {self.reason}" if self.stage and self.reason else self.stage or self.reason

    def as_json(self) -> dict[str, Any]:
        """As it is kept."""
        return asdict(self)

    def same(self, other: Wish) -> bool:
        """Whether both ask for the same thing of the same run."""
        return (self.kind, self.run, self.key) == (other.kind, other.run, other.key)
