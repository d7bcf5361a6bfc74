"""The result of a job: the four URLs that it was submitted for.

Pure: it knows neither Django nor Temporal nor HTTP. It travels through Temporal as part of the status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass
class PipelineResult:
    """An output of each of four stages; None where a stage has none.

    In the workflow a file in our storage is its name, since a URL would be signed and expire (and an output
    that is still the API's is the API's URL). Outside, in JSON, each is a URL that works (jobs.serialize).
    """

    ingested_url: str | None = None
    thumbnail_url: str | None = None
    audio_url: str | None = None
    transcoded_url: str | None = None

    @classmethod
    def of(cls, outputs: Mapping[str, str]) -> PipelineResult:
        """The result of a job whose stages have these *outputs*, each by its stage's name."""
        return cls(*map(outputs.get, ("ingest", "thumbnails", "audio", "transcode")))
