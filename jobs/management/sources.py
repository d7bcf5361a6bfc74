"""The source that a command is given: a file of this machine, which is copied or sent, or a link."""

from __future__ import annotations

from pathlib import Path

from django.core.management.base import OutputWrapper

from jobs.management.remote import ErrorAnswer, Installation, NoAnswer
from jobs.state import Source
from jobs.uploads import naming, one_piece
from jobs.uploads.errors import UploadError
from mediapipe import url_safety


class Unusable(Exception):
    """There is no such source, or it isn't taken; the sentence says why."""


def source_of(text: str) -> Source:
    """The source that a path or an http(s) URL names. Raises Unusable."""
    if text.lower().startswith(("http://", "https://")):
        try:
            text = url_safety.accepted(text)
        except url_safety.UnsafeUrl as error:
            raise Unusable(str(error)) from None
        return Source(url=text, filename=naming.name_in_link(text))
    if "://" in text:
        raise Unusable(f"{text!r} isn’t an http or https URL. Give one, or the path of a file.")
    path = file_of(text)
    try:
        return one_piece.store_local_file(path)
    except UploadError as error:
        raise Unusable(f"{path.name}: {error.text}") from None
    except OSError as error:
        raise Unusable(f"{path.name} couldn’t be saved: {error.strerror or error}.") from None


def file_of(text: str) -> Path:
    """The file of that path. Raises Unusable."""
    path = Path(text).expanduser()
    if not path.is_file():
        raise Unusable(f"There is no file {text!r}. Check the path, or give an http or https URL.")
    return path


def sent(elsewhere: Installation, text: str, err: OutputWrapper) -> dict[str, str]:
    """The same as another installation's API takes it; a file is sent there. Raises Unusable."""
    if "://" in text:
        return {"url": text}
    try:
        return {"upload": elsewhere.send(file_of(text), err)}
    except (ErrorAnswer, NoAnswer) as error:
        raise Unusable(str(error)) from None
    except OSError as error:
        raise Unusable(f"{text} can’t be read: {error.strerror or error}.") from None
