# ruff: noqa: PT017 - most inputs raise nothing
"""Whatever bytes arrive: each parser of ours answers by its own rule or its own error, and by no other."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import struct
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import httpx
import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.mail import EmailMessage
from django.http import QueryDict
from django.test import RequestFactory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError as PydanticError

from jobs.api import making, schemas
from jobs.dashboard import keyset
from jobs.dashboard.history import Echo, spreadsheet_cell
from jobs.dashboard.option_form import StageOptions
from jobs.dashboard.searching import in_tab, search
from jobs.dashboard.stage_page import Frame
from jobs.ittybit.probe import parse_probe
from jobs.ittybit.replies import Broken, IttybitError, Task, check_response, parse_task
from jobs.notifications import events, wording
from jobs.notifications.channels import chat, mail, webhook
from jobs.notifications.channels.channel import NotAccepted, NotDelivered
from jobs.option_words import LABELS
from jobs.pipelines import PIPELINES
from jobs.uploads import tus
from jobs.uploads.errors import UploadError
from mediapipe import reply, storage, temporal_ui
from mediapipe.accounts import limits
from mediapipe.engine import containers, probe
from mediapipe.engine.encode import Progress
from mediapipe.engine.errors import InvalidRequest
from mediapipe.engine.options import check_request
from mediapipe.storage.views import Unsatisfiable, parse_range, signed_links
from mediapipe.task_options import check_options
from mediapipe.url_safety import UnsafeUrl, normalised, parse

TEXT = st.text(max_size=60)
LATIN = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60)  # a header's
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def fuzz(**strategies):
    """Fifty inputs in every run, 1,000 more in a release's."""

    def mark(test):
        def both(number):
            quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
            how = settings(max_examples=number, derandomize=number == 50, deadline=None, database=None)
            return settings(how, suppress_health_check=quiet)(given(**strategies)(test))

        many = pytest.param(both(1000), id="many", marks=[pytest.mark.release, pytest.mark.timeout(600)])

        @pytest.mark.parametrize("fuzzed", [pytest.param(both(50), id="some"), many])
        def run(fuzzed, tmp_path, monkeypatch):
            monkeypatch.chdir(tmp_path)
            fuzzed()

        return run

    return mark


@fuzz(
    header=LATIN | st.from_regex(r"bytes=\d{0,25}-\d{0,25}(,\d*-\d*)?", fullmatch=True),
    size=st.integers(0, 99),
)
def test_a_range_lies_within_its_file(header, size):
    try:
        span = parse_range(header, size)
    except Unsatisfiable:
        return
    assert span is None or 0 <= span[0] <= span[1] <= size


@fuzz(
    raw=LATIN
    | st.lists(st.binary(max_size=9).map(base64.b64encode), max_size=4).map(
        lambda values: ",".join(f"k{at} {value.decode()}" for at, value in enumerate(values))
    )
)
def test_the_metadata_of_an_upload_is_text_by_ascii_keys_or_an_error(raw):
    try:
        found = tus.parse_metadata(raw)
    except UploadError as error:
        assert error.status == 400
    else:
        assert all(key and key.isascii() and isinstance(value, str) for key, value in found.items())


@fuzz(value=LATIN | st.integers().map(str))
def test_the_numbers_and_checksums_of_an_upload_are_right_or_an_error(value):
    request = RequestFactory().patch("/", HTTP_UPLOAD_LENGTH=value, HTTP_UPLOAD_CHECKSUM=value)
    try:
        assert 0 <= tus.integer_header(request, "Upload-Length") < 10**19
    except UploadError as error:
        assert error.status == 400
    try:
        digest, wanted = tus.parse_checksum(request)
    except UploadError as error:
        assert error.status == 400
    else:
        assert digest is not None and isinstance(wanted, bytes)


STATED = st.fixed_dictionaries(
    {"id": TEXT | JSON, "status": st.sampled_from(["succeeded", "failed", "processing"]) | JSON},
    optional=dict.fromkeys(("data", "output", "progress", "error", "speed", "queue_position", "tasks"), JSON),
)


