"""How people write many sources: a line each, a table as CSV, a folder of the bucket.

What is wrong with one is its own sentence, and keeps no other from being taken. It knows no batches.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import PurePosixPath
from typing import NamedTuple

from jobs.dashboard.forms import source_of_link, title_of
from jobs.models import BatchItem
from jobs.models.batch import REJECTED
from jobs.uploads.naming import SUFFIXES, display_name
from mediapipe import storage, url_safety

MAX_SOURCES = 5000  # sources of one batch
COLUMNS = ("url", "title", "pipeline")
LOOKUPS = 16  # servers that are looked up at the same time
LOOKUP_SECONDS = 8.0  # in all; a server that nobody knows by then is checked when its file is fetched
MEDIA = {*SUFFIXES, "mxf", "ts", "m2ts", "mts", "flv", "avi", "mpg", "mpeg", "wmv", "3gp", "aif", "aiff"}
OWN_FOLDERS = ("sources/", "outputs/", "incoming/", "fetched/")  # of every job's files

NO_SOURCES = "There’s no link in it. Write one on each line."
TOO_MANY = "A batch has {most:,} sources at most, and this has {many:,}. Make several of it."
DUPLICATE = "The same as line {}."
NO_PIPELINE = "There’s no pipeline “{}” here. Choose one of: {}."
NOT_A_TEXT = "This file isn’t a table as CSV. Save it as CSV, with a column “url”."
NO_FOLDER = "Name a folder of the bucket, such as “rushes/monday/”."
EMPTY_FOLDER = "The bucket has no media file whose name begins with that."


class NotAList(Exception):
    """Nothing can be made of what was written; the sentence says why."""


class Written(NamedTuple):
    """A source as somebody wrote it: its title and its pipeline may be empty."""

    url: str
    title: str = ""
    pipeline: str = ""


def of_lines(text: str) -> list[Written]:
    """One of each line; a tab, as a spreadsheet's cells have them, divides link, title and pipeline."""
    parts = ([part.strip() for part in line.split("\t")] for line in text.splitlines() if line.strip())
    return [Written(*each[:3]) for each in parts]


def of_csv(data: bytes) -> list[Written]:
    """The rows of a table, by the names of its columns; without such a row the columns are COLUMNS.

    Raises NotAList.
    """
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")  # what older spreadsheets save
    if "\0" in text:
        raise NotAList(NOT_A_TEXT)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(map(str.strip, row))]
    except csv.Error:
        raise NotAList(NOT_A_TEXT) from None
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    named = "url" in head
    columns = [head.index(name) if name in head else None for name in COLUMNS] if named else [0, 1, 2]
    return [Written(*(_cell(row, at) for at in columns)) for row in rows[named:]]


def _cell(row: list[str], at: int | None) -> str:
    return row[at].strip() if at is not None and at < len(row) else ""


def items_of(written: list[Written], pipeline: str, offered: Collection[str]) -> list[BatchItem]:
    """An item for each, for *pipeline* where it names none of those *offered*; what can't be taken says why.

    Raises NotAList. It looks servers up, and takes LOOKUP_SECONDS at most.
    """
    _check_number(len(written))
    items = []
    seen = dict[tuple[str, str], int]()
    for number, each in enumerate(written, 1):
        name = each.pipeline or pipeline
        item = BatchItem(text=each.url[: url_safety.LONGEST], title=each.title[:300], pipeline=name[:40])
        items.append(item)
        try:
            item.url = url = url_safety.normalised(each.url)
            url_safety.parse(url)
        except url_safety.UnsafeUrl as error:
            _reject(item, str(error))
            continue
        if max(len(url), len(each.url)) > url_safety.LONGEST:
            _reject(item, url_safety.TOO_LONG)
        elif name not in offered:
            _reject(item, NO_PIPELINE.format(name[:40], ", ".join(offered)))
        elif first := seen.get((url, name)):
            _reject(item, DUPLICATE.format(first))
        else:
            seen[url, name] = number
    _look_up([item for item in items if item.state != REJECTED])
    for item in (item for item in items if item.state != REJECTED):
        source = source_of_link(item.url)
        item.filename = source.filename
        item.title = item.title or title_of(source)[:300]
    return items


def items_under(prefix: str, pipeline: str) -> list[BatchItem]:
    """An item for each media file of the bucket whose name begins with *prefix*.

    Raises NotAList; OSError where the bucket doesn't answer.
    """
    if not prefix.strip("/") or prefix.startswith("/") or ".." in prefix:
        raise NotAList(NO_FOLDER)
    names = [name for name in storage.beginning_with(prefix) if _is_media(name)]
    if not names:
        raise NotAList(EMPTY_FOLDER)
    _check_number(len(names))
    labels = ((name, display_name(name)) for name in names)
    return [
        BatchItem(text=name, name=name, filename=label, title=label, pipeline=pipeline)
        for name, label in labels
    ]


def _is_media(name: str) -> bool:
    suffix = PurePosixPath(name).suffix.lower().removeprefix(".")
    return suffix in MEDIA and len(name) <= 300 and not name.startswith(OWN_FOLDERS)


def _check_number(many: int) -> None:
    if not many:
        raise NotAList(NO_SOURCES)
    if many > MAX_SOURCES:
        raise NotAList(TOO_MANY.format(most=MAX_SOURCES, many=many))


def _reject(item: BatchItem, sentence: str) -> None:
    item.state = REJECTED
    item.error = sentence
    item.url = item.url[: url_safety.LONGEST]


def _look_up(items: list[BatchItem]) -> None:
    """Rejects those whose servers aren't on the public internet: each server is looked up once."""
    by_server: dict[tuple[str, int], list[BatchItem]] = {}
    for item in items:
        by_server.setdefault(url_safety.parse(item.url), []).append(item)
    threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup")
    asked = {threads.submit(_refusal, same[0].url): same for same in by_server.values()}
    done, _ = wait(asked, LOOKUP_SECONDS)
    threads.shutdown(wait=False, cancel_futures=True)
    for answer in done:
        if sentence := answer.result():
            for item in asked[answer]:
                _reject(item, sentence)


def _refusal(url: str) -> str:
    """Why nothing may be fetched there; "" where it may, and where that can't be said at the moment."""
    try:
        url_safety.check_url(url)
    except url_safety.LookupFailed:
        return ""
    except url_safety.UnsafeUrl as error:
        return str(error)
    return ""
