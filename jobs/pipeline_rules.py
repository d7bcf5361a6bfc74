"""What makes a pipeline a good one: each rule finds what it doesn't like, and says so at the field. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jobs.option_words import LABELS
from jobs.pipelines import PipelineDefinition, StageDefinition
from mediapipe.task_options import check_options
from mediapipe.validators import InvalidRequest

MOST_STAGES = 20
ACCEPTED_SOURCES = {  # kinds of files that each kind of task can work on
    "video": ("video",),
    "audio": ("video", "audio"),
    "image": ("video", "image"),
    "animation": ("video",),
    "adaptive_video": ("video",),
    "check": ("video", "audio"),
}
LIMITS = {  # lowest and highest of what a person may set, and its unit
    "attempts": (1, 20, ""),
    "first_interval": (0, 3600, " s"),
    "backoff": (1, 10, ""),
    "timeout": (10, 86_400, " s"),
}


class Problem(NamedTuple):
    """What is wrong at a *field* of the stage at that place; None: of the pipeline itself."""

    stage: int | None
    field: str
    sentence: str


def makes(stage: StageDefinition) -> str:
    """The kind of file that other stages get of it; "" where it makes none that they could work on."""
    unusable = stage.kind in ("check", "adaptive_video") or {"waveform", "interval"} & set(stage.options)
    return "" if unusable else stage.output_kind


def problems(pipeline: PipelineDefinition) -> list[Problem]:
    """All that keeps the pipeline from being used, in the order of its fields."""
    return list(_problems(pipeline))


def _problems(pipeline: PipelineDefinition) -> Iterator[Problem]:
    stages = pipeline.stages
    if not pipeline.label.strip():
        yield Problem(None, "label", "Give the pipeline a name.")
    if not 1 <= len(stages) <= MOST_STAGES:
        yield Problem(None, "stages", f"A pipeline has 1 to {MOST_STAGES} stages.")
    elif all(stage.optional for stage in stages):
        yield Problem(None, "stages", "At least one stage has to be more than an extra.")
    for at in range(len(stages)):
        for rule in (_called, _waits, _input, _looks_through, _extra, _options, _limits):
            for field, sentence in rule(stages, at):
                yield Problem(at, field, sentence)


Found = Iterator[tuple[str, str]]  # a field and a sentence


def _called(stages: Sequence[StageDefinition], at: int) -> Found:
    """A stage is called something, and no other one is called the same."""
    label = stages[at].label.strip().casefold()
    if not label:
        yield "label", "Give the stage a name."
    elif any(other.label.strip().casefold() == label for other in stages[:at]):
        yield "label", "There’s a stage of this name above. Give this one another."
    elif any(other.name == stages[at].name for other in stages[:at]):
        yield "label", "This stage is here twice. Remove one of them."


def _waits(stages: Sequence[StageDefinition], at: int) -> Found:
    """What a stage waits for is there, and stands above it."""
    stage = stages[at]
    places = {other.name: place for place, other in enumerate(stages)}
    for field, names in (("needs", [stage.needs] if stage.needs else []), ("after", stage.after)):
        for name in names:
            if name not in places:
                yield field, "This stage isn’t there any more. Choose another."
            elif name == stage.name:
                yield field, "A stage can’t wait for itself."
            elif stage.name in _waited_for(stages, name):
                other = stages[places[name]].label
                yield field, f"{stage.label} would wait for {other}, and {other} for {stage.label}."
            elif places[name] > at:
                yield field, f"{stages[places[name]].label} stands below. Move it above {stage.label}."


def _waited_for(stages: Sequence[StageDefinition], name: str) -> set[str]:
    """All that the stage *name* waits for, however far."""
    waits = {stage.name: {stage.needs, *stage.after, *stage.looks_through} for stage in stages}
    found: set[str] = set()
    new = waits.get(name, set())
    while new := new - found:
        found |= new
        new = set().union(*(waits.get(each, set()) for each in new))
    return found


def _input(stages: Sequence[StageDefinition], at: int) -> Found:
    """A stage can work on what the one that it needs makes."""
    stage = stages[at]
    needed = next((other for other in stages if other.name == stage.needs), None)
    if needed and needed is not stage and makes(needed) not in ACCEPTED_SOURCES.get(stage.kind, ()):
        yield "needs", f"{stage.label} can’t be made of what {needed.label} makes. Choose another input."


def _looks_through(stages: Sequence[StageDefinition], at: int) -> Found:
    """A check has something to look through, which stands above it."""
    stage = stages[at]
    above = {other.name for other in stages[:at]}
    if stage.kind == "check" and not stage.looks_through:
        yield "looks_through", "Choose at least one stage whose output is looked through."
    if not {*stage.looks_through} <= above:
        yield "looks_through", f"What {stage.label} looks through has to stand above it."


def _extra(stages: Sequence[StageDefinition], at: int) -> Found:
    """No stage that a job must have waits for one that it may do without."""
    stage = stages[at]
    needing = [
        other.label
        for other in stages
        if not other.optional and stage.name in (other.needs, *other.after, *other.looks_through)
    ]
    if stage.optional and needing:
        yield "optional", f"{needing[0]} waits for this one, so it can’t be an extra."


def _options(stages: Sequence[StageDefinition], at: int) -> Found:
    """The engine takes the options of a task, by its own table."""
    stage = stages[at]
    if stage.kind not in ACCEPTED_SOURCES:
        yield "label", f"The engine makes no {stage.kind!r:.40}."
    elif stage.kind != "check":  # whose only option is filled in when it starts
        try:
            check_options(stage.kind, stage.options)
        except InvalidRequest as error:
            first = str(error).split()[0]  # an option, or its value
            named = (name for name, value in stage.options.items() if first in (name, str(value)))
            yield next(named, ""), str(error).replace(first, LABELS.get(first, first), 1)


def _limits(stages: Sequence[StageDefinition], at: int) -> Found:
    """Attempts, waits and the stall limit are in their ranges."""
    retry = stages[at].retry
    values = {
        "attempts": retry.attempts,
        "first_interval": retry.first_interval,
        "backoff": retry.backoff,
        "timeout": stages[at].timeout,
    }
    for field, value in values.items():
        low, high, unit = LIMITS[field]
        if not low <= value <= high:
            yield field, f"Write a number from {low} to {high}{unit}."
