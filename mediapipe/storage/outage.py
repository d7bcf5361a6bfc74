"""A storage that takes or gives nothing: how long it is waited for, and what no waiting mends.

It knows errors and the clock, and nothing of who waits, or how that is shown.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from django.conf import settings

from mediapipe.metrics import STORAGE_ERRORS
from mediapipe.storage.s3 import BucketUnavailable

WaitOut = Callable[[Exception], Awaitable[None]]  # returns when what is away may be tried again, or raises
REFUSED_FOR = 5 * 60.0  # seconds: an admin who replaces a key may need them; a disk remounts in less
RETRY_EVERY = 2.0  # seconds between two tries, at first
LONGEST_PAUSE = 30.0  # seconds between two tries, in the end
OF_THE_BUCKET = {
    "NoSuchBucket": "there is no bucket {bucket}",
    "InvalidAccessKeyId": "the bucket’s server doesn’t know the access key",
    "SignatureDoesNotMatch": "the secret key of the bucket isn’t right",
    "AccessDenied": "the access key isn’t allowed to use the bucket {bucket}",
}
OF_THE_DISK = {
    errno.EACCES: "its folder doesn’t belong to the user that the engine runs as",
    errno.EPERM: "its folder doesn’t let the engine write",
    errno.EROFS: "its file system is read-only",
    errno.EXDEV: "its folder lies on another disk, which doesn’t take the file",
}


@dataclass(frozen=True)
class Patience:
    """With a storage of our own: `wait_out` waits while it is away, `answered` hears that it gives again."""

    wait_out: WaitOut
    answered: Callable[[], Awaitable[None]]


def refusal(error: Exception) -> str:
    """Why the storage won't come right by itself, for admins; "" where it may."""
    if isinstance(error, BucketUnavailable):
        return OF_THE_BUCKET.get(error.code, "").format(bucket=settings.S3_BUCKET)
    return OF_THE_DISK.get(error.errno or 0, "") if isinstance(error, OSError) else ""


def refused(reason: str) -> str:
    """The sentence for what ends because the storage refuses; *reason* as refusal() has it."""
    return f"The storage can’t be used: {reason}. Retry once an admin has put that right."


class Outage:
    """One wait for the storage; *longest*: seconds that an outage is waited for, which refusals never are."""

    def __init__(self, longest: float) -> None:
        self.longest = longest
        self.since: float | None = None  # by the monotonic clock
        self.refused_since: float | None = None

    def pause(self, error: Exception) -> float | None:
        """Seconds until the storage, which failed by *error*, is tried again; None: it has been enough."""
        STORAGE_ERRORS.inc()
        now = time.monotonic()
        self.since = now if self.since is None else self.since
        if not refusal(error):
            self.refused_since = None
        elif self.refused_since is None:
            self.refused_since = now
        if self.refused_since is not None and now - self.refused_since > REFUSED_FOR:
            return None
        away = now - self.since
        return None if away > self.longest else min(RETRY_EVERY + away / 10, LONGEST_PAUSE)

    def is_over(self) -> None:
        """The storage answers again: the next failure begins another outage."""
        self.since = self.refused_since = None
