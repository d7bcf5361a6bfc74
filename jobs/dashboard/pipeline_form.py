"""A pipeline as a form: its stages, their options, waits and limits. What is a good one: pipeline_rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from django import forms
from django.http import QueryDict

from jobs.dashboard.option_form import field_of, offered
from jobs.pipeline_rules import LIMITS, MOST_STAGES, problems
from jobs.pipelines import (
    CLOUD_THEN_OWN,
    OWN,
    SORTS,
    Option,
    PipelineDefinition,
    RetryPolicy,
    StageDefinition,
    sort_of,
)
from mediapipe.task_options import ASKED

SOURCE = "the source"
Choices = Sequence[tuple[str, str]]


class AnyChoice(forms.ChoiceField):
    """A choice that the rules judge: a stage may be gone that was chosen."""

    def valid_value(self, value: Any) -> bool:
        """Whatever was sent."""
        return True


class AnyChoices(forms.MultipleChoiceField):
    """Choices that the rules judge."""

    widget = forms.CheckboxSelectMultiple

    def valid_value(self, value: Any) -> bool:
        """Whatever was sent."""
        return True


class Head(forms.Form):
    """What a pipeline is called."""

    label = forms.CharField(label="Name", max_length=60)
    description = forms.CharField(label="Description", max_length=300, required=False)
    engine = forms.ChoiceField(
        label="Made by",
        choices=[("", "Cloud"), (CLOUD_THEN_OWN, "Cloud, then own engine"), (OWN, "Own engine")],
        required=False,
        help_text="Without a key of the cloud, the own engine makes everything.",
    )


class StageForm(forms.Form):
    """A stage of the sort that its *name* says, between *others*: each a name and what it is called."""

    label = forms.CharField(label="Name", max_length=60)
    needs = AnyChoice(label="Works on", required=False)
    after = AnyChoices(label="Also waits for", required=False)
    looks_through = AnyChoices(label="Looks through", required=False)
    optional = forms.BooleanField(label="An extra: without it the job is done all the same", required=False)
    attempts = forms.IntegerField(label="Attempts")
    first_interval = forms.FloatField(label="First wait", help_text="Seconds before the second attempt.")
    backoff = forms.FloatField(label="Backoff", help_text="Each wait is so many times the one before.")
    timeout = forms.FloatField(label="Stall limit", help_text="Seconds without progress, then it’s stopped.")

    def __init__(self, name: str, others: Choices, data: Any = None, initial: Any = None) -> None:
        super().__init__(data, initial=initial, prefix=name, use_required_attribute=False)
        self.name = name
        self.sort = SORTS[sort_of(name)]
        self.set_options = [] if self.sort.kind == "check" else offered(self.sort.kind, self.sort.options)
        for option in self.set_options:
            self.fields[option] = field_of(option, ASKED[self.sort.kind].options[option], None)
        if self.sort.kind != "check":
            del self.fields["looks_through"]
        self._offer(others)

    def _offer(self, others: Choices) -> None:
        """Offers the other stages; one that was chosen and is gone stays to be seen."""
        chosen = self["needs"].value() or ""
        gone = [] if chosen in {"", *dict(others)} else [(chosen, "a stage that was removed")]
        self.fields["needs"].choices = [("", SOURCE), *others, *gone]  # type: ignore[attr-defined]
        for field in {"after", "looks_through"} & set(self.fields):
            self.fields[field].choices = others  # type: ignore[attr-defined]

    @property
    def title(self) -> str:
        """What the stage is called at the moment."""
        return str(self["label"].value() or self.sort.label)

    @property
    def fields_about(self) -> list[forms.BoundField]:
        """The name, and what it works on."""
        return [self["label"], self["needs"]]

    @property
    def lists(self) -> list[forms.BoundField]:
        """What it waits for, and looks through, where there is something to choose."""
        found = [self[field] for field in ("after", "looks_through") if field in self.fields]
        return [each for each in found if each.field.choices]  # type: ignore[attr-defined]

    @property
    def fields_of_options(self) -> list[forms.BoundField]:
        """The options of its task."""
        return [self[option] for option in self.set_options]

    @property
    def fields_of_limits(self) -> list[forms.BoundField]:
        """Its attempts, waits and limit."""
        return [self[field] for field in LIMITS]

    @property
    def limits_are_wrong(self) -> bool:
        """Whether something of what is folded away is wrong."""
        return bool({*LIMITS, "after", "looks_through", "optional"} & set(self.errors))

    @property
    def unchecked(self) -> StageForm:
        """The same with what was written, and nothing said of it."""
        values = {field: self[field].value() for field in self.fields}
        others = [each for each in self.fields["needs"].choices if each[0]]  # type: ignore[attr-defined]
        return StageForm(self.name, others, initial=values)

    def definition(self) -> StageDefinition:
        """The stage as it was written; of a valid form."""
        data = self.cleaned_data
        fixed = {each: value for each, value in self.sort.options.items() if each not in self.set_options}
        wanted = {each: data[each] for each in self.set_options if data[each] not in ("", None)}
        options: dict[str, Option] = {**fixed, **wanted}
        for side in {"width", "height"} & set(options):
            if str(options[side]).isdecimal():
                options[side] = int(options[side])
        return replace(
            self.sort,
            name=self.name,
            label=data["label"].strip(),
            needs=data["needs"],
            after=data["after"],
            looks_through=data.get("looks_through", []),
            optional=data["optional"],
            options=options,
            timeout=data["timeout"],
            retry=RetryPolicy(data["attempts"], data["first_interval"], data["backoff"]),
        )


def _initial(stage: StageDefinition) -> dict[str, Any]:
    """A stage as its form shows it."""
    retry = {field: getattr(stage.retry, field) for field in ("attempts", "first_interval", "backoff")}
    own = {field: getattr(stage, field) for field in ("label", "needs", "after", "optional", "timeout")}
    return {**stage.options, **retry, **own, "looks_through": stage.looks_through}


class Editor:
    """The whole form: its head, and its stages in their order."""

    def __init__(self, head: Head, stages: list[StageForm]) -> None:
        self.head = head
        self.stages = stages
        self.opened = ""  # the stage that was just added or moved

    @classmethod
    def of(cls, pipeline: PipelineDefinition) -> Editor:
        """What is saved, to be edited."""
        labels = {stage.name: stage.label for stage in pipeline.stages}
        about = {"label": pipeline.label, "description": pipeline.description, "engine": pipeline.engine}
        head = Head(initial=about)
        stages = [
            StageForm(each.name, _others(labels, each.name), initial=_initial(each))
            for each in pipeline.stages
        ]
        return cls(head, stages)

    @classmethod
    def posted(cls, data: QueryDict) -> Editor:
        """What was sent. Stages of an unknown sort are left out."""
        sent = dict.fromkeys(name for name in data.getlist("stage") if sort_of(name) in SORTS)
        labels = {name: data.get(f"{name}-label", "")[:60] for name in list(sent)[: MOST_STAGES + 1]}
        return cls(Head(data), [StageForm(name, _others(labels, name), data) for name in labels])

    @property
    def to_add(self) -> Choices:
        """The sorts of stages that may be added."""
        return [(sort.name, sort.label) for sort in SORTS.values()]

    def changed(self, act: str) -> Editor:
        """The form after a button that changes its stages, like "remove transcode"; nothing is judged."""
        verb, _, name = act.partition(" ")
        values = {field: self.head[field].value() for field in self.head.fields}
        stages = {each.name: each.unchecked for each in self.stages}
        order = list(stages)
        if verb == "add" and name in SORTS and len(order) < MOST_STAGES:
            name = _free(name, order)
            order.append(name)
            stages[name] = StageForm(name, (), initial=_initial(SORTS[sort_of(name)]))
        elif verb == "remove" and name in order:
            order.remove(name)
        elif verb in ("up", "down") and name in order:
            at = order.index(name)
            to = max(0, at - 1 if verb == "up" else at + 1)
            order.insert(to, order.pop(at))
        labels = {each: stages[each].title for each in order}
        made = [
            StageForm(each, _others(labels, each), initial=_with_known(stages[each], labels))
            for each in order
        ]
        editor = Editor(Head(initial=values), made)
        editor.opened = name
        return editor

    def is_valid(self) -> bool:
        """Whether it can be saved; else the fields say why not."""
        if not all([self.head.is_valid(), *(stage.is_valid() for stage in self.stages)]):
            return False
        found = problems(self.definition(""))
        for problem in found:
            form = self.head if problem.stage is None else self.stages[problem.stage]
            form.add_error(problem.field if problem.field in form.fields else None, problem.sentence)
        return not found

    def definition(self, name: str) -> PipelineDefinition:
        """What was written, as the pipeline of that *name*; of a valid form."""
        head = self.head.cleaned_data
        stages = tuple(stage.definition() for stage in self.stages)
        about = head["label"].strip(), head["description"].strip()
        return PipelineDefinition(name, *about, _numbered(stages), head["engine"])


def _others(labels: Mapping[str, str], name: str) -> Choices:
    return [each for each in labels.items() if each[0] != name]


def _with_known(stage: StageForm, labels: Mapping[str, str]) -> dict[str, Any]:
    """What was written of the stage; it waits no more for what was removed."""
    values = {field: stage[field].value() for field in stage.fields}
    for field in {"after", "looks_through"} & set(values):
        values[field] = [name for name in values[field] or [] if name in labels]
    return values


def _free(sort: str, taken: Iterable[str]) -> str:
    numbers = (f"{sort}_{number}" for number in range(2, 1000))
    return next(name for name in (sort, *numbers) if name not in taken)


def _numbered(stages: Sequence[StageDefinition]) -> tuple[StageDefinition, ...]:
    """The stages with the first of each sort named by it: by those names a job's result is found."""
    names: dict[str, str] = {}
    for stage in stages:
        names[stage.name] = _free(sort_of(stage.name), names.values())
    return tuple(
        replace(
            stage,
            name=names[stage.name],
            needs=names.get(stage.needs, stage.needs),
            after=[names.get(name, name) for name in stage.after],
            looks_through=[names.get(name, name) for name in stage.looks_through],
        )
        for stage in stages
    )
