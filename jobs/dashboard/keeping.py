"""For how long the jobs of a pipeline keep what is theirs: the form on its page.

What then goes is decided in jobs.removal.retention.
"""

from __future__ import annotations

from django import forms
from django.conf import settings

from jobs.models import Pipeline
from mediapipe.retention import in_days

MAX_DAYS = 36_500  # days
LABELS = {
    "sources": "Sources of jobs that are done",
    "failed_sources": "Sources of jobs that failed or were cancelled",
    "outputs": "Outputs",
}


class Keeping(forms.Form):
    """The days after a job's end; empty: as the settings say."""

    sources = forms.IntegerField(required=False, min_value=0, max_value=MAX_DAYS)
    failed_sources = forms.IntegerField(required=False, min_value=0, max_value=MAX_DAYS)
    outputs = forms.IntegerField(required=False, min_value=0, max_value=MAX_DAYS)

    def __init__(self, pipeline: Pipeline, data: object = None) -> None:
        initial = {what: getattr(pipeline, f"keep_{what}") for what in LABELS}
        super().__init__(data, initial=initial)  # type: ignore[arg-type]
        for what, label in LABELS.items():
            common = in_days(settings.KEEP_DAYS[what])
            self.fields[what].label = label
            self.fields[what].help_text = f"Days; 0 is for ever, empty is as the settings say: {common}."

    @property
    def days(self) -> dict[str, int | None]:
        """What was chosen."""
        return {what: self.cleaned_data[what] for what in LABELS}
