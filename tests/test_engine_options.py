"""What may be asked for, row by row of the Ittybit reference: types, ranges, defaults, what suits what."""

from __future__ import annotations

import math

import pytest

from mediapipe.engine import openapi
from mediapipe.engine.arguments import output_size
from mediapipe.engine.errors import InvalidRequest
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.media import Media, Video
from mediapipe.engine.options import check_request
from mediapipe.engine.plan import can_copy_video
from mediapipe.task_options import check_options

WRONG = "request_invalid"
URL = "https://example.org/a.mp4"


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        *[("video", {"format": each}) for each in ("mp4", "webm", "mov")],
        *[("video", {"format": "mp4", "codec": each}) for each in ("h264", "h265", "av1")],
        *[("video", {"format": "webm", "codec": each}) for each in ("vp9", "av1")],
        *[("audio", {"format": each}) for each in KINDS["audio"].options["format"].choices],
        *[("image", {"format": each}) for each in ("jpeg", "jpg", "png", "webp", "avif")],
        *[("video", {"quality": each}) for each in ("very_low", "low", "medium", "high", "very_high")],
        ("video", {"fps": 1}),
        ("video", {"fps": 59.94}),
        ("video", {"bitrate": 300_000}),
        ("audio", {"bitrate": 320_000}),
        ("video", {"width": "50%", "height": "100%"}),
        ("video", {"width": 640.0, "fit": "cover", "position": "top_left", "background": "#FFF"}),
        ("video", {"start": 0, "end": 0.04}),
        ("animation", {"end": 3, "format": "webp"}),
        ("adaptive_video", {"format": "hls", "quality": "low", "start": 1, "end": 2}),
        ("video", {"width": None}),
    ],
)
def test_what_the_reference_allows_is_allowed(kind, given):
    assert check_options(kind, given)


@pytest.mark.parametrize(
    ("kind", "given", "error"),
    [
        ("video", {"format": "avi"}, "format_unsupported"),
        ("video", {"format": "hls"}, "format_unsupported"),
        ("video", {"codec": "vp9"}, "format_unsupported"),
        ("video", {"format": "mov", "codec": "av1"}, "format_unsupported"),
        ("video", {"format": "webm", "codec": "h264"}, "format_unsupported"),
        ("image", {"format": "gif"}, "format_unsupported"),
        ("adaptive_video", {"format": "dash"}, "format_unsupported"),
        *[("video", {"width": each}, WRONG) for each in (0, 1, 7681, 1.5, "640", "0%", "101%", "5")],
        *[("video", {"width": each}, WRONG) for each in (True, math.nan, math.inf, 10**400, [], {})],
        *[("video", {"fps": each}, WRONG) for each in (0, 0.5, 61, "30", True, math.nan)],
        *[("video", {"bitrate": each}, WRONG) for each in (299_999, 60_000_001, 1e6 + 0.5, "1000000")],
        *[("audio", {"bitrate": each}, WRONG) for each in (31_999, 320_001)],
        *[("video", {"start": each}, WRONG) for each in (-1, math.nan, math.inf, "1", True, 1e9)],
        ("video", {"start": 2, "end": 2}, WRONG),
        ("video", {"start": 3, "end": 2}, WRONG),
        ("animation", {}, WRONG),
        ("video", {"quality": 80}, WRONG),
        ("video", {"quality": "best"}, WRONG),
        ("video", {"fit": "inside"}, WRONG),
        ("video", {"position": "centre"}, WRONG),
        *[("video", {"background": each}, WRONG) for each in ("red", "#12345", "#1234567", 0, "ａｂｃ")],
        ("audio", {"width": 10}, WRONG),
        ("video", {"ｗidth": 10}, WRONG),
        ("video", [], WRONG),
    ],
)  # fmt: skip
def test_what_it_does_not_is_refused_with_a_sentence(kind, given, error):
    with pytest.raises(InvalidRequest) as caught:
        check_options(kind, given)
    assert caught.value.kind == error and str(caught.value).endswith((".", '"50%".'))


@pytest.mark.parametrize(
    "part",
    [
        *[{"input": each} for each in (None, "", 7, "ftp://x/a", "s3://b/k", "file:///etc/x", "//x/a", "a")],
        *[{"input": f"http://x/{each}"} for each in ("a\0b", "a b", "a\nb", "\x7f", "\ud800", "x" * 9000)],
        *[{"input": each} for each in ("http://x:99999/", "http://x:0/", "http://[::1/", "http://")],
        {"metadata": []},
        {"metadata": {"a": math.inf}},
        {"metadata": {"a": "\ud800"}},
        {"metadata": {"a": "\0"}},
        {"metadata": {"a": "x" * 70_000}},
        {"output": "s3://bucket/key"},
        {"webhook_url": "javascript:alert(1)"},
        {"kind": "speech"},
        {"kind": ["video"]},
    ],
)  # fmt: skip
def test_a_body_that_no_server_should_keep_is_refused(part):
    with pytest.raises(InvalidRequest):
        check_request({"kind": "video", "input": URL, **part})


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"quality": "high"}, 'quality belongs in options: send "options": {"quality": …}.'),
        ({"zz": 1, "width": 640}, 'width belongs in options: send "options": {"width": …}.'),
        (
            {"filename": "x.mp4"},
            "There is no field 'filename'. Known: kind, input, options, metadata, webhook_url.",
        ),
        ({"url": URL}, "There is no field 'url'."),
    ],
)
def test_a_field_that_would_be_ignored_is_refused_by_its_name(part, says):
    with pytest.raises(InvalidRequest) as refused:
        check_request({"kind": "video", "input": URL, **part})
    assert str(refused.value).startswith(says)


