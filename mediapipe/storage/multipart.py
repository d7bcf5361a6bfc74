"""A file that gets into the bucket part by part, whichever machine has the next one: S3's multipart uploads.

The bucket itself says which parts it has. It knows names and bytes, and nothing of who sends them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar, cast

from django.conf import settings

from mediapipe.storage import s3
from mediapipe.storage.s3 import BucketUnavailable, as_bucket_unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MIN_PART_SIZE = 8 << 20  # bytes of a part: S3 takes none below 5 MiB but the last
MAX_PARTS = 10_000  # parts of one file: S3's limit
P = ParamSpec("P")
T = TypeVar("T")


class Part(NamedTuple):
    """A part that the bucket has: its bytes, and the bucket's word for what they are."""

    size: int
    etag: str


class Begun(NamedTuple):
    """A file that was begun and not completed: its name, the bucket's id, and when (unix seconds)."""

    name: str
    upload_id: str
    at: float


def part_size(length: int) -> int:
    """Bytes of each part of a file of *length* but the last: all alike, so that each has its place."""
    least = -(-length // MAX_PARTS)
    return max(MIN_PART_SIZE, -(-least // (1 << 20)) << 20)


def _client() -> S3Client:
    client: S3Client = s3.storage().bucket.meta.client
    return client


def _of_upload(function: Callable[P, T]) -> Callable[P, T]:
    """*function*, raising FileNotFoundError where the bucket knows no such upload (any more)."""

    @wraps(function)
    def wrapped(*args: P.args, **fields: P.kwargs) -> T:
        try:
            return as_bucket_unavailable(function)(*args, **fields)
        except BucketUnavailable as error:
            if error.code == "NoSuchUpload":
                raise FileNotFoundError("the bucket knows no such upload") from None
            raise

    return wrapped


@as_bucket_unavailable
def begin(name: str, content_type: str) -> str:
    """Begins a file that nobody sees until it is complete: the id by which its parts are sent."""
    begun = _client().create_multipart_upload(Bucket=settings.S3_BUCKET, Key=name, ContentType=content_type)
    return begun["UploadId"]


@_of_upload
def put(name: str, upload_id: str, number: int, data: bytearray) -> Part:
    """Sends a part; the bucket takes it only as it was sent. Numbers begin with 1."""
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    sent = _client().upload_part(
        Bucket=settings.S3_BUCKET,
        Key=name,
        UploadId=upload_id,
        PartNumber=number,
        Body=cast(bytes, data),  # it takes any buffer
        ContentMD5=base64.b64encode(digest).decode(),
    )
    return Part(len(data), sent["ETag"])


@_of_upload
def parts(name: str, upload_id: str) -> dict[int, Part]:
    """The parts that have arrived, by their numbers."""
    found: dict[int, Part] = {}
    pages = _client().get_paginator("list_parts")
    for page in pages.paginate(Bucket=settings.S3_BUCKET, Key=name, UploadId=upload_id):
        for part in page.get("Parts", ()):
            found[part["PartNumber"]] = Part(part["Size"], part["ETag"])
    return found


@_of_upload
def complete(name: str, upload_id: str, sent: dict[int, Part]) -> None:
    """Makes the parts, exactly these, one file."""
    listed: list[CompletedPartTypeDef] = [
        {"PartNumber": number, "ETag": part.etag} for number, part in sorted(sent.items())
    ]
    _client().complete_multipart_upload(
        Bucket=settings.S3_BUCKET, Key=name, UploadId=upload_id, MultipartUpload={"Parts": listed}
    )


@_of_upload
def abort(name: str, upload_id: str) -> None:
    """Removes what has arrived of a file."""
    _client().abort_multipart_upload(Bucket=settings.S3_BUCKET, Key=name, UploadId=upload_id)


@_of_upload
def _begun(stem: str) -> list[Begun]:
    pages = _client().get_paginator("list_multipart_uploads")
    return [
        Begun(each["Key"], each["UploadId"], each["Initiated"].timestamp())
        for page in pages.paginate(Bucket=settings.S3_BUCKET, Prefix=stem)
        for each in page.get("Uploads", ())
    ]


def begun(stem: str) -> list[Begun]:
    """The files whose names begin with *stem* and that were begun and not completed."""
    try:
        return _begun(stem)
    except FileNotFoundError:  # so some servers say that there is none
        return []