@fuzz(answer=STATED | JSON)
def test_a_reply_of_the_api_is_a_task_with_sound_numbers_or_is_broken(answer):
    with suppress(Broken):
        parse_probe(answer)
    try:
        task = parse_task(answer)
    except Broken:
        return
    assert isinstance(task, Task) and task.id
    assert task.progress is None or 0 <= task.progress <= 100
    for number in (task.speed, task.time_left):
        assert number is None or math.isfinite(number)


@fuzz(status=st.integers(200, 599), body=st.binary(max_size=80), after=LATIN)
def test_an_error_reply_of_the_api_is_an_error_of_ours(status, body, after):
    headers = {"Retry-After": after.encode("latin-1")}
    try:
        check_response(httpx.Response(status, content=body, headers=headers))
    except IttybitError as error:
        assert str(error) and not 200 <= status < 300


@fuzz(value=LATIN)
def test_the_headers_of_a_download_are_read_or_ignored(value):
    raw = [(name, value.encode("latin-1")) for name in (b"Content-Disposition", b"Content-Length", b"ETag")]
    answer = httpx.Response(200, headers=[*raw, (b"Content-Encoding", b"")])
    assert isinstance(reply.filename(answer), str)
    size = reply.length(answer)
    assert size is None or size >= 0
    seconds = reply.retry_after(value)
    assert seconds is None or 0 <= seconds <= reply.LONGEST_RETRY_AFTER


NAMES = st.sampled_from(["filename", "filename*", "FILENAME"])
VALUES = st.sampled_from(['"', "UTF-8''", "utf-7''", "x''", "'", ";", "\\"])
PARAMETERS = st.lists(st.tuples(NAMES, VALUES, LATIN), max_size=3)


@fuzz(parameters=PARAMETERS)
def test_a_file_name_in_a_reply_is_text_or_nothing(parameters):
    text = "attachment" + "".join(f";{name}={start}{rest}" for name, start, rest in parameters)
    answer = httpx.Response(200, headers=[(b"Content-Disposition", text.encode("latin-1"))])
    assert isinstance(reply.filename(answer), str)


@fuzz(url=TEXT | st.tuples(st.sampled_from(["http://", "https://", "//", "HTTP:"]), TEXT).map("".join))
def test_a_url_has_a_host_and_a_port_or_is_unsafe_and_is_normal_once(url):
    try:
        normal = normalised(url)
        assert normalised(normal) == normal
        host, port = parse(normal)
    except UnsafeUrl as error:
        assert str(error).endswith(".")
    else:
        assert host and 0 < port < 65536


LINES = st.tuples(
    st.sampled_from(["frame", "out_time_us", "total_size", "speed", "progress", ""]),
    st.sampled_from(["N/A", "end", "continue", "nan", "inf", "1e999x", "-5"]) | st.floats().map(str) | TEXT,
).map("=".join)


@fuzz(
    lines=st.lists(LINES | TEXT, max_size=30),
    seconds=st.sampled_from([0, 1, 90]),
    frames=st.sampled_from([0, 25]),
)
def test_progress_is_a_percentage_that_never_falls_whatever_ffmpeg_prints(lines, seconds, frames):
    told = []
    progress = Progress(seconds, frames, lambda *figures: told.append(figures))
    for line in [*lines, "progress=end"]:
        progress.line(line)
    percents = [percent for percent, _, _ in told if percent is not None]
    assert percents == sorted(percents) and all(0 <= percent <= 99 for percent in percents)
    assert all(figure is None or math.isfinite(figure) for figures in told for figure in figures)


@fuzz(
    body=JSON
    | st.fixed_dictionaries(
        {"kind": st.sampled_from(["video", "audio", "image", "adaptive_video"])},
        optional={"input": JSON | TEXT, "options": JSON, "metadata": JSON, "webhook_url": JSON},
    )
)
def test_a_request_to_the_engine_is_checked_or_refused_with_a_sentence(body):
    for resource in ("tasks", "jobs"):
        try:
            check_request(body, resource)
        except InvalidRequest as error:
            assert str(error)


