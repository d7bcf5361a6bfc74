"""The form of a new batch: links, a table, or a folder of the bucket, and never two of them."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from jobs import pipelines
from jobs.batches import sources
from jobs.models import Batch, BatchItem, Pipeline

MOST_BYTES = 5 << 20  # of a table
TABLE_TOO_LARGE = "This table is larger than 5 MB. Make several of it."
ONE_OF_THEM = "Write links, choose a table or name a folder: one of them."
BUCKET_UNAVAILABLE = "The bucket can’t be reached. Try again in a moment."


def title_of(items: list[BatchItem]) -> str:
    """The title of a batch that nobody gives one."""
    many = f"{len(items):,} files" if len(items) > 1 else "1 file"
    return f"{many} of {timezone.localtime():%-d %b %Y, %H:%M}"


class NewBatch(forms.Form):
    """Many sources, and the pipeline of those that name none.

    *idempotency_key* makes a form that is sent twice (a double click) one batch.
    """

    idempotency_key = forms.UUIDField(required=False, initial=uuid.uuid4, widget=forms.HiddenInput)
    title = forms.CharField(required=False, max_length=300, label="Title")
    links = forms.CharField(
        required=False,
        label="Links",
        widget=forms.Textarea(
            attrs={"rows": 8, "spellcheck": "false", "placeholder": "https://…\nhttps://…"}
        ),
        help_text="One on each line.",
    )
    table = forms.FileField(
        required=False,
        label="Or a table",
        allow_empty_file=True,
        widget=forms.FileInput(attrs={"accept": ".csv, text/csv, .tsv, .txt"}),
        help_text="CSV, with the columns url, title and pipeline; the last two may be missing.",
    )
    folder = forms.CharField(
        required=False,
        max_length=300,
        label="Or a folder of the bucket",
        help_text="Every media file in it, such as “rushes/monday/”.",
    )
    pipeline = forms.ChoiceField(required=False, initial=pipelines.DEFAULT)

    def __init__(self, person: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.person = person
        self.usable = Pipeline.usable_by(person)
        choices = [(each.name, each.label) for each in self.usable.values()]
        self.fields["pipeline"].choices = choices  # type: ignore[attr-defined]
        self.items: list[BatchItem] = []
        if not (settings.S3_BUCKET and person.is_staff):  # what else lies there is not for everybody to name
            del self.fields["folder"]

    def clean_table(self) -> list[sources.Written]:
        """The table's rows."""
        file = self.cleaned_data["table"]
        if not file:
            return []
        if file.size > MOST_BYTES:
            raise forms.ValidationError(TABLE_TOO_LARGE)
        try:
            return sources.of_csv(file.read()) or [sources.Written("")]
        except sources.NotAList as error:
            raise forms.ValidationError(str(error)) from None

    def clean(self) -> dict[str, Any]:
        """Exactly one way to name sources, and at least one source; those that can't be taken say why."""
        data = self.cleaned_data
        ways = [name for name in ("links", "table", "folder") if data.get(name)]
        if self.errors:
            return data
        if len(ways) != 1:
            raise forms.ValidationError(ONE_OF_THEM)
        pipeline = data["pipeline"] or pipelines.DEFAULT
        try:
            if ways == ["folder"]:
                self.items = sources.items_under(data["folder"].strip(), pipeline)
            else:
                written = data["table"] or sources.of_lines(data["links"])
                self.items = sources.items_of(written, pipeline, self.usable)
        except sources.NotAList as error:
            self.add_error(ways[0], str(error))
        except OSError:
            self.add_error(ways[0], BUCKET_UNAVAILABLE)
        return data

    def submit(self) -> Batch:
        """The new batch, or the one that this form has made before."""
        data = self.cleaned_data
        title = data["title"] or title_of(self.items)
        request = (self.person.pk, data["title"], data["pipeline"], [item.text for item in self.items])
        pk = uuid.uuid5(data["idempotency_key"] or uuid.uuid4(), repr(request))
        return Batch.submit(self.person, title, self.items, pk)
