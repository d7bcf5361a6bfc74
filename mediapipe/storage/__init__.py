"""Sources and outputs, on disk or in a bucket, and the signed URLs that lead to them.

A file is named by its path under MEDIA_ROOT or in the bucket ("sources/…", "outputs/…"). What is kept holds
names: addresses and keys change, so a URL is made when it is answered or used. Who may read a file is said by
the URL's signature: whoever holds it, or, on our pages, only its owner and staff while they are signed in
(mediapipe.storage.views). This module knows nothing of jobs or tasks.
"""

from __future__ import annotations

import base64
import glob
import hashlib
import hmac
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, quote, unquote, urlsplit

from django.conf import settings

from mediapipe.storage import s3
from mediapipe.storage.content_types import content_type as content_type
from mediapipe.storage.outage import WaitOut as WaitOut
from mediapipe.storage.s3 import URL_PERIOD
from mediapipe.threads import run_to_completion

URL_LIFETIME = 7 * 24 * 3600  # seconds: longer than any wait in a queue
LINKING = (".m3u8", ".vtt")  # texts that name files beside them
TEXTS = (*LINKING, ".json")  # served by us even from a bucket: they link, or a script reads them
PLAYLIST = ".m3u8"  # stands for its whole folder: segments and renditions
FETCHED = "fetched"  # the folder of foreign sources
OWN_FILE_PREFIX = "media:"  # before the name of a file of ours, where a URL was given and is kept
MADE_HERE = f"{OWN_FILE_PREFIX}outputs/"  # so begins what a task of the engine has made


class Forbidden(Exception):
    """The URL's signature is missing, wrong or expired."""


@lru_cache(maxsize=16)
def _salted_key(salt: str, secret: str) -> bytes:
    """As Django's salted_hmac() makes it, for each of the hundreds of links of a long list."""
    return hashlib.sha256(f"{salt}{secret}".encode()).digest()


