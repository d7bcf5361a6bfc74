"""What the commands about one job share: finding it, and doing what its buttons do."""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import Coroutine
from typing import Any, NoReturn
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.core.management.base import CommandError, OutputWrapper

from jobs import control
from jobs.models import Job
from jobs.state import workflow_id
from mediapipe.management.process import exit_now


def no_job(text: str) -> CommandError:
    """The error for an id that is nobody's: exit status 2."""
    return CommandError(f"There is no job {text!r}. A job’s id is in the address of its page.", returncode=2)


def find_key(text: str) -> UUID:
    """The key in a job's id (or workflow id). Raises CommandError, exit status 2."""
    try:
        return UUID(text.removeprefix(workflow_id("")))
    except ValueError:
        raise no_job(text) from None


def find_job(text: str) -> Job:
    """The job of this id (or workflow id). Raises CommandError, exit status 2."""
    try:
        return Job.objects.get(pk=find_key(text))
    except Job.DoesNotExist:
        raise no_job(text) from None


def actor() -> str:
    """Who acts by a command, for the timeline."""
    return f"{getpass.getuser()} (command)"


def why(options: dict[str, Any]) -> dict[str, Any]:
    """What the API is sent of the reason that a command was given."""
    return {"reason": options["reason"][:500]}


def perform(verb: Coroutine[Any, Any, str], out: OutputWrapper, err: OutputWrapper) -> NoReturn:
    """Awaits a verb of jobs.control, prints its sentence and ends the process.

    Exit status 0: done; 1: not possible, and the sentence on *err* says why.
    """
    try:
        sentence = asyncio.run(verb)
    except (control.NotPossible, control.TemporalUnavailable) as error:
        end_with(str(error), err)
    out.write(sentence)
    exit_now()


def end_with(sentence: str, err: OutputWrapper) -> NoReturn:
    """Ends the process where what was asked for isn't possible: *sentence* says why."""
    err.write(sentence)
    exit_now(1)


def show_changes(shown: dict[str, str], lines: dict[str, str], err: OutputWrapper) -> None:
    """Prints each of *lines*, by its label, that is other than it was; *shown* are the last ones."""
    for label, line in lines.items():
        if line and shown.get(label) != line:
            shown[label] = line
            err.write(f"{time.strftime('%H:%M:%S')} {label}{': ' if label else ''}{line}")


def find_owner(name: str) -> AbstractUser:
    """Whose a new job is: the person of this name, else the first admin. Raises LookupError, a sentence."""
    users = get_user_model().objects.all()
    owner = users.filter(username=name).first() if name else users.filter(is_superuser=True).first()
    if owner is None and name:
        raise LookupError(f"There is no user {name!r}. The page “People” lists who there is.")
    if owner is None:
        raise LookupError("There is no user yet: `python3 manage.py up` creates one.")
    return owner
