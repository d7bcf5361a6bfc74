"""A check finds what is wrong in an output and its source hasn't, and tells of the rest as information."""

from __future__ import annotations

import json

import pytest

from mediapipe import storage
from tests.support.engine import STAGES, X264, ask
from tests.support.environment import SHARED
from tests.support.tiers import further
from tests.test_engine_shared import CUT, DEV, UNREADABLE

pytestmark = pytest.mark.anyio
# Moving, with cuts, and a sound that comes and goes with its own course: what people film.
FILM = (
    "testsrc2=s=320x180:r=25:d=24,hue=h='90*floor(random(0)*4)':s=1,"
    "drawbox=enable='lt(random(1),0.03)':c=white:t=fill"
)
TALK = "aevalsrc='0.5*(random(0)-0.5)*gt(sin(2*PI*t*0.37)*sin(2*PI*t*1.13)+0.4*sin(2*PI*t*2.9),0)':d=24"

MUSIC = (
    "aevalsrc='0.3*sin(2*PI*220*t*(1+floor(2*t)/8))+0.3*sin(2*PI*331*t)*sin(2*PI*t/3)"
    "+0.2*sin(2*PI*1760*t)*exp(-mod(t,0.5)*8)|0.3*sin(2*PI*220*t)+0.3*sin(2*PI*447*t)':d=14"
)


@pytest.fixture(scope="module")
def film(made):
    return made("film.mp4", "-f", "lavfi", "-i", FILM, "-f", "lavfi", "-i", TALK, *X264, "-c:a", "aac")


async def found(source, task: str, **outputs) -> list[dict]:
    """What a check of these files says that a person should look at."""
    names = {}
    for name, path in outputs.items():
        names[name] = f"outputs/{task}-{name}{path.suffix}"
        target = storage.path(names[name])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    links = {name: storage.signed_url(stored) for name, stored in names.items()}
    done = await ask(source, "check", {"outputs": links}, task=task)
    told = json.loads(storage.path(done.output["name"]).read_text())
    assert told["findings"] == done.output["findings"]
    return done.output["findings"]


WORSE = (
    "drawbox=enable='between(t,2,5)':c=black:t=fill,loop=loop=75:size=1:start=200,setpts=N/25/TB",
    "volume=enable='between(t,12,15)':volume=0,volume=enable='between(t,5,9)':volume=30dB",
)


async def test_what_is_wrong_in_an_output_alone_is_found_where_it_is(made, film):
    picture, sound = WORSE
    wrong = made("wrong.mp4", "-i", film, "-vf", picture, "-af", sound, *X264, "-t", "24")
    told = [each for each in await found(film, "wrong", transcode=wrong) if each["look"]]
    at = {each["what"]: [round(each[edge] or 0) for edge in ("start", "end")] for each in told}
    assert at["black"] == [2, 5] and at["frozen"] == [8, 11] and at["silent"] == [12, 15]
    assert 5 <= at["clipped"][0] <= 6 and at["clipped"][1] <= 10
    assert set(at) == {"black", "frozen", "silent", "clipped", "loudness", "quality"}
    assert {each["output"] for each in told} == {"transcode"}


async def test_an_output_that_is_poor_quiet_and_short_is_found_to_be_so(made, film):
    small = "scale=40:-2,scale=320:180"
    poor = made("poor.mp4", "-i", film, "-vf", small, "-af", "volume=-9dB", *X264, "-t", "18")
    told = [each for each in await found(film, "poor", transcode=poor) if each["look"]]
    assert {each["what"] for each in told} == {"loudness", "quality", "length"}


async def test_other_colours_are_found_though_the_picture_is_as_sharp(made, film):
    wrong = made("colours.mp4", "-i", film, "-vf", "hue=h=120", *X264, "-c:a", "copy")
    told = [each for each in await found(film, "colours", transcode=wrong) if each["look"]]
    assert [each["what"] for each in told] == ["colours"]


