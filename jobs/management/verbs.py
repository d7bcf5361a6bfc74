"""What the commands about one job share: finding it, and doing what its buttons do."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Coroutine
from typing import Any, NoReturn

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, OutputWrapper

from jobs import control
from jobs.models import Job
from jobs.state import workflow_id
from mediapipe.management.process import exit_now


def find_job(text: str) -> Job:
    """The job of this id (or workflow id). Raises CommandError, exit status 2."""
    try:
        return Job.objects.get(pk=text.removeprefix(workflow_id("")))
    except (Job.DoesNotExist, ValidationError):
        raise CommandError(f"There is no job {text!r}.", returncode=2) from None


def actor() -> str:
    """Who acts by a command, for the timeline."""
    return f"{getpass.getuser()} (command)"


def perform(verb: Coroutine[Any, Any, str], out: OutputWrapper, err: OutputWrapper) -> NoReturn:
    """Awaits a verb of jobs.control, prints its sentence and ends the process.

    Exit status 0: done; 1: not possible, and the sentence on *err* says why.
    """
    try:
        sentence = asyncio.run(verb)
    except (control.NotPossible, control.TemporalUnavailable) as error:
        err.write(str(error))
        exit_now(1)
    out.write(sentence)
    exit_now()