def test_the_older_body_is_told_what_its_fields_are_called_here():
    with pytest.raises(InvalidRequest, match="The field url is called input here"):
        check_request({"url": URL, "kind": "video", "width": 640, "filename": "x.mp4"})


def test_the_input_of_a_task_may_be_an_object_as_another_tasks_output_is():
    for given in ({"url": URL}, {"object": "file", "url": URL, "kind": "video", "codecs": {"video": "h264"}}):
        checked = check_request({"kind": "video", "input": given})
        assert checked.input == URL and checked.input_is_object
        with pytest.raises(InvalidRequest, match="an object is for /tasks"):
            check_request({"kind": "video", "input": given}, "jobs")
    assert not check_request({"kind": "video", "input": URL}).input_is_object
    for wrong in ({}, {"url": "s3://b/k"}, {"url": {"url": URL}}, [URL]):
        with pytest.raises(InvalidRequest, match="must be an http or https URL"):
            check_request({"kind": "video", "input": wrong})


def test_metadata_comes_back_as_it_was_sent():
    told = {"job": "7", "deep": {"list": [1, 2.5, None, True]}, "text": "日本 🎬"}
    assert check_request({"kind": "video", "input": URL, "metadata": told}).metadata == told


WIDE = Video(0, "h264", 1920, 1080)


@pytest.mark.parametrize(
    ("asked", "comes"),
    [
        ({}, (1920, 1080, "")),
        ({"width": 1280}, (1280, 720, "")),
        ({"height": 100}, (178, 100, "")),
        ({"width": 4000}, (1920, 1080, "")),  # never enlarged
        ({"width": "50%"}, (960, 540, "")),
        ({"width": 641}, (640, 360, "")),
        ({"width": 300, "height": 300, "fit": "fill"}, (300, 300, "")),
        ({"width": 300, "height": 300}, (300, 168, "pad=300:300:(ow-iw)/2:(oh-ih)/2:color=0x000000")),
        (
            {"width": 300, "height": 300, "position": "bottom_right", "background": "#ff0000"},
            (300, 168, "pad=300:300:(ow-iw):(oh-ih):color=0xff0000"),
        ),
        (
            {"width": 300, "height": 300, "fit": "cover", "position": "left"},
            (534, 300, "crop=300:300:0:(ih-oh)/2"),
        ),
    ],
)
def test_sizes_keep_the_ratio_and_fit_as_asked(asked, comes):
    assert output_size(WIDE, check_options("video", asked)) == comes


# --- copy or encode -------------------------------------------------------------------------------

WEB_SAFE = Media("mov", 10, size=5_000_000, video=Video(0, "h264", 1280, 720, fps=25, frames=250, gap=2.0))
COPYABLE = {"format": ["mp4", "mov"], "codec": ["h264"], "quality": ["high", "very_high"]}


def sample(schema: dict) -> object:
    """A value that a validator's own description allows."""
    schema = schema.get("oneOf", [schema])[0]
    return schema["enum"][-1] if "enum" in schema else schema.get("maximum", "#ff0000")


def test_a_web_safe_picture_is_copied_where_nothing_asks_for_another():
    for name, words in COPYABLE.items():
        assert all(can_copy_video({"format": "mp4", name: word}, WEB_SAFE) for word in words), name
    assert not can_copy_video({"format": "webm"}, WEB_SAFE)
    assert not can_copy_video({"format": "mp4", "codec": "h265"}, WEB_SAFE)
    assert not can_copy_video({"format": "mp4", "quality": "low"}, WEB_SAFE)


@pytest.mark.parametrize("name", [*sorted(set(KINDS["video"].options) - set(COPYABLE)), "an_option_to_come"])
def test_every_other_option_forbids_the_copy(name):
    """One that nobody thought of, too: it would be ignored on a source that suits the web."""
    known = KINDS["video"].options.get(name)
    value = known.check(name, sample(known.schema())) if known else 1
    assert not can_copy_video({"format": "mp4", name: value}, WEB_SAFE)


# --- the description ------------------------------------------------------------------------------

OPTIONS = [(kind, name) for kind in KINDS.values() for name in kind.options]


@pytest.mark.parametrize(("kind", "name"), OPTIONS, ids=[f"{kind.name}-{name}" for kind, name in OPTIONS])
def test_what_is_described_is_what_is_checked(kind, name):
    """Every limit and word of the OpenAPI description is accepted, and what lies behind it is not."""
    requests = openapi.document("/")["paths"]["/tasks"]["post"]["requestBody"]["content"]["application/json"]
    described = next(
        each for each in requests["schema"]["oneOf"] if each["properties"]["kind"]["const"] == kind.name
    )
    schema = described["properties"]["options"]["properties"][name]
    for part in schema.get("oneOf", [schema]):
        if "enum" in part:
            good, bad = part["enum"], ["nonsense", part["enum"][0].upper()]
        elif "minimum" in part:
            good = [part["minimum"], part["maximum"]]
            bad = [part["minimum"] - 0.01, part["maximum"] + 1]
        else:
            good, bad = [], ["nonsense"]
        for value in good:
            kind.options[name].check(name, value)
        for value in bad:
            with pytest.raises(InvalidRequest):
                kind.options[name].check(name, value)