def _signature(name: str, expires: int, owner: str = "", secret: str | None = None) -> str:
    salt, value = ("mediapipe.pages", f"{owner}/") if owner else ("mediapipe.files", "")
    signed = f"{value}{expires}/{name}".encode()
    digest = hmac.digest(_salted_key(salt, secret or settings.SECRET_KEY), signed, "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def path(name: str) -> Path:
    """The path on disk of the file *name*. Raises Forbidden for a name that leaves MEDIA_ROOT."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\0" in name or not pure.parts:
        raise Forbidden("it isn’t a media file")
    return Path(settings.MEDIA_ROOT, *pure.parts)


def signed_path(name: str, *, owner: str = "", now: float | None = None) -> str:
    """A path like /media/outputs/x.mp4?expires=…&signature=…, valid for a week or a little more.

    With *owner*, an id, it is for that person and for staff alone, while they are signed in.
    """
    moment = time.time() if now is None else now
    expires = (int(moment) // URL_PERIOD + 1) * URL_PERIOD + URL_LIFETIME
    query = f"{f'owner={owner}&' if owner else ''}expires={expires}"
    return f"{settings.MEDIA_URL}{quote(name)}?{query}&signature={_signature(name, expires, owner)}"


def link(name: str) -> str:
    """Where whoever holds the link gets the file, for a week or so."""
    return s3.url(name) if in_bucket(name) else signed_path(name)


def page_link(name: str, owner: int | str, *, save_as: str = "") -> str:
    """Where a page about what is *owner*'s, an id, gets the file; *save_as*: it is saved under this name."""
    return signed_path(name, owner=str(owner)) + (f"&download={quote(save_as)}" if save_as else "")


def signed_url(name: str, *, local: bool = False) -> str:
    """link() with the installation's address in front; *local*: for our engine, which reads just the name."""
    if in_bucket(name) and not local:
        return s3.url(name)
    base = settings.LOCAL_URL if local or not settings.PUBLIC_URL else settings.PUBLIC_URL
    return f"{base}{signed_path(name)}"


def in_bucket(name: str) -> bool:
    """Whether readers get the file from the bucket; incoming ones, and texts, they get from us."""
    return bool(settings.S3_BUCKET) and not name.startswith("incoming/") and not name.endswith(TEXTS)


def is_in_bucket(url: str) -> bool:
    """Whether *url* leads into our bucket; whether it may be read is the bucket's to say."""
    return bool(settings.S3_BUCKET) and url.startswith((s3.base(), s3.base(public=False)))


def publish(source: Path, name: str) -> None:
    """Moves a finished file to its place, whole and synced.

    Raises FileNotFoundError, OSError: then *source* is still there, and may be published again.
    """
    if settings.S3_BUCKET:
        s3.put(source, name, content_type(name))
        source.unlink(missing_ok=True)
        return
    target = path(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if settings.ACCEL_PREFIX:
        for folder in (target.parent, *target.parent.parents)[: name.count("/") + 1]:
            os.chmod(folder, 0o750)  # noqa: S103 - nginx comes as a member of the folder's group
    if source.stat().st_dev == target.parent.stat().st_dev:
        _move(source, target)
        return
    handle, part = tempfile.mkstemp(prefix=".publish-", dir=target.parent)  # a rename cannot cross disks
    os.close(handle)
    try:
        shutil.copyfile(source, part)
        _move(Path(part), target)
    except OSError:  # the source is still whole: it can be published again
        Path(part).unlink(missing_ok=True)
        raise
    source.unlink()


async def publish_patiently(source: Path, name: str, wait_out: WaitOut) -> None:
    """publish(), again until the storage takes the file: what is finished is never thrown away.

    A cancel takes effect when a copy under way has ended, so that whoever removes the file finds it.
    """
    while True:
        try:
            return await run_to_completion(publish, source, name)
        except FileNotFoundError:  # it isn't the storage that fails
            raise
        except OSError as error:
            await wait_out(error)


def _move(source: Path, target: Path) -> None:
    """Renames a file, synced: after a crash there is the whole file or none."""
    with open(source, "rb") as file:
        os.fsync(file.fileno())
    os.chmod(source, 0o640 if settings.ACCEL_PREFIX else 0o600)
    os.replace(source, target)


def check() -> None:
    """Raises OSError where files can't be stored or read, as far as a moment tells: a disk is there."""
    if settings.S3_BUCKET:
        s3.check()


def exists(name: str) -> bool:
    """Whether the file is there."""
    return s3.exists(name) if settings.S3_BUCKET else path(name).is_file()


def read_text(name: str) -> str:
    """A small text file. Raises FileNotFoundError."""
    return s3.read(name).decode() if settings.S3_BUCKET else path(name).read_text()


def remove(name: str) -> None:
    """Removes a file, and on disk its folder where that is now empty."""
    if settings.S3_BUCKET:
        s3.remove(name)
        return
    path(name).unlink(missing_ok=True)
    parent = path(name).parent
    if name.count("/") > 1 and parent.is_dir() and not any(parent.iterdir()):
        parent.rmdir()


def fetched(task_id: str) -> str:
    """The name of a foreign source that was downloaded for a task of the engine, until the task is over."""
    return f"{FETCHED}/{task_id}"


def folder_of(name: str) -> str:
    """The folder that *name* stands for, with all that is in it; "" where it stands for itself alone."""
    return name.rpartition("/")[0] if name.endswith(PLAYLIST) else ""


def members(names: Iterable[str]) -> Iterator[str]:
    """Every file that an output of these *names* consists of."""
    for name in names:
        if folder := folder_of(name):
            yield from (member for member, _, _ in under(folder))
        else:
            yield name


def under(folder: str) -> Iterator[tuple[str, int, float]]:
    """The files in *folder*: name, bytes, when it was last changed (unix seconds)."""
    if settings.S3_BUCKET:
        yield from s3.under(folder)
        return
    for each in sorted(path(folder).rglob("*")):
        if each.is_file():
            stat = each.stat()
            yield each.relative_to(settings.MEDIA_ROOT).as_posix(), stat.st_size, stat.st_mtime


def beginning_with(stem: str) -> list[str]:
    """The files whose names begin with *stem*, those in folders of such names, too."""
    if settings.S3_BUCKET:
        return [name for name, _, _ in s3.beginning_with(stem)]
    first = path(stem)
    found = list(first.parent.glob(f"{glob.escape(first.name)}*"))
    files = [each for top in found for each in (top.rglob("*") if top.is_dir() else [top]) if each.is_file()]
    return sorted(each.relative_to(settings.MEDIA_ROOT).as_posix() for each in files)


def check_signature(name: str, expires: str, signature: str, owner: str = "") -> None:
    """Raises Forbidden unless *signature* is ours for *name*, by a key that counts, and still valid.

    *owner*: as its link says; whether the reader is that person is not looked at.
    """
    if not expires.isdecimal() or not expires.isascii() or len(expires) > 12 or int(expires) < time.time():
        raise Forbidden("it has expired")
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    valid = (_signature(name, int(expires), owner, key).encode() for key in keys)
    if not any(hmac.compare_digest(each, signature.encode()) for each in valid):
        raise Forbidden("it isn’t valid")


def name_of(url: str) -> str | None:
    """The name of the file behind a URL of ours; None for anybody else's.

    Our signature makes a URL ours, whatever address it was made with: that of an earlier port, of another
    machine. Raises Forbidden where the address is ours and the signature is wrong or expired (a bucket
    checks its own).
    """
    if is_in_bucket(url):
        base = s3.base() if url.startswith(s3.base()) else s3.base(public=False)
        return unquote(urlsplit(url.removeprefix(base)).path)
    try:
        parts = urlsplit(url)
        name = unquote(parts.path.partition(settings.MEDIA_URL)[2])
        query = parse_qs(parts.query)
        check_signature(name, query.get("expires", [""])[0], query.get("signature", [""])[0])
    except ValueError:  # no URL at all
        return None
    except Forbidden:
        own = (f"{base}{settings.MEDIA_URL}" for base in (settings.LOCAL_URL, settings.PUBLIC_URL) if base)
        if url.startswith(tuple(own)):
            raise
        return None
    return name


def to_kept(url: str) -> str:
    """A URL that was given, as it is kept: ours by the file's name. Raises Forbidden as name_of does."""
    name = None if is_in_bucket(url) else name_of(url)  # who may read what lies there, the bucket says
    return url if name is None else f"{OWN_FILE_PREFIX}{name}"


def kept_name(kept: str) -> str | None:
    """The name of the file that *kept* stands for; None for a URL that isn't ours.

    Earlier versions kept our own URLs as they were. Raises Forbidden as name_of does.
    """
    if kept.startswith(OWN_FILE_PREFIX):
        return kept.removeprefix(OWN_FILE_PREFIX)
    return None if is_in_bucket(kept) else name_of(kept)


def source_url(name: str, anew: bool = False) -> str:
    """Where the engine downloads a file that lies in the bucket; *anew*: signed for this call."""
    return s3.url(name, public=False, anew=anew)


def kept_url(kept: str) -> str:
    """A URL that works now for what was kept."""
    try:
        name = kept_name(kept)
    except Forbidden:
        return kept
    return kept if name is None else signed_url(name)
