"""What FFmpeg's own filters found in a file, read from its log: stretches, loudness, clipping, quality. Pure.

It knows the filters by the names that FFmpeg writes before their lines, and judges nothing (findings.py).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

Stretch = tuple[float, float]  # seconds from the file's start

MAX_STRETCHES = 1000  # stretches of a kind that are kept of one file
CLIPPED = 0.012  # share of a second's samples at full scale: a pure tone that just reaches it has 0.011
LOOSELY = 0.25  # of that in a source: what is cut off there comes out of an encoder with more of it
FULL_SCALE = -0.1  # dBFS
FILTER_LINE = re.compile(r"\[Parsed_(\w+?)_\d+ @ [^\]]*\] (?:\[\w+\] )?(.*)")
NUMBER = r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
BLACK = re.compile(rf"black_start:{NUMBER} black_end:{NUMBER}")
STRETCH_EDGE = re.compile(rf"(?:lavfi\.freezedetect\.)?(?:freeze|silence)_(start|end): {NUMBER}")
MOMENT = re.compile(rf"pts_time:{NUMBER}")
ASTATS = "lavfi.astats.Overall."
INTEGRATED = re.compile(rf"I: +{NUMBER} LUFS")
SAMPLE_PEAK = re.compile(rf"Peak: +{NUMBER} dBFS")
VMAF = re.compile(rf"VMAF score: {NUMBER}")
SSIM = re.compile(rf"All:{NUMBER}")
COLOURS = re.compile(rf"PSNR y:\S+ u:(inf|{NUMBER}) v:(inf|{NUMBER})")


@dataclass
class Measures:
    """What was found in one file."""

    black: list[Stretch] = field(default_factory=list)
    frozen: list[Stretch] = field(default_factory=list)
    silent: list[Stretch] = field(default_factory=list)
    clipped: list[Stretch] = field(default_factory=list)
    loudness: float | None = None  # LUFS over the whole; None where too little was heard
    peak: float | None = None  # dBFS
    score: float | None = None  # quality against another file: VMAF 0 to 100, SSIM 0 to 1
    colours: float | None = None  # how like another file's its colours are: PSNR, at most 100 dB
    ended: float = 0.0  # seconds of it that were read; 0: nobody knows
    begun: dict[str, float] = field(default_factory=dict)  # stretches that have not ended yet
    moment: float = 0.0  # the second of sound that is reported
    full: float = -1.0  # the last one that reaches full scale
    summing: bool = False

    def line(self, text: str) -> None:
        """One line of the log."""
        said = FILTER_LINE.match(text)
        if said is None:
            if self.summing:
                self._loudness(text)
            return
        self.summing = said[1] == "ebur128" and said[2].startswith("Summary")
        if read := READERS.get(said[1]):
            read(self, said[2])

    def close(self, seconds: float) -> None:
        """The file has ended after so many *seconds*, and with it what was still going on."""
        for filter_name, start in self.begun.items():
            if seconds > start:
                self._add(getattr(self, EDGES[filter_name]), start, seconds)
        self.begun.clear()

    @staticmethod
    def _add(stretches: list[Stretch], start: float, end: float) -> None:
        if len(stretches) < MAX_STRETCHES:
            stretches.append((max(0.0, start), end))

    def _black(self, text: str) -> None:
        if found := BLACK.search(text):
            self._add(self.black, float(found[1]), float(found[2]))

    def _frozen(self, text: str) -> None:
        self._edge("freezedetect", text)

    def _silent(self, text: str) -> None:
        self._edge("silencedetect", text)

    def _edge(self, filter_name: str, text: str) -> None:
        if not (found := STRETCH_EDGE.search(text)):
            return
        if found[1] == "start":
            self.begun[filter_name] = float(found[2])
        elif (start := self.begun.pop(filter_name, None)) is not None:
            self._add(getattr(self, EDGES[filter_name]), start, float(found[2]))

    def _clipped(self, text: str) -> None:
        """A second is clipped that reaches full scale, and has many samples there: both are reported then."""
        if found := MOMENT.search(text):
            self.moment = float(found[1])
        elif text.startswith(f"{ASTATS}Peak_level"):
            self.full = self.moment
        elif text.startswith(f"{ASTATS}Peak_count") and self.full == self.moment:
            if self.clipped and self.moment - self.clipped[-1][1] < 0.5:
                self.clipped[-1] = (self.clipped[-1][0], self.moment + 1)
            else:
                self._add(self.clipped, self.moment, self.moment + 1)

    def _loudness(self, text: str) -> None:
        if found := INTEGRATED.search(text):
            self.loudness = float(found[1]) if float(found[1]) > -70 else None  # the gate: nothing is louder
        elif found := SAMPLE_PEAK.search(text):
            self.peak = float(found[1])

    def _score(self, text: str) -> None:
        if found := VMAF.search(text) or SSIM.search(text):
            self.score = float(found[1]) if math.isfinite(float(found[1])) else None

    def _colours(self, text: str) -> None:
        if found := COLOURS.search(text):
            self.colours = min(100.0, float(found[1]), float(found[3]))


EDGES = {"freezedetect": "frozen", "silencedetect": "silent"}
READERS = {
    "blackdetect": Measures._black,
    "freezedetect": Measures._frozen,
    "silencedetect": Measures._silent,
    "ametadata": Measures._clipped,
    "libvmaf": Measures._score,
    "ssim": Measures._score,
    "psnr": Measures._colours,
}


def picture_filters(*, loose: bool = False, least: float = 2.0) -> str:
    """Filters that find black and frozen stretches of *least* seconds in a small copy of the picture.

    *loose*: with room for what an encoder changes, to ask whether the source is like that as well.
    """
    pixel, share, still = ("0.15", "0.9", "0.004") if loose else ("0.1", "0.98", "0.001")
    black = f"blackdetect=d={least:g}:pix_th={pixel}:pic_th={share}"
    return f"scale=160:90:flags=fast_bilinear,format=yuv420p,{black},freezedetect=n={still}:d={least:g}"


def colour_filters(sync: str) -> str:
    """Filters that compare the colours of [ours] and [theirs], small, and hand both on as [a] and [b]."""
    small = "scale=64:36:flags=area:out_color_matrix=bt709:out_range=tv,format=yuv444p"
    copies = "[ours]split[a][c];[theirs]split[b][d]"
    return f"{copies};[c]{small}[e];[d]{small}[f];[e][f]psnr={sync},nullsink"


def sound_filters(rate: int, channels: int, *, loose: bool = False, least: float = 2.0) -> str:
    """Filters that find silent stretches and clipped seconds, and measure the loudness (EBU R 128).

    *loose*: with room for what an encoder changes, to ask whether the source is like that as well.
    """
    fold = "aformat=channel_layouts=stereo," if channels > 2 else ""
    silence = f"silencedetect=n={'-50' if loose else '-60'}dB:d={least:g}"
    overall = "measure_perchannel=none:measure_overall=Peak_level+Peak_count"
    seconds = f"asetnsamples=n={rate}:p=0,astats=metadata=1:reset=1:{overall}"
    above = "ametadata=mode=print:function=greater:key="
    most = CLIPPED * rate * (LOOSELY if loose else 1)
    peaks = f"{above}{ASTATS}Peak_level:value={FULL_SCALE},{above}{ASTATS}Peak_count:value={most:g}"
    measured = f"{silence},ebur128=framelog=quiet:peak=sample"
    # in 16 bits all that goes beyond full scale ends there, as it does where it is played
    return f"aresample=async=1:first_pts=0,{fold}{measured},aformat=sample_fmts=s16,{seconds},{peaks}"
