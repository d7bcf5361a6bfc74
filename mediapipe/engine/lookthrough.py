"""Looks through an output and compares it with its source: FFmpeg's runs, their measures, what they mean.

It knows files and FFmpeg, and neither tasks nor storage.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from mediapipe.engine import encode, findings, instep, measures
from mediapipe.engine.arguments import even, filters
from mediapipe.engine.encode import ReportProgress
from mediapipe.engine.errors import TaskError
from mediapipe.engine.findings import Finding
from mediapipe.engine.instep import Place
from mediapipe.engine.listening import File, Listening
from mediapipe.engine.measures import Measures, Stretch
from mediapipe.engine.media import Video

QUALITY_AT = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the length
QUALITY_SECONDS = 1.5
QUALITY_LINES = 1080  # of the short side, at most: larger pictures are compared smaller
STEPS_AT = (0.05, 0.5, 0.9)
STEP_SECONDS = 12.0
SOURCE_SECONDS = 60.0  # of a stretch that are looked at in the source, at most
SOUND = 10.0  # times as fast sound is read as a picture
SAMPLES = 20.0  # what a file's samples cost, in seconds of film


@cache
def scale() -> str:
    """How quality is measured: by VMAF where the FFmpeg that is installed has it, else by SSIM."""
    listed = subprocess.run(
        [encode.ffmpeg_path(), "-hide_banner", "-filters"], capture_output=True, text=True, timeout=30
    )
    return "VMAF" if " libvmaf " in listed.stdout else "SSIM"


@dataclass
class Report:
    """What was found out about one output."""

    findings: list[Finding] = field(default_factory=list)
    loudness: float | None = None
    peak: float | None = None
    scores: list[tuple[float, float]] = field(default_factory=list)
    colours: list[float] = field(default_factory=list)  # PSNR
    places: list[Place] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the report's file."""
        quality = {"scale": scale(), "samples": self.scores} if self.scores else None
        steps = [{"start": place.start, "sound_later": place.apart} for place in self.places]
        return {"loudness": self.loudness, "peak": self.peak, "quality": quality, "steps": steps}


