"""Where a film can be cut: the encoder's clock, a rate and a part are counted as FFmpeg counts them."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import av
import pytest

from mediapipe.engine.picture_times import picture_times
from mediapipe.engine.probe import OPTIONS
from mediapipe.engine.seams import Asked, encoded, nearest, rate_of, scaled
from tests.support.engine import ffmpeg

MOST = 1e-6
AS_FINE = ["-fps_mode", "passthrough", "-enc_time_base", "1/1000"]


def times(path) -> list[float]:
    with av.open(str(path)) as container:
        return sorted(float(each.pts * each.time_base) for each in container.demux(video=0) if each.size)


@pytest.mark.parametrize(
    "moved",
    [
        "N+0.48+0.12*sin(N*2.1)",  # to and fro about the middle between two turns
        "N+0.3+0.2*sin(N/3)",
        "N+0.45*gte(mod(N,50),7)+0.2*sin(N*1.3)",
        "0.996*N+0.25",  # ever earlier
        "N+3*gte(N,60)-0.4*eq(mod(N,9),4)",
    ],
)
def test_an_encoder_has_the_pictures_of_a_restless_film_when_it_is_said_to(tmp_path, moved):
    """Its clock is as coarse as the film's rate: it moves on what would come upon the picture before."""
    film, made = tmp_path / "film.mkv", tmp_path / "made.mp4"
    drawn = f"color=s=32x32:r=25:d=8,settb=1/1000,setpts='({moved})/25/TB'"
    ffmpeg("-f", "lavfi", "-i", drawn, *AS_FINE, "-c:v", "ffv1", film)
    ffmpeg("-i", film, "-fps_mode", "vfr", "-c:v", "mpeg4", made)
    with av.open(str(film)) as container:
        rate = container.streams.video[0].guessed_rate
    placed, own = encoded(times(film), rate)
    assert placed == pytest.approx(times(made), abs=MOST)
    alone = [at for at, known in zip(times(film), own, strict=True) if known]
    assert len(alone) > 50 and all(abs(round(at * rate) - at * rate) <= 0.5 for at in alone)


def test_a_film_is_cut_where_its_encoder_has_a_keyframe(tmp_path):
    """At the first picture of each two seconds; behind a gap of several it owes some keyframes before."""
    film = tmp_path / "film.mp4"
    gap = "select='not(between(t,3.9,8.5))*not(between(t,12,12.3))'"
    ffmpeg("-f", "lavfi", "-i", "color=s=32x32:r=25:d=16", "-vf", gap, "-fps_mode", "vfr", film)
    cuts = picture_times(str(film), OPTIONS, {"video": 0, "grid": 2.0, "rounds": True})["cuts"]
    assert [each["first"] for each in cuts] == pytest.approx([2.0, 8.6, 10.0, 12.32, 14.0], abs=MOST)
    assert [each["late"] for each in cuts] == pytest.approx([0, 0.6, 0, 0.32, 0], abs=MOST)
    assert all(one["before"] < other["before"] for one, other in pairwise(cuts))


@pytest.mark.parametrize("rate", [12, 23.976, 50, 7.5])
def test_pictures_at_a_rate_are_counted_as_they_are_made(tmp_path, rate):
    """Each place of the grid lies at the picture that has a keyframe, and shows the latest of the source."""
    film, made = tmp_path / "film.mp4", tmp_path / "made.mp4"
    uneven = ["-vf", "select='not(eq(mod(n,7),2))*gte(t,0.3)'", "-fps_mode", "vfr"]
    ffmpeg("-f", "lavfi", "-i", "color=s=32x32:r=30:d=9", *uneven, film)
    ffmpeg("-i", film, "-vf", f"fps={rate:g}", "-force_key_frames", "expr:gte(t,n_forced*2)", made)
    found = picture_times(str(film), OPTIONS, {"video": 0, "grid": 2.0, "rate": rate, "lead_in": 1.0})
    shown = times(made)
    assert abs(found["count"] - len(shown)) <= found["slack"] <= 4
    assert [shown[each["before"]] - shown[0] for each in found["cuts"]] == pytest.approx(
        [each["first"] - found["first"] for each in found["cuts"]], abs=MOST
    )
    assert all(each["first"] - each["joint"] < 0.2 and each["read"] < each["joint"] for each in found["cuts"])


def test_a_part_is_counted_from_where_it_begins(tmp_path):
    film = tmp_path / "film.mkv"
    ffmpeg("-f", "lavfi", "-i", "color=s=32x32:r=25:d=9", film)
    asked = {"video": 0, "grid": 2.0, "begins": 1.23, "lasts": 5.0, "rounds": True}
    found = picture_times(str(film), OPTIONS, asked)
    assert (found["count"], found["first"]) == (125, pytest.approx(0.01)) and found["origin"] == 1_230_000
    assert 4.97 < found["end"] < 5.01 and [each["before"] for each in found["cuts"]] == [50, 100]


def test_a_half_goes_away_from_zero_and_a_rate_is_a_fraction():
    assert [nearest(Fraction(each, 2)) for each in (-3, -1, 1, 3, 4)] == [-2, -1, 1, 2, 2]
    assert scaled([-3, -1, 1, 3, 4], Fraction(1, 2)) == [-2, -1, 1, 2, 2]
    assert (rate_of(23.976), rate_of(25.0)) == (Fraction(2997, 125), 25)
    assert Asked(0, 2.0).longest > 1e9
