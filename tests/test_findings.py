"""What FFmpeg's filters say becomes measures, and measures of two files what a person should look at."""

from __future__ import annotations

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from mediapipe.engine import findings, instep
from mediapipe.engine.instep import Place
from mediapipe.engine.measures import Measures

LOG = """
[Parsed_blackdetect_2 @ 0x7f] [info] black_start:4 black_end:7.033333 black_duration:3.033333
[Parsed_freezedetect_3 @ 0x7f] [info] lavfi.freezedetect.freeze_start: 9.966667
[Parsed_freezedetect_3 @ 0x7f] [info] lavfi.freezedetect.freeze_duration: 4.033333
[Parsed_freezedetect_3 @ 0x7f] [info] lavfi.freezedetect.freeze_end: 14
[Parsed_silencedetect_1 @ 0x7f] [info] silence_start: -0.021333
[Parsed_silencedetect_1 @ 0x7f] [info] silence_end: 3.5 | silence_duration: 3.52
[Parsed_ametadata_6 @ 0x7f] [info] frame:5    pts:240000  pts_time:5
[Parsed_ametadata_6 @ 0x7f] [info] lavfi.astats.Overall.Peak_level=0.000265
[Parsed_ametadata_7 @ 0x7f] [info] frame:5    pts:240000  pts_time:5
[Parsed_ametadata_7 @ 0x7f] [info] lavfi.astats.Overall.Peak_count=2310.000000
[Parsed_ametadata_7 @ 0x7f] [info] frame:9    pts:432000  pts_time:9
[Parsed_ametadata_7 @ 0x7f] [info] lavfi.astats.Overall.Peak_count=48000.000000
[Parsed_freezedetect_3 @ 0x7f] [info] lavfi.freezedetect.freeze_start: 18
[Parsed_ebur128_2 @ 0x7f] [info] Summary:

  Integrated loudness:
    I:         -31.4 LUFS
    Threshold: -41.9 LUFS

  Sample peak:
    Peak:      -14.6 dBFS
[Parsed_libvmaf_2 @ 0x7f] [info] VMAF score: 99.360968
[Parsed_psnr_9 @ 0x7f] [info] PSNR y:33.1 u:21.425311 v:inf average:32.5 min:30.1 max:inf
"""


def measured(log: str) -> Measures:
    found = Measures()
    for line in log.splitlines():
        found.line(line.strip())
    found.close(20)
    return found


def test_the_log_of_the_filters_is_read():
    found = measured(LOG)
    assert found.black == [(4, 7.033333)]
    assert found.frozen == [(9.966667, 14), (18, 20)]  # the last one lasted to the end
    assert found.silent == [(0, 3.5)]
    assert found.clipped == [(5, 6)]  # a quiet square wave has many peaks too, at second 9
    assert (found.loudness, found.peak, found.score) == (-31.4, -14.6, 99.360968)
    assert found.colours == 21.425311


def test_a_file_cant_say_by_its_tags_what_only_a_filter_says():
    found = measured(
        "[info]  title : black_start:4 black_end:7\n[info] silence_start: 1\n[info] I: -3 LUFS\nVMAF score: 3"
    )
    assert found == Measures()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(LOG.splitlines()) | st.text(max_size=60), max_size=30))
def test_whatever_a_log_says_stretches_lie_in_the_file(lines):
    found = measured("\n".join(lines))
    for start, end in (*found.black, *found.frozen, *found.silent, *found.clipped):
        assert 0 <= start <= end or start <= 20


def told(*stretches, source=()):
    return [(each.text, each.look) for each in findings.of_stretches("x", "silent", stretches, source)]


def test_a_stretch_is_a_defect_unless_the_source_is_alike():
    assert told((192, 220)) == [("silence 3:12 to 3:40", True)]
    assert told((192, 220), source=[(192.4, 219)]) == [("silence 3:12 to 3:40, as in the source", False)]
    assert told((192, 220), source=[(180, 200)]) == [("silence 3:12 to 3:40", True)]
    assert told((192, 220), source=[(190, 206), (206.5, 230)])[0][1] is False  # a click in between


