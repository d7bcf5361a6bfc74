"""The new-job form: a file or a URL, and never both. What may be uploaded is decided in intake."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse

from jobs.models import Job, Pipeline
from jobs.pipelines import DEFAULT
from jobs.state import Source
from jobs.uploads import intake, naming, one_piece
from jobs.uploads.errors import UploadError
from mediapipe import url_safety

YEAR = 365 * 24 * 3600  # seconds
LINK_ERRORS = {
    "max_length": url_safety.TOO_LONG,
    "null_characters_not_allowed": "That isn’t a link: it contains control characters. Paste it again.",
}
TITLE_ERRORS = {
    "max_length": "A title has at most 300 characters. Shorten it.",
    "null_characters_not_allowed": "The title contains control characters. Type it again.",
}
log = logging.getLogger("jobs.uploads")  # which is heard


def chosen_pipeline(request: HttpRequest) -> str:
    """The name of what the signed-in person chose last in this browser; "" for nothing."""
    return request.COOKIES.get(f"pipeline-{request.user.pk}", "")


def remember_pipeline(request: HttpRequest, response: HttpResponse, name: str) -> None:
    """Keeps what they have chosen, for a year."""
    key = f"pipeline-{request.user.pk}"
    response.set_cookie(
        key, name, max_age=YEAR, secure=settings.SESSION_COOKIE_SECURE, httponly=True, samesite="Lax"
    )


def no_pipeline(name: str, usable: Iterable[str]) -> str:
    """The sentence for a *name* of none of the *usable* pipelines."""
    return f"There is no pipeline {name!r:.60}. Choose one of: {', '.join(usable)}."


def source_of_link(url: str) -> Source:
    """The source that an accepted link leads to, by the file name at its end."""
    return Source(url=url, filename=naming.name_in_link(url) or naming.UNNAMED)


def title_of(source: Source) -> str:
    """The title of a job that nobody gives one: the file's name, else its server's."""
    named = source.filename != naming.UNNAMED
    return source.filename if named else urlsplit(source.url).hostname or source.filename


class SourceForm(forms.Form):
    """A source: a file or a link."""

    file = forms.FileField(required=False, label="File", allow_empty_file=True)  # clean_file rejects it
    url = forms.CharField(
        required=False, max_length=url_safety.LONGEST, label="Link", error_messages=LINK_ERRORS
    )

    status = 400  # of the answer where it is refused

    def refuse(self, error: UploadError) -> None:
        """The file isn't taken: the form says why, and so does the log."""
        log.info("a file of a form was refused (%d): %s", error.status, error.text)
        self.status = error.status
        self.add_error("file", error.text)

    def clean_file(self) -> Any:
        """Neither empty nor too large, and there is disk space for it."""
        file = self.cleaned_data["file"]
        if file:
            try:
                intake.check_length(file.size)
            except UploadError as error:
                self.refuse(error)
        return file

    def clean_url(self) -> str:
        """An http(s) URL that is safe to download from, or ""."""
        url: str = self.cleaned_data["url"].strip()
        if url:
            try:
                url = url_safety.accepted(url)
            except url_safety.UnsafeUrl as error:
                raise forms.ValidationError(str(error)) from None
        return url

    def clean(self) -> dict[str, Any]:
        """Exactly one source."""
        data = self.cleaned_data
        if not self.errors:
            if data.get("file") and data.get("url"):
                raise forms.ValidationError("Choose a file or paste a link, not both.")
            if not data.get("file") and not data.get("url"):
                raise forms.ValidationError("Choose a file, or paste a link to one.")
        return data

    def source(self, key: uuid.UUID) -> Source:
        """The source; a file is stored under *key*. Raises UploadError."""
        data = self.cleaned_data
        return one_piece.store_form_file(data["file"], key) if data["file"] else source_of_link(data["url"])


class NewJob(SourceForm):
    """The source and the pipeline of a job.

    *idempotency_key* makes a form that is sent twice (a double click) one job.
    """

    idempotency_key = forms.UUIDField(required=False, initial=uuid.uuid4, widget=forms.HiddenInput)
    title = forms.CharField(required=False, max_length=300, label="Title", error_messages=TITLE_ERRORS)
    pipeline = forms.ChoiceField(required=False)

    def __init__(self, owner: AbstractBaseUser, *args: Any, chosen: str = "") -> None:
        super().__init__(*args)
        self.owner = owner
        self.usable = Pipeline.usable_by(owner)
        self.chosen = self.usable.get(chosen) or self.usable[DEFAULT]
        field = self.fields["pipeline"]
        field.initial = self.chosen.name
        choices = [(each.name, each.label) for each in self.usable.values()]
        field.choices = choices  # type: ignore[attr-defined]

    def submit(self) -> Job:
        """The new job, or the one that this form has created before. Raises UploadError."""
        data = self.cleaned_data
        owner = self.owner
        file = data["file"]
        pipeline = data["pipeline"] or DEFAULT
        request = (owner.pk, data["url"], data["title"], pipeline, file and (file.name, file.size))
        pk = uuid.uuid5(data["idempotency_key"] or uuid.uuid4(), repr(request))
        if existing := Job.with_trash.filter(pk=pk).first():
            return existing
        source = self.source(pk)
        title = data["title"] or title_of(source)
        try:
            job = Job.submit(owner, title=title, pipeline=pipeline, source=source, pk=pk)
        except IntegrityError:  # the other click was faster
            job = Job.with_trash.get(pk=pk)
        one_piece.has_job(source)
        return job
