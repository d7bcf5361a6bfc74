"""What a person should look at in an output, from measures of it and of its source. Pure.

What the source is like as well is no defect of ours: it is said, as information. It knows no FFmpeg.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from mediapipe.engine.instep import Place
from mediapipe.engine.measures import Stretch
from mediapipe.engine.timecode import timecode

MIN_OVERLAP = 0.9  # share of a stretch that the source must be alike in
MAX_EXCESS = 0.5  # seconds by which a stretch may be longer than its source's
MAX_FINDINGS = 8  # of each kind, the longest: more tell a person nothing new
MAX_LOUDNESS_SHIFT = 2.0  # LU from its source, from which on an output sounds changed
OUT_OF_STEP = 0.1  # seconds: the measure's own steps are 0.04; lips are seen to be late from 0.06 on
MAX_MISSING = 0.5  # seconds, and a fiftieth of the length, that an output may lack
OTHER_COLOURS = 24.0  # dB: a small picture's colours in order have 35 and more
MIN_QUALITY = {"VMAF": 30.0, "SSIM": 0.8}  # of a sample; a noisy film that is fine but for its noise has 38
NAMES = {"black": "black", "frozen": "frozen picture", "silent": "silence", "clipped": "clipping"}


@dataclass(frozen=True)
class Finding:
    """One thing about an output; *look*: whether a person should look at it, else it is information.

    *start* and *end* in seconds; None for what is so over its whole length.
    """

    output: str
    what: str
    text: str
    look: bool = True
    start: float | None = None
    end: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For the API."""
        return asdict(self)


def merged(stretches: Iterable[Stretch], gap: float = MAX_EXCESS) -> list[Stretch]:
    """The same stretches in order, those that all but touch as one."""
    whole: list[Stretch] = []
    for start, end in sorted(stretches):
        if whole and start - whole[-1][1] <= gap:
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]))
        else:
            whole.append((start, end))
    return whole


def without(stretches: Iterable[Stretch], others: Sequence[Stretch], least: float) -> list[Stretch]:
    """What of *stretches* lies in none of *others*, where that is *least* seconds or more."""
    left: list[Stretch] = []
    for start, end in stretches:
        at = start
        for other_start, other_end in merged(others):
            if other_end <= at or other_start >= end:
                continue
            left.append((at, other_start))
            at = max(at, other_end)
        left.append((at, end))
    return [(start, end) for start, end in left if end - start >= least]


def is_alike(stretch: Stretch, source: Sequence[Stretch]) -> bool:
    """Whether the source has the same *stretch*, all but a little of it."""
    start, end = stretch
    shared = sum(
        max(0.0, min(end, other_end + MAX_EXCESS) - max(start, other_start - MAX_EXCESS))
        for other_start, other_end in merged(source, 2 * MAX_EXCESS)
    )
    return shared >= MIN_OVERLAP * (end - start)


def of_stretches(output: str, what: str, ours: Sequence[Stretch], source: Sequence[Stretch]) -> list[Finding]:
    """The stretches of a kind, the longest of them, in their order."""
    found = merged(ours)
    kept = sorted(sorted(found, key=lambda each: each[0] - each[1])[:MAX_FINDINGS])
    findings = [_stretch(output, what, each, is_alike(each, source)) for each in kept]
    if len(found) > MAX_FINDINGS:
        more = f"{len(found) - MAX_FINDINGS} more of {NAMES[what]}, shorter ones"
        findings.append(Finding(output, what, more, any(each.look for each in findings)))
    return findings


def _stretch(output: str, what: str, stretch: Stretch, alike: bool) -> Finding:
    start, end = stretch
    text = f"{NAMES[what]} {timecode(start)} to {timecode(end)}" + (", as in the source" if alike else "")
    return Finding(output, what, text, not alike, round(start, 2), round(end, 2))


def of_loudness(output: str, ours: float | None, source: float | None) -> list[Finding]:
    """The loudness, and whether it is another one than the source's. None: too little is heard."""
    if ours is None:
        return []
    text = f"loudness {_lufs(ours)} LUFS"
    if source is None or abs(ours - source) < MAX_LOUDNESS_SHIFT:
        return [Finding(output, "loudness", text, look=False)]
    return [Finding(output, "loudness", f"{text}, the source has {_lufs(source)}")]


def _lufs(value: float) -> str:
    return f"{value:.0f}".replace("-", "−")


def of_quality(output: str, scale: str, scores: Sequence[tuple[float, float]]) -> list[Finding]:
    """The quality by samples, each its second and its score on *scale*; the worst is what a person sees."""
    if not scores:
        return []
    digits = 0 if scale == "VMAF" else 2
    mean = sum(score for _, score in scores) / len(scores)
    worst_at, worst = min(scores, key=lambda each: each[1])
    if worst < MIN_QUALITY[scale]:
        text = f"poor picture at {timecode(worst_at)}: {scale} {worst:.{digits}f}"
        return [Finding(output, "quality", text, start=worst_at)]
    return [Finding(output, "quality", f"{scale} {mean:.{digits}f} against the source", look=False)]


def of_colours(output: str, likeness: Sequence[float]) -> list[Finding]:
    """Whether the colours of most samples are others than the source's; *likeness* as PSNR."""
    if not likeness or median(likeness) >= OTHER_COLOURS:
        return []
    return [Finding(output, "colours", "other colours than the source’s")]


def of_steps(output: str, places: Sequence[Place]) -> list[Finding]:
    """Whether sound and picture are as far apart as in the source; the worst place where they aren't."""
    measured = [(place, place.apart) for place in places if place.apart is not None]
    if not measured:
        text = "whether sound and picture are in step couldn’t be measured: too little changes, or too much"
        return [Finding(output, "step", text, look=False)]
    place, apart = max(measured, key=lambda each: abs(each[1]))
    if abs(apart) < OUT_OF_STEP:
        return []
    when = "late" if apart > 0 else "early"
    return [Finding(output, "step", f"sound {abs(apart):.1f} s {when}", start=round(place.start, 2))]


def of_length(output: str, ours: float, source: float) -> list[Finding]:
    """Whether an output ends before its source; lengths in seconds, 0 where one isn't known."""
    missing = source - ours
    if not ours or not source or missing <= max(MAX_MISSING, source / 50):
        return []
    return [
        Finding(output, "length", f"ends at {timecode(ours)}, the source at {timecode(source)}", start=ours)
    ]


def of_end(output: str, what: str, ours: float, source: float, whole: float) -> list[Finding]:
    """Whether a track of an output ends before its source's, and before the output; 0: nobody knows.

    *what*: "sound" or "picture"; all ends in seconds.
    """
    least = max(MAX_MISSING, source / 50)
    if not ours or source - ours <= least or whole - ours <= least:
        return []
    text = f"{what} ends at {timecode(ours)}, the source’s at {timecode(source)}"
    return [Finding(output, "length", text, start=round(ours, 2))]