def test_stretches_that_touch_are_one_and_of_many_the_longest_are_told():
    assert told((1, 4), (4.3, 9)) == [("silence 0:01 to 0:09", True)]
    many = told(*((at * 10, at * 10 + 2 + at / 10) for at in range(12)))
    assert len(many) == findings.MAX_FINDINGS + 1 and many[-1] == ("4 more of silence, shorter ones", True)


def test_what_is_black_is_not_frozen_as_well():
    assert findings.without([(4, 20)], [(6, 10)], least=2) == [(4, 6), (10, 20)]
    assert findings.without([(4, 10)], [(3, 9)], least=2) == []


def test_loudness_is_looked_at_where_it_is_not_the_sources():
    assert [(each.text, each.look) for each in findings.of_loudness("x", -31.2, -31.9)] == [
        ("loudness −31 LUFS", False)
    ]
    assert [(each.text, each.look) for each in findings.of_loudness("x", -31.2, -23)] == [
        ("loudness −31 LUFS, the source has −23", True)
    ]
    assert findings.of_loudness("x", None, -23) == []


def test_the_worst_sample_says_whether_a_picture_is_poor():
    fine = findings.of_quality("x", "VMAF", [(4, 95), (8, 91)])
    assert [(each.text, each.look) for each in fine] == [("VMAF 93 against the source", False)]
    poor = findings.of_quality("x", "SSIM", [(4, 0.98), (68, 0.7)])
    assert [(each.text, each.start) for each in poor] == [("poor picture at 1:08: SSIM 0.70", 68)]


def test_other_colours_in_most_samples_are_a_finding():
    assert findings.of_colours("x", [38, 21, 41]) == findings.of_colours("x", []) == []
    assert [each.look for each in findings.of_colours("x", [18, 21, 41])] == [True]


def test_out_of_step_is_what_the_sound_is_late_by_beside_the_picture():
    both_late = findings.of_steps("x", [Place(3, 0.5, 0.48), Place(30, 0.52, 0.48)])
    assert both_late == []
    (drifting,) = findings.of_steps("x", [Place(3, 0.0, 0.0), Place(30, -0.3, 0.04), Place(60, None, 0.0)])
    assert (drifting.text, drifting.start, drifting.look) == ("sound 0.3 s early", 30, True)
    (unknown,) = findings.of_steps("x", [Place(3, None, 0.0)])
    assert not unknown.look and "couldn’t be measured" in unknown.text


def test_an_output_may_lack_a_moment_and_no_more():
    assert findings.of_length("x", 59.6, 60) == [] == findings.of_length("x", 60, 0)
    assert findings.of_length("x", 40, 60)[0].text == "ends at 0:40, the source at 1:00"


def course(seconds: int, per_second: int, seed: int = 7) -> list[float]:
    rolled = random.Random(seed)
    return [rolled.random() * 100 for _ in range(seconds * per_second)]


def test_a_course_that_fits_as_well_at_once_isnt_moved_by_a_picture():
    """A film that moves evenly fits about as well a picture later: which is the best is chance."""
    slow = [300 + 200 * math.sin(number / 12) for number in range(125)]
    for seed in range(20):
        noise = course(10, 25, seed)
        ours, theirs = (
            [a + b for a, b in zip(slow, each, strict=True)] for each in (noise[:125], noise[125:])
        )
        assert instep.later(ours, theirs, 25) in (None, 0)


def test_how_much_later_a_course_comes_is_read_from_it():
    whole = course(20, 50)
    assert instep.later(whole[100:600], whole[120:620], 50) == 0.4
    assert instep.later(whole[120:620], whole[100:600], 50) == -0.4
    assert instep.later([value * 3 + 5 for value in whole], whole, 50) == 0


def test_a_course_that_says_nothing_is_not_compared():
    still, wave = [3.0] * 500, [math.sin(at / 4) for at in range(500)]
    for ours, theirs in ((still, still), (wave, wave), (course(10, 50), course(10, 50, seed=8)), ([], [])):
        assert instep.later(ours, theirs, 50) is None


def test_courses_are_made_of_samples_and_of_pictures():
    loud = (1000).to_bytes(2, "little", signed=True) * (instep.RATE // instep.BINS)
    assert instep.loudness_course(bytes(len(loud)) + loud + b"\1") == [0, 80000]
    dots = instep.SIDE**2
    assert instep.movement_course(bytes(dots) + b"\2" * dots + b"\2" * dots) == [2 * dots, 0]
