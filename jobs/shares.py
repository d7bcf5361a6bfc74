"""The verbs of links to what a job has made: make one, end one, the same for pages, API and commands.

Their rows are in jobs.models.share; what a link shows, in jobs.dashboard.handed_over.
"""

from __future__ import annotations

import logging

from django.urls import reverse

from jobs.control import NotPossible
from jobs.models import Job, Share
from jobs.state import JobState
from mediapipe.own_address import absolute

MAX_LINKS = 50  # links to one job
MAX_DAYS = 30  # days
NOT_DONE = "A job can be shared once it’s done."
TOO_MANY = f"This job has {MAX_LINKS} links already. Revoke one that isn’t used any more."
NO_LINK = "This job has no such link: it has been revoked already."
REVOKED = "The link was revoked. It doesn’t work any more."
log = logging.getLogger(__name__)


def make(job: Job, actor: str, days: int, password: str = "") -> tuple[Share, str]:
    """A new link that works for so many *days*, and its token. Raises NotPossible."""
    if job.state != JobState.SUCCEEDED:
        raise NotPossible(NOT_DONE)
    if job.shares.count() >= MAX_LINKS:
        raise NotPossible(TOO_MANY)
    share, token = Share.issue(job, actor, days, password)
    log.info("job %s (%s) was shared by %s until %s", job.pk, job, actor, share.expires_at)
    return share, token


def address(token: str) -> str:
    """The link of a *token*, as it is handed on."""
    return absolute(reverse("jobs:shared", args=[token]))


def revoke(job: Job, number: int, actor: str) -> str:
    """Ends a link at once; returns a sentence. Raises NotPossible."""
    share = job.shares.filter(pk=number).first()
    if share is None:
        raise NotPossible(NO_LINK)
    share.revoke(actor)
    log.info("a link to job %s (%s) was revoked by %s", job.pk, job, actor)
    return REVOKED
