"""The options of a stage as a form: fields by the table of what a task may be asked for. It knows no job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django import forms

from jobs.option_words import LABELS, timecode, value_in_words
from jobs.pipelines import Option
from mediapipe.task_options import ASKED, check_options
from mediapipe.validators import Choice, InvalidRequest, Number, Validator

PLACE = re.compile(r"(?:(?:(\d{1,6}):)?(\d{1,6}):)?(\d{1,9}(?:\.\d{1,9})?)", re.ASCII)
KILO = 1000  # people say bit rates in kbit/s


class PlaceField(forms.Field):
    """A place in a film, in seconds: written as seconds, or as 1:02:03.5."""

    def prepare_value(self, value: Any) -> Any:
        """As a person writes it."""
        return value if value is None or isinstance(value, str) else timecode(value)

    def to_python(self, value: Any) -> Any:
        """Seconds; None where nothing is written."""
        text = str(value or "").strip()
        if not text:
            return None  # which is refused where it is required
        if not (found := PLACE.fullmatch(text)):
            raise forms.ValidationError("Write a time like 12.5 or 1:02:03.")
        hours, minutes, seconds = found.groups()
        return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)


class RateField(forms.IntegerField):
    """A bit rate, in bits per second: written in kbit/s."""

    def prepare_value(self, value: Any) -> Any:
        """In kbit/s."""
        return value if value is None or isinstance(value, str) else round(value / KILO)

    def clean(self, value: Any) -> Any:
        """In bits per second; None where nothing is written."""
        rate = super().clean(value)
        return None if rate is None else rate * KILO


def field_of(name: str, rule: Validator, value: Option | None) -> forms.Field:
    """The field of one option by its *rule*, with the *value* that it has."""
    about: dict[str, Any] = {"label": LABELS[name], "required": False, "initial": value}
    if isinstance(rule, Choice):
        words = [(each, value_in_words(name, each)) for each in rule.choices]
        return forms.ChoiceField(choices=[("", "automatic"), *words], **about)
    if not isinstance(rule, Number):
        return forms.CharField(max_length=8, help_text="In pixels, or a share such as 50%.", **about)
    if name in ("start", "end"):
        return PlaceField(help_text="Like 12.5 or 1:02:03.", **about)
    if name == "bitrate":
        low = int(rule.low) // KILO
        high = int(rule.high) // KILO
        return RateField(help_text="In kbit/s.", min_value=low, max_value=high, **about)
    return forms.FloatField(min_value=rule.low, max_value=rule.high, **about)


def offered(kind: str, options: Mapping[str, Option]) -> list[str]:
    """The options that a person may set of a stage of this *kind* that has these *options*."""
    if "waveform" in options:
        return ["start", "end"]
    rules = ASKED[kind].options
    found = [name for name in LABELS if name in rules and ("interval" in options or name != "interval")]
    if "interval" in options:
        found.remove("start")
    return [name for name in found if not (isinstance(rule := rules[name], Choice) and len(rule.choices) < 2)]


class StageOptions(forms.Form):
    """The options of a stage of this *kind*, which has these *options*."""

    def __init__(self, kind: str, options: Mapping[str, Option], *args: Any) -> None:
        super().__init__(*args)
        self.kind = kind
        self.options = options
        for name in offered(kind, options):
            self.fields[name] = field_of(name, ASKED[kind].options[name], options.get(name))

    @property
    def changes(self) -> dict[str, Option | None]:
        """What a person has set, as jobs.finished takes it: None is left to the engine."""
        return {name: None if value in ("", None) else value for name, value in self.cleaned_data.items()}

    def clean(self) -> dict[str, Any]:
        """Each value in its range, and all of them together."""
        for name in ("width", "height"):
            if (text := str(self.cleaned_data.get(name, ""))).isdecimal():
                self.cleaned_data[name] = int(text)
        wanted = {**self.options, **self.changes}
        if not self.errors:
            try:
                check_options(self.kind, {name: value for name, value in wanted.items() if value is not None})
            except InvalidRequest as error:
                name = str(error).split()[0]
                self.add_error(
                    name if name in self.fields else None, str(error).replace(name, LABELS.get(name, name), 1)
                )
        return self.cleaned_data
