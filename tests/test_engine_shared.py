"""Every file of the shared media set, and every hostile input of its generator, where they are here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mediapipe import storage
from mediapipe.engine.errors import TaskError
from tests.support.engine import STAGES, ask, facts, light, loudness
from tests.support.environment import SHARED
from tests.support.product import FFMPEG

pytestmark = pytest.mark.anyio

MANIFEST = SHARED / "media" / "manifest.json"
DEV = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else []
UNREADABLE = {"chunk_out_of_range.mp4": "invalid_input", "sample_fragmented_widevine.mp4": "protected"}
CUT = {"sintel_video_frag.mp4"}  # its header promises far more than there is


@pytest.mark.timeout(600)  # one of them lasts six minutes
@pytest.mark.release
@pytest.mark.skipif(not DEV, reason="the shared media set is not here")
@pytest.mark.parametrize("entry", DEV, ids=[entry["name"] for entry in DEV])
async def test_a_real_file_goes_through_all_four_stages(entry):
    source = SHARED / "media" / "dev" / entry["name"]
    if kind := UNREADABLE.get(entry["name"]):
        with pytest.raises(TaskError) as caught:
            await ask(source, *STAGES["ingest"])
        assert caught.value.kind == kind
        return
    ingest = await ask(source, *STAGES["ingest"], task="ingest")
    url = storage.signed_url(ingest.output["name"])
    length = (
        min(float(entry["duration"]), ingest.output["duration"])
        if entry["name"] in CUT
        else float(entry["duration"])
    )
    assert abs(ingest.output["duration"] - length) < max(0.5, 0.02 * length)
    if not entry["video"]:
        for stage in ("thumbnails", "transcode"):
            with pytest.raises(TaskError, match="no video track"):
                await ask(url, *STAGES[stage], task=stage)
    else:
        width, height = map(int, entry["video"].split()[1].split("x"))
        turned = int(entry["rotation"]) % 180 == 90
        shown = ingest.output["width"] / ingest.output["height"]
        assert (shown > 1) == ((width < height) if turned else (width > height)) or abs(shown - 1) < 0.1
        transcode = (await ask(url, *STAGES["transcode"], task="transcode")).output
        found = facts(transcode)
        assert found["video"] == "h264" and found["pixels"] == "yuv420p" and found["sar"] == 1
        assert transcode["width"] == min(1280, ingest.output["width"])
        assert abs(transcode["duration"] - ingest.output["duration"]) < max(0.5, 0.02 * length)
        thumbnail = (await ask(url, *STAGES["thumbnails"], task="thumb")).output
        assert thumbnail["format"] == "webp" and thumbnail["width"] == min(640, ingest.output["width"])
        chosen = (await ask(url, "image", {"width": 320}, task="chosen")).output
        mean, spread = light(storage.path(chosen["name"]))
        assert mean > 25 or spread > 8 or mean >= light(storage.path(thumbnail["name"]))[0] - 1, (
            "a black picture"
        )
    if ingest.output["codecs"]["audio"]:
        audio = (await ask(url, *STAGES["audio"], task="audio")).output
        assert facts(audio)["audio"] in ("mp3", "mp3float")
        assert abs(loudness(storage.path(audio["name"])) - loudness(source)) < 2
    else:
        with pytest.raises(TaskError, match="no audio track"):
            await ask(url, *STAGES["audio"], task="audio")


HOSTILE = SHARED / "media" / "broken" / "gen_mal.py"
GOOD = {
    "-y.mp4",
    "base.mp4",
    "base.ts",
    "http:__x.mp4",
    "img%03d.png",
    "new\nline.mp4",
    "pipe:0.mp4",
    "ünï😀.mp4",
}
PROCESSED = GOOD | {
    "a:b|c;d $(touch x)`id`'q\".mp4",
    "dims_65000.mp4",  # its header lies, its pictures do not
    "sparse_20days.mkv",  # two pictures; the jump of the clock between them is taken out
    "tiny_1000fps.avi",
    "wav_4g_claim.wav",
    "silence_24h.flac",
}


@pytest.mark.timeout(600)  # its generator alone takes a minute on a busy machine
@pytest.mark.release
@pytest.mark.skipif(not HOSTILE.exists(), reason="the generator of hostile inputs is not here")
async def test_hostile_inputs_are_refused_with_a_sentence_and_leave_nothing(tmp_path, listener):
    port, seen = listener
    made = subprocess.run([sys.executable, HOSTILE, tmp_path / "mal", FFMPEG, str(port)], capture_output=True)
    assert made.returncode == 0, made.stderr
    refused, processed = {}, {}
    for path in sorted((tmp_path / "mal").iterdir()):
        if path.name == "silence_24h.flac":
            continue  # a day of silence is a right file, and takes minutes
        try:
            done = await ask(path, *STAGES["ingest"], task=f"m{len(refused) + len(processed)}")
            processed[path.name] = done.output["duration"]
        except TaskError as error:
            refused[path.name] = error
    assert processed.keys() <= PROCESSED and processed.keys() >= GOOD
    assert processed["sparse_20days.mkv"] == 2
    for name, error in refused.items():
        assert error.kind in ("invalid_input", "damaged", "too_large", "unsupported"), name
        assert str(error).endswith(".") and "SECRET" not in f"{error}{error.details}", name
    assert seen == []
    assert not Path("PWNED").exists()