@pytest.mark.parametrize("seconds", [0.4, further(-0.4)])
async def test_sound_and_picture_that_are_out_of_step_are_found(made, film, seconds):
    offset = ["-itsoffset", seconds, "-i", film, "-i", film] if seconds > 0 else ["-i", film]
    offset += ["-map", "1:v", "-map", "0:a"] if seconds > 0 else ["-itsoffset", -seconds, "-i", film]
    offset += [] if seconds > 0 else ["-map", "1:v", "-map", "0:a"]
    apart = made(f"step{seconds}.mp4", *offset, "-c", "copy")
    told = [each for each in await found(film, f"step{seconds}", transcode=apart) if each["look"]]
    assert [each["what"] for each in told] == ["step"], told
    assert told[0]["text"] == f"sound 0.4 s {'late' if seconds > 0 else 'early'}"


@pytest.mark.parametrize(
    ("shorter", "says"),
    [
        (["-af", "atrim=end=20", "-c:a", "aac"], "sound ends at 0:20, the source’s at 0:24"),
        (["-vf", "trim=end=20", "-c:a", "aac"], "picture ends at 0:20, the source’s at 0:24"),
        (["-an"], "no sound, and the source has some"),
    ],
)
async def test_a_track_that_ends_early_or_is_missing_is_found(made, film, shorter, says):
    wrong = made(f"{says[:8]}.mp4", "-i", film, *shorter, *X264)
    told = [each for each in await found(film, "ends", transcode=wrong) if each["look"]]
    assert [each["text"] for each in told] == [says]
    assert told[0]["start"] == (20.0 if "20" in says else None)


async def test_what_is_cut_off_in_the_source_is_no_clipping_of_ours(made):
    """An encoder makes other samples of it, and more of them reach full scale."""
    clipped = ["-f", "lavfi", "-i", MUSIC, "-af", "volume=14dB,aformat=s16"]
    source = made("loud.m4a", *clipped, "-c:a", "aac", "-t", "12")
    same = made("loud.mp3", "-i", source, "-c:a", "libmp3lame", "-q:a", "2")
    told = await found(source, "loud", audio=same)
    assert [each for each in told if each["look"]] == []
    assert any(each["what"] == "clipped" for each in told)


@pytest.mark.release
async def test_what_the_source_is_like_as_well_is_information(made, film):
    worst = ["-vf", "drawbox=enable='between(t,4,9)':c=black:t=fill", *X264]
    worst += ["-af", "volume=enable='between(t,10,15)':volume=0,volume=-9dB"]
    source = made("worst.mp4", "-i", film, *worst)
    same = made("same.mp4", "-i", source, "-vf", "scale=256:-2", *X264, "-c:a", "aac")
    told = await found(source, "alike", transcode=same)
    assert [each for each in told if each["look"]] == []
    texts = " ".join(each["text"] for each in told)
    assert "black 0:04 to 0:09, as in the source" in texts and "silence 0:" in texts


async def test_an_output_that_cant_be_read_is_a_finding_and_takes_no_other_with_it(made, film, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(film.read_bytes()[:9000])
    told = await found(film, "broken", ingest=broken, transcode=film)
    assert [(each["output"], each["what"]) for each in told if each["look"]] == [("ingest", "unreadable")]
    assert any(each["output"] == "transcode" for each in told)


@pytest.mark.timeout(900)
@pytest.mark.release
@pytest.mark.skipif(not DEV, reason="the shared media set is not here")
@pytest.mark.parametrize("name", sorted({each["name"] for each in DEV} - set(UNREADABLE) - CUT))
async def test_nothing_of_ours_is_flagged_in_a_real_file(name):
    source = SHARED / "media" / "dev" / name
    ingest = (await ask(source, *STAGES["ingest"], task="ingest")).output
    made = {"ingest": ingest}
    for stage, track in (("audio", "audio"), ("transcode", "video")):
        if ingest["codecs"][track]:
            url = storage.signed_url(ingest["name"])
            made[stage] = (await ask(url, *STAGES[stage], task=stage)).output
    links = {stage: storage.signed_url(output["name"]) for stage, output in made.items()}
    done = await ask(source, "check", {"outputs": links}, task="checked")
    print(json.dumps(json.loads(storage.path(done.output["name"]).read_text())))
    assert [each for each in done.output["findings"] if each["look"]] == []