KINDS = [b"moov", b"trak", b"stsd", b"meta", b"iprp", b"ipco", b"ispe", b"irot", b"pssh", b"ftyp", b"mdat"]
BOXES = st.recursive(
    st.binary(max_size=24),
    lambda inner: st.lists(
        st.tuples(st.sampled_from(KINDS), inner, st.none() | st.integers(0, 2**32 - 1)).map(
            lambda box: struct.pack(">I4s", len(box[1]) + 8 if box[2] is None else box[2], box[0]) + box[1]
        ),
        max_size=4,
    ).map(b"".join),
    max_leaves=8,
)
WEBP = st.binary(max_size=60).map(lambda rest: b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\x02" + rest)


@fuzz(data=BOXES | WEBP)
def test_the_boxes_of_a_file_are_read_to_their_end_or_not_at_all(data):
    Path("file").write_bytes(data)
    with open("file", "rb") as file:
        assert all(0 <= first <= last <= len(data) for _, first, last in containers.boxes(file, 0, len(data)))
    assert probe.is_protected("file") in (True, False)
    assert probe.is_iso("file") in (True, False)
    for read in (probe.canvas, probe.animated_webp):
        probe.value(lambda read=read: read("file"), None)  # as the child does


def test_a_number_of_seconds_beside_a_control_character_is_a_number():
    assert reply.retry_after("7\x1f") == 7


MEDIA = st.builds(
    "{}/media/{}?owner={}&expires={}&signature={}".format,
    st.sampled_from(["", "http://127.0.0.1:8000", "https://x"]),
    *(TEXT | st.sampled_from(["outputs/a.mp4", "../secret_key", "7", "9" * 11]) for _ in range(4)),
)


@fuzz(url=TEXT | MEDIA)
def test_no_address_but_a_signed_one_names_a_file_of_ours(url):
    with suppress(storage.Forbidden):
        assert storage.name_of(url) is None


@fuzz(name=TEXT, expires=TEXT | st.integers().map(str), signature=TEXT, owner=TEXT)
def test_a_signature_is_ours_or_forbidden(name, expires, signature, owner):
    with pytest.raises(storage.Forbidden):
        storage.check_signature(name, expires, signature, owner)


@fuzz(
    text=TEXT
    | st.lists(st.sampled_from(["a.m4s", '#EXT-X-MAP:URI="b.mp4"', "../x.mp4", "\0"])).map("\n".join)
)
def test_a_playlist_has_its_lines_and_whatever_it_names_beside_it_is_signed(text):
    signed = signed_links("outputs/f/index.m3u8", text, "7").split("\n")
    assert len(signed) == len(text.split("\n"))
    for line, before in zip(signed, text.split("\n"), strict=True):
        assert line == before or ("/media/outputs/f/" in line and "owner=7&" in line)


@fuzz(text=TEXT | JSON.map(lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode()))
def test_a_cursor_is_one_of_the_list_or_none(text):
    with suppress(ValueError):
        assert len(keyset.decode(text, ("-created_at", "id"))) == 2


@fuzz(
    head=st.binary(max_size=99)
    | LATIN.map(lambda line: f"GET / HTTP/1.1\r\nHost: a\r\n{line}".encode("latin-1"))
)
def test_a_head_at_the_door_of_the_ui_is_read_in_one_way_or_refused(head):
    with suppress(temporal_ui.Refused):
        found = temporal_ui.parse(head + b"\r\n\r\n")
        again = temporal_ui.parse(temporal_ui.passed_on(found))
        assert (again.method, again.target, again.get("host")) == (
            found.method,
            found.target,
            found.get("host"),
        )


@fuzz(address=TEXT | st.ip_addresses().map(str))
def test_an_address_is_of_its_own_network_and_what_is_none_of_itself(address):
    found = limits.network(RequestFactory().get("/", REMOTE_ADDR=address))
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        assert found == address
    else:
        mapped = getattr(parsed, "ipv4_mapped", None)
        assert (mapped or parsed) in ip_network(found)
        assert parsed.version == 4 or mapped or found.endswith("/64")


FORMS = [(stage.kind, dict(stage.options)) for pipeline in PIPELINES.values() for stage in pipeline.stages]
WRITTEN = TEXT | st.sampled_from(
    ["9" * 5000, "9" * 5000 + ":0:0", "9" * 400, "1:" * 3 + "2", "nan", "inf", "-1", "٣", "1e999", "50%"]
)


@fuzz(form=st.sampled_from(FORMS), given=st.dictionaries(st.sampled_from([*LABELS]), WRITTEN, max_size=6))
def test_the_options_of_a_stage_are_ones_that_the_engine_takes_or_an_error_of_the_form(form, given):
    kind, options = form
    filled = StageOptions(kind, options, given)
    if filled.is_valid():
        wanted = {name: value for name, value in {**options, **filled.changes}.items() if value is not None}
        check_options(kind, wanted)
        assert all(math.isfinite(value) for value in wanted.values() if isinstance(value, float))
    assert str(filled) and all(map(str, filled.errors.values()))


@fuzz(at=WRITTEN | st.from_regex(r"\d{0,9}(:\d{0,9}){0,3}(\.\d+)?", fullmatch=True))
def test_a_place_in_a_film_is_a_number_of_seconds_or_an_error_of_the_form(at):
    frame = Frame({"at": at, "plays": "x"})
    assert not frame.is_valid() or math.isfinite(frame.cleaned_data["at"])


@fuzz(body=JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(making.MakeAgain.model_fields, JSON)))
def test_a_body_of_the_api_is_one_of_its_own_or_an_error_that_it_answers(body):
    for schema in (schemas.NewJob, making.MakeAgain, making.NewSource, making.Frame, schemas.Filters):
        with suppress(PydanticError):
            schema.model_validate(body)


