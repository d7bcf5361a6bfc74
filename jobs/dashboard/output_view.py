"""An output or a source as the pages show it: its facts, and the addresses to view and to save it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from jobs.dashboard.formatting import describe_output, filesize, nbsp
from jobs.models import Job
from jobs.state import Output, StageStatus
from mediapipe import storage

PICTURES = ("thumbnails", "preview")  # stages whose output is looked at
LABELS = {"thumbnails": "Thumbnail"}  # of outputs that aren't called as their stage is


def output_url(job: Job, output: Output | None) -> str:
    """A path or URL at which a page of *job* gets the output; "" for None."""
    if output is None:
        return ""
    return storage.page_link(output.name, job.owner_id) if output.name else output.url


@dataclass(frozen=True)
class OutputView:
    """One file on a job's page. Without a *url* there is nothing of ours to view or to save.

    *url* and *download_url* are for who sees the page; *link* works for whoever it is handed on to.
    """

    label: str
    facts: str
    name: str = ""  # of a source
    url: str = ""
    download_url: str = ""
    link: str = ""
    stage: str = ""
    warnings: str = ""
    is_image: bool = False  # worth viewing: a storyboard's sprite isn't

    @property
    def element_id(self) -> str:
        """The id of its picture on the page."""
        return "thumbnail" if self.stage == "thumbnails" else f"picture-{self.stage}"


def shape_of(output: Output) -> str:
    """ "tall" for a picture that is higher than wide, which a player gives more room; else ""."""
    return "tall" if (output.height or 0) > (output.width or 0) else ""


def stem_of(job: Job) -> str:
    """The job's title as the beginning of a file's name, on any machine."""
    stem = re.sub(r'[\\/:*?"<>|\x00-\x1f\x7f]', "-", job.title.rsplit(".", 1)[0])[:80]
    return stem.strip(" .") or "output"


def saved_as(job: Job, stage: StageStatus) -> str:
    """What an output of the *stage* is called when it is saved, without an extension."""
    return f"{stem_of(job)} - {stage.label.lower()}"


def view_output(job: Job, stage: StageStatus, output: Output) -> OutputView:
    """The *output* of *stage*; it is saved under a name built from the job's title."""
    url = output_url(job, output)
    filename = f"{saved_as(job, stage)}.{(output.format or 'bin').lower()}"
    return OutputView(
        label=_label(stage),
        facts=describe_output(output),
        url=url,
        download_url=_download(job, output, filename, url),
        link=storage.link(output.name) if output.name else url,
        stage=stage.name,
        warnings=" ".join(output.warnings),
        is_image=output.kind == "image" and stage.name != "storyboard",
    )


def _download(job: Job, output: Output, filename: str, url: str) -> str:
    """Where the *output* is saved; "" for a stream: its playlist plays nowhere without the other files."""
    if not output.name:
        return url
    stream = storage.folder_of(output.name)
    return "" if stream else storage.page_link(output.name, job.owner_id, save_as=filename)


def _shown(output: Output) -> set[str]:
    """The files of an output without the small storyboard that came along: it is for our pages."""
    return {output.name} - {""} if "storyboard" in output.extras else output.names


def archived(job: Job, stages: Iterable[StageStatus]) -> list[tuple[str, str]]:
    """The outputs of the *stages* that are ours, for a zip: what each file is called in it, and its name.

    An output of several files, which name each other, has a folder in which they keep their names.
    """
    found = []
    for stage in stages:
        members = sorted(storage.members(_shown(stage.output))) if stage.output else []
        for name in members:
            called = f"{saved_as(job, stage)}.{name.rpartition('.')[2]}"
            found.append((f"{stage.label}/{name.rpartition('/')[2]}" if len(members) > 1 else called, name))
    return found


def view_place(stage: StageStatus, words: str) -> OutputView:
    """The place of an output that isn't there: what its stage is doing, in words."""
    return OutputView(_label(stage), words, stage=stage.name, is_image=stage.name in PICTURES)


def _label(stage: StageStatus) -> str:
    return LABELS.get(stage.name, stage.label)


def view_source(job: Job, probed: Output | None) -> OutputView:
    """The job's source; *probed*: what the engine found in it, once it did."""
    if probed:
        facts = describe_output(replace(probed, filesize=job.source_size))
    else:
        facts = nbsp(filesize(job.source_size))
    shown = OutputView("Source", facts, job.source_filename or job.source_url)
    if not job.source_name:
        return shown
    saved_as = job.source_filename or job.title
    return replace(
        shown,
        url=storage.page_link(job.source_name, job.owner_id),
        download_url=storage.page_link(job.source_name, job.owner_id, save_as=saved_as),
        link=storage.link(job.source_name),
    )
