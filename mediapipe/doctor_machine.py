"""What is wrong with this machine and with what keeps its data: home, keys, disk, clock, database, storage.

Each check says in a sentence what is right, or raises Wrong. It knows no jobs and no Temporal.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, connection

from mediapipe import clocks, database, disk, home, storage
from mediapipe.finding import Wrong

GIB = 1 << 30
START = "Start `manage.py up`"


def check_home() -> str:
    """The folder of all state, and who may look into it."""
    where = f"MEDIAPIPE_HOME is {settings.HOME}"
    readable = Path(settings.MEDIA_ROOT) if settings.ACCEL_PREFIX else None
    if found := home.open_to_others(readable):
        more = f" and {len(found) - 1} more files" if len(found) > 1 else ""
        remedy = f"{START}, `web` or `worker` as the user it belongs to: each of them closes it."
        raise Wrong(f"{where}. Others on this machine can open {found[0]}{more}. {remedy}")
    return f"{where}, closed to others."


def check_keys() -> str:
    """The two secrets; made ones are always long enough."""
    keys = {"MEDIAPIPE_SECRET_KEY": settings.SECRET_KEY, "MEDIAPIPE_ENGINE_KEY": settings.ENGINE_KEY}
    for name, key in keys.items():
        if len(key) < home.SHORTEST_SECRET:
            remedy = f"Make one of {home.SHORTEST_SECRET} characters or more: openssl rand -hex 32"
            raise Wrong(f"{name} is too short: it can be guessed. {remedy}")
    return "The secret key and the engine’s key are there."


def check_disk() -> str:
    """Whether there is room for jobs."""
    text = f"{disk.free(settings.HOME) / GIB:.1f} GiB are free in MEDIAPIPE_HOME."
    if disk.is_home_full() or disk.is_work_full() or not disk.has_media_space():
        least = max(disk.HOME_RESERVE, disk.MEDIA_RESERVE) >> 20
        raise Wrong(f"{text} Jobs and uploads wait until there are {least} MiB: free some space.")
    return text


def check_database() -> str:
    """Which one, whether it answers, and whether it has our tables."""
    about = connection.settings_dict
    name = f"SQLite at {about['NAME']}"
    remedy = "Free some space, or put it back from a backup."
    if connection.vendor != "sqlite":
        name = f"Postgres, {about['NAME']} at {about['HOST'] or 'localhost'}:{about['PORT'] or 5432}"
        remedy = "Check DATABASE_URL, and that the server runs."
    elif not Path(about["NAME"]).exists():
        raise Wrong(f"There is no {name} yet. {START}, or `manage.py migrate`: both make it.")
    try:
        database.reach()
        missing = database.missing_migrations()
    except DatabaseError as error:
        raise Wrong(f"{name} can’t be used: {database.reason(error)}. {remedy}") from None
    if missing:
        raise Wrong(f"{name} lacks {missing} migrations. Run `manage.py migrate`; `up` does so by itself.")
    return f"{name}, all migrations applied."


def check_clock() -> str:
    """Whether the machines agree about the time, as far as there are others."""
    found = clocks.apart()
    for who, seconds in found.items():
        if abs(seconds) > clocks.HARMLESS:
            raise Wrong(
                f"The clock of {who} is {abs(seconds):,.0f} s {'ahead of' if seconds > 0 else 'behind'} this"
                " machine’s. Links, sign-ins and claims of jobs end too early or too late. Have both set by a"
                " time server (chrony, systemd-timesyncd)."
            )
    return f"It agrees with {' and '.join(found)}." if found else "There is nobody to compare it with."


def check_storage() -> str:
    """Where sources and outputs lie. Uploads arrive on disk where there is a bucket, too."""
    folder = settings.MEDIA_ROOT
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"mediapipe")
            file.flush()
    except OSError as error:
        raise Wrong(f"{folder} takes no files: {error.strerror}. {home.remedy(error)}".strip()) from None
    if not settings.S3_BUCKET:
        return f"{folder} takes files."
    server = settings.S3_ENDPOINT_URL or "Amazon"
    try:
        storage.check()
    except OSError as error:
        remedy = "Check MEDIAPIPE_S3_BUCKET, MEDIAPIPE_S3_ENDPOINT_URL and AWS_ACCESS_KEY_ID."
        raise Wrong(f"At {server} {error.strerror}. {remedy}") from None
    return f"The bucket {settings.S3_BUCKET} at {server} answers."