@fuzz(
    texts=st.lists(TEXT | st.sampled_from(["=1+1", " =1", "\t=1", "\r\n=1", "＝1", '"=1', ",=1"]), max_size=4)
)
def test_a_row_of_the_csv_is_read_back_as_it_was_and_no_cell_begins_as_a_formula(texts):
    line = csv.writer(Echo()).writerow([spreadsheet_cell(text) for text in texts])
    read = next(csv.reader(io.StringIO(line, newline="")), [])
    assert [cell.removeprefix("'") for cell in read] == [
        text.removeprefix("'") for text in texts
    ] or not texts
    assert not [
        cell for cell in read if cell.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    ]


@fuzz(address=TEXT | st.tuples(st.sampled_from([f"{name}://" for name in chat.FIXED]), TEXT).map("".join))
def test_an_address_of_a_channel_is_kept_or_refused_with_a_sentence(address):
    for channel in (chat.Chat(), mail.Mail()):
        try:
            assert channel.accept(address)
        except NotAccepted as error:
            assert str(error)


@fuzz(status=st.integers(100, 599), after=LATIN | st.sampled_from(["9" * 5000, "²", "-1"]))
def test_what_a_receiver_answers_is_taken_or_tried_again_in_hours(status, after):
    try:
        webhook.judge(httpx.Response(status, headers=[(b"Retry-After", after.encode("latin-1", "ignore"))]))
    except NotDelivered as error:
        assert str(error).endswith(".") and (error.again_in or timedelta(0)) <= webhook.LONGEST_WAIT


@pytest.mark.django_db
@fuzz(
    query=st.dictionaries(st.sampled_from(["q", "owner", "why", "from", "to", "state", "tab", "sort"]), TEXT)
)
def test_whatever_the_list_is_searched_for_it_finds_some_jobs_or_none(query):
    found = QueryDict(mutable=True)
    found.update(query)
    list(in_tab(search(AnonymousUser(), found), query.get("tab", ""))[:3])
    assert found.urlencode() is not None


@fuzz(title=TEXT | st.sampled_from(["a\r\nBcc: x@example.org", "a\u2028b", "a\x0bb", "\x85b"]))
def test_a_title_adds_no_line_to_the_head_of_a_mail(title):
    news = wording.News(events.DONE, title, "https://x/")
    batch = wording.BatchNews(title, "https://x/", 2, 2, 0, [])
    for told in (wording.message([news], "", ""), wording.batch_message(batch, "")):
        mail_ = EmailMessage(told.subject, told.whole, "a@example.org", ["b@example.org"])
        assert (
            mail_.message()["Subject"] and b"\nBcc:" not in mail_.message().as_bytes().partition(b"\n\n")[0]
        )
