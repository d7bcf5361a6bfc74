"""The S3-compatible bucket, where one is set: django-storages over boto3, and URLs signed by its key.

It knows names and bytes, and nothing of who may read what.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from functools import cache, cached_property, wraps
from pathlib import Path
from typing import IO, TYPE_CHECKING, ParamSpec, TypeVar

from django.conf import settings
from django.utils.http import content_disposition_header

from mediapipe.recent import Recent

if TYPE_CHECKING:
    from storages.backends.s3 import S3Storage

URL_LIFETIME = 6 * 24 * 3600  # seconds that a signed URL is valid; S3 allows seven days
PAGE_LIFETIME = 12 * 3600  # seconds that a URL is valid to which a page of ours leads
URL_PERIOD = 6 * 3600  # seconds in which a file has the same URL, so that no player restarts
ROLE_PERIOD = 5 * 60  # the same where a role's keys sign: boto3 renews them ten minutes before they end
OF_A_ROLE = "X-Amz-Security-Token="
P = ParamSpec("P")
T = TypeVar("T")


class BucketUnavailable(OSError):
    """The bucket can't be reached, or refuses; *code*: the word that S3 has for why, where it answered."""

    code = ""


def as_bucket_unavailable(function: Callable[P, T]) -> Callable[P, T]:
    """*function*, raising BucketUnavailable for whatever boto3 raises."""

    @wraps(function)
    def wrapped(*args: P.args, **fields: P.kwargs) -> T:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            return function(*args, **fields)
        except (Boto3Error, BotoCoreError, ClientError) as error:
            text = f"the bucket {settings.S3_BUCKET} can’t be used ({error})"
            unavailable = BucketUnavailable(errno.EIO, text)
            if isinstance(error, NoCredentialsError):  # boto3 would never look for them again
                storage.cache_clear()
            said = error if isinstance(error, ClientError) else error.__context__  # boto3 wraps uploads' own
            if isinstance(said, ClientError):
                unavailable.code = str(said.response.get("Error", {}).get("Code", ""))
            raise unavailable from None

    return wrapped


@cache
def storage(endpoint: str | None = None) -> S3Storage:
    """The bucket. Imported late: boto3 takes half a second that most installations need not spend."""
    from botocore.config import Config
    from storages.backends.s3 import S3Storage

    class Storage(S3Storage):  # type: ignore[misc]
        """With one connection for all threads, as its bucket is: each new one took a fifth of a second."""

        connection = cached_property(S3Storage.connection.fget)

    return Storage(
        bucket_name=settings.S3_BUCKET,
        endpoint_url=endpoint or settings.S3_ENDPOINT_URL,
        region_name=settings.S3_REGION,
        file_overwrite=True,
        querystring_expire=URL_LIFETIME,
        client_config=Config(
            signature_version="s3v4",
            # other servers than Amazon's do not know its newer checksums
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if settings.S3_ENDPOINT_URL else "auto"},
            connect_timeout=10,
            retries={"max_attempts": 2, "mode": "standard"},  # those who can wait try again by themselves
        ),
    )


_urls: Recent[tuple[str, str, bool, int], tuple[float, str]] = Recent(5000)


def _signer(public: bool) -> S3Storage:
    """The bucket at the address that browsers reach it at, or at ours: it is part of what is signed."""
    return storage(settings.S3_PUBLIC_URL) if public and settings.S3_PUBLIC_URL else storage()


@as_bucket_unavailable
def url(
    name: str, save_as: str = "", *, public: bool = True, anew: bool = False, lifetime: int = URL_LIFETIME
) -> str:
    """A signed URL, the same one for some hours, by a role's keys for some minutes; *anew*: a new one."""
    cached = _urls.get((name, save_as, public, lifetime))
    if cached and not anew:
        signed_at, signed = cached
        if time.monotonic() - signed_at < (ROLE_PERIOD if OF_A_ROLE in signed else URL_PERIOD):
            return signed
    about = {"ResponseContentDisposition": content_disposition_header(True, save_as)} if save_as else {}
    signed = str(_signer(public).url(name, parameters=about, expire=lifetime))
    _urls[name, save_as, public, lifetime] = (time.monotonic(), signed)
    return signed


@cache
def base(*, public: bool = True) -> str:
    """What every URL into the bucket begins with."""
    client = _signer(public).unsigned_connection.meta.client  # needs no keys: a role's may be away
    about = {"Bucket": settings.S3_BUCKET, "Key": "x"}
    return str(client.generate_presigned_url("get_object", Params=about)).split("?")[0].removesuffix("x")


@as_bucket_unavailable
def check() -> None:
    """Raises BucketUnavailable where the bucket doesn't answer, isn't there, or isn't for our key."""
    storage().bucket.meta.client.head_bucket(Bucket=settings.S3_BUCKET)


@as_bucket_unavailable
def put(source: Path, name: str, content_type: str) -> None:
    """Uploads a file, in parts where it is large; it is visible when it is whole."""
    storage().bucket.upload_file(str(source), name, ExtraArgs={"ContentType": content_type})


@as_bucket_unavailable
def exists(name: str) -> bool:
    """Whether there is such a file."""
    return bool(storage().exists(name))


@as_bucket_unavailable
def read(name: str) -> bytes:
    """A small file. Raises FileNotFoundError."""
    with storage().open(name) as file:
        return bytes(file.read())


@as_bucket_unavailable
def write(name: str, data: bytes | bytearray) -> None:
    """Stores a small file, whole or not at all."""
    storage().bucket.Object(name).put(Body=data)


@as_bucket_unavailable
def size(name: str) -> int:
    """Bytes of a file. Raises FileNotFoundError."""
    return int(storage().size(name))


@as_bucket_unavailable
def stream(name: str, start: int = 0) -> IO[bytes]:
    """A file of any size from the byte *start* on, to be read once and closed."""
    body: IO[bytes] = storage().bucket.Object(name).get(Range=f"bytes={start}-")["Body"]
    return body


@as_bucket_unavailable
def remove(name: str) -> None:
    """Removes a file."""
    storage().delete(name)


def under(folder: str) -> list[tuple[str, int, float]]:
    """The files in *folder*: name, bytes, when it was last changed."""
    return beginning_with(f"{folder}/")


@as_bucket_unavailable
def beginning_with(stem: str) -> list[tuple[str, int, float]]:
    """The files whose names begin with *stem*: name, bytes, when it was last changed."""
    found = storage().bucket.objects.filter(Prefix=stem)
    return [(each.key, each.size, each.last_modified.timestamp()) for each in found]