class Lookthrough:
    """Looks through the outputs of one *source*, each of whose parts is looked at only once."""

    def __init__(self, source: File, outputs: Sequence[File], folder: Path, report: ReportProgress) -> None:
        self.source = source
        self.folder = folder
        whole = sum(each.seconds + SAMPLES for each in outputs) + source.seconds / SOUND
        self.ffmpeg = Listening(folder, whole, report)
        self._sound: Measures | None = None
        self._stretches: dict[Stretch, Measures] = {}
        self._courses: dict[float, tuple[list[float], list[float]]] = {}

    async def through(self, output: File) -> Report:
        """What is to be said of *output*. Raises TaskError where it can't be read to its end."""
        report = Report()
        begun = self.ffmpeg.done
        found = await self._measured(output)
        self.ffmpeg.done += output.seconds
        report.loudness = found.loudness
        report.peak = found.peak
        report.findings += findings.of_length(output.name, output.seconds, self._length(output))
        try:
            report.findings += await self._against_source(output, found, report)
        except TaskError as error:
            text = f"couldn’t be compared with the source: {error}"
            report.findings.append(Finding(output.name, "compared", text, look=False))
        self.ffmpeg.done = max(self.ffmpeg.done, begun + output.seconds + SAMPLES)
        return report

    def _length(self, output: File) -> float:
        """How long *output* should be: as the source, or as its sound; 0 where that isn't known."""
        sound = self.source.sound
        if self.source.media.guessed or output.film or sound is None:
            return 0.0 if self.source.media.guessed else self.source.seconds
        return sound.end or sound.duration

    async def _against_source(self, output: File, found: Measures, report: Report) -> list[Finding]:
        name = output.name
        said = await self._pictures(output, found) if output.film else []
        if output.sound:
            theirs = await self._source_sound()
            said += findings.of_stretches(name, "silent", found.silent, theirs.silent)
            said += findings.of_stretches(name, "clipped", found.clipped, theirs.clipped)
            said += findings.of_loudness(name, found.loudness, theirs.loudness)
            ours = output.sound.end or output.sound.duration
            said += findings.of_end(name, "sound", ours, theirs.ended, output.seconds)
        elif output.film and self.source.sound:
            said.append(Finding(name, "silent", "no sound, and the source has some"))
        if output.film and self.source.film:
            ours, theirs_end = (each.end or each.duration for each in (output.film, self.source.film))
            said += findings.of_end(name, "picture", ours, theirs_end, output.seconds)
            if output.sound and self.source.sound:
                moments = self._moments(STEPS_AT, STEP_SECONDS)
                report.places = [await self._place(output, at) for at in moments]
                said += findings.of_steps(name, report.places)
            lags = [place.picture for place in report.places if place.picture is not None]
            lag = median(lags) if lags else 0.0
            await self._compare_samples(output, output.film, self.source.film, lag, report)
            quality = findings.of_quality(name, scale(), report.scores)
            said += quality
            if not any(each.look for each in quality):  # what is poor has other colours, too
                said += findings.of_colours(name, report.colours)
        return said

    # --- the whole of a file ---------------------------------------------------------------------

    async def _measured(self, file: File) -> Measures:
        """Its black, frozen, silent and clipped stretches, and its loudness, all by one run."""
        graph = []
        tracks = []
        if film := file.film:
            graph.append(f"[0:{film.index}]{measures.picture_filters()}[picture]")
            tracks += ["-map", "[picture]"]
        if sound := file.sound:
            graph.append(f"[0:{sound.index}]{measures.sound_filters(sound.rate, sound.channels)}[sound]")
            tracks += ["-map", "[sound]"]
        if not graph:  # a single picture
            return Measures()
        # a small copy of a picture needs no filter for its blocks
        arguments = [
            "-skip_loop_filter:v",
            "all",
            *file.opened(),
            "-filter_complex",
            ";".join(graph),
            *tracks,
        ]
        return await self.ffmpeg.measured(arguments, [file], file.seconds)

    async def _source_sound(self) -> Measures:
        if self._sound is None:
            sound = self.source.sound
            self._sound = Measures()
            if sound:
                chain = measures.sound_filters(sound.rate, sound.channels, loose=True, least=0.5)
                arguments = [*self.source.opened(), "-map", f"0:{sound.index}", "-af", chain]
                self._sound = await self.ffmpeg.measured(
                    arguments, [self.source], self.source.seconds, share=1 / SOUND
                )
            self.ffmpeg.done += self.source.seconds / SOUND
        return self._sound

    # --- stretches of the picture ----------------------------------------------------------------

    async def _pictures(self, output: File, found: Measures) -> list[Finding]:
        frozen = findings.without(found.frozen, found.black, least=2.0)
        said = []
        for what, ours in (("black", found.black), ("frozen", frozen)):
            theirs: list[Stretch] = []
            for stretch in sorted(findings.merged(ours), key=lambda each: each[0] - each[1])[
                : findings.MAX_FINDINGS
            ]:
                source = await self._source_at(stretch)
                theirs += source.black if what == "black" else [*source.frozen, *source.black]
            said += findings.of_stretches(output.name, what, ours, theirs)
        return said

    async def _source_at(self, stretch: Stretch) -> Measures:
        """What the source's picture is like about there, in its first minute; beyond it as at its end."""
        film = self.source.film
        start = max(0.0, stretch[0] - 1)
        end = stretch[1] + 1
        if film is None:
            return Measures()
        key = (round(start), round(end))
        if key not in self._stretches:
            looked = min(end - start, SOURCE_SECONDS)
            small = filters(film, {"width": 160, "height": 90, "fit": "fill"}, rate=False)
            arguments = ["-t", f"{looked:.3f}", *self.source.opened(start), "-map", f"0:{film.index}"]
            arguments += ["-vf", f"{small},{measures.picture_filters(loose=True, least=0.5)}"]
            found = await self.ffmpeg.measured(arguments, [self.source], looked)
            last = start + looked

            def there(found: list[Stretch]) -> list[Stretch]:
                placed = [(start + a, start + b) for a, b in found]
                return [(a, end if b > last - 1 else b) for a, b in placed]

            self._stretches[key] = replace(found, black=there(found.black), frozen=there(found.frozen))
        return self._stretches[key]

    # --- samples ---------------------------------------------------------------------------------

    def _moments(self, shares: Sequence[float], seconds: float) -> list[float]:
        """Where samples of so many *seconds* begin; one alone in what isn't longer than two."""
        room = self.source.seconds - seconds
        return [round(room * share, 2) for share in shares] if room > seconds else [0.0]

    async def _compare_samples(
        self, output: File, film: Video, source: Video, lag: float, report: Report
    ) -> None:
        """Reports samples' quality and colours; *lag*: how much later the output's picture comes."""
        width, height = film.shown
        smaller = min(1.0, QUALITY_LINES / min(width, height))
        width = even(width * smaller)
        height = even(height * smaller)
        theirs = filters(source, {"width": width, "height": height, "fit": "fill"}, rate=False)
        by = "libvmaf=n_threads=2:" if scale() == "VMAF" else "ssim="
        graph = f"[0:{film.index}]scale={width}:{height}:flags=bicubic,format=yuv420p,setsar=1[ours];"
        sync = "ts_sync_mode=nearest:shortest=1"
        graph += f"[1:{source.index}]{theirs}[theirs];{measures.colour_filters(sync)};[a][b]{by}{sync}"
        for at in self._moments(QUALITY_AT, QUALITY_SECONDS):
            limit = ["-t", f"{QUALITY_SECONDS:g}"]
            here = at + max(0.0, lag)
            there = at + max(0.0, -lag)
            opened = [*limit, *output.opened(here), *limit, *self.source.opened(there)]
            arguments = [*opened, "-filter_complex", graph]
            found = await self.ffmpeg.measured(arguments, [output, self.source], QUALITY_SECONDS)
            self.ffmpeg.done += SAMPLES / (len(QUALITY_AT) + len(STEPS_AT))
            report.colours += [] if found.colours is None else [found.colours]
            if found.score is not None:
                report.scores.append((round(here, 2), round(found.score, 3)))

    async def _place(self, output: File, at: float) -> Place:
        """How much later sound and picture of *output* come there than the source's."""
        sound, moves = await self._course(output, at)
        if at not in self._courses:
            self._courses[at] = await self._course(self.source, at)
        their_sound, their_moves = self._courses[at]
        self.ffmpeg.done += SAMPLES / (len(QUALITY_AT) + len(STEPS_AT))

        def compared() -> Place:
            heard = instep.later(sound, their_sound, instep.BINS)
            return Place(at, heard, instep.later(moves, their_moves, instep.PICTURES))

        return await asyncio.to_thread(compared)

    async def _course(self, file: File, at: float) -> tuple[list[float], list[float]]:
        """How loud it is, and how much it moves, from there on."""
        assert file.film is not None
        assert file.sound is not None
        side = instep.SIDE
        small = f"fps={instep.PICTURES}:start_time=0,scale={side}:{side}:flags=area,format=gray"
        pictures = self.folder / "pictures"
        samples = self.folder / "samples"
        arguments = ["-t", f"{STEP_SECONDS:g}", *file.opened(at)]
        arguments += [
            "-map",
            f"0:{file.film.index}",
            "-vf",
            small,
            "-f",
            "rawvideo",
            "-y",
            f"file:{pictures}",
        ]
        arguments += ["-map", f"0:{file.sound.index}", "-af", "aresample=async=1:first_pts=0"]
        arguments += ["-ac", "1", "-ar", str(instep.RATE)]
        await self.ffmpeg.run(arguments, samples, ["-f", "s16le"], [file], STEP_SECONDS)

        def read() -> tuple[list[float], list[float]]:
            return instep.loudness_course(samples.read_bytes()), instep.movement_course(pictures.read_bytes())

        return await asyncio.to_thread(read)
