"""How a job is found in Temporal's own list: the names of its search attributes, and their values.

Deterministic: the workflow keeps the state up to date. It asks no server: mediapipe.temporal knows whether
Temporal has these names.
"""

from __future__ import annotations

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

OWNER, PIPELINE, STATE, TITLE = KEYS = [
    SearchAttributeKey.for_keyword(name)
    for name in ("MediaOwner", "MediaPipelineName", "MediaState", "MediaTitle")
]
NAMES = [key.name for key in KEYS]
MAX_LENGTH = 200  # characters; a SQL database keeps 255


def of_job(owner: str, pipeline: str, title: str, state: str) -> TypedSearchAttributes:
    """The attributes that a job's workflow starts with."""
    values = zip(KEYS, (owner, pipeline, state, title), strict=True)
    return TypedSearchAttributes([SearchAttributePair(key, value[:MAX_LENGTH]) for key, value in values])
