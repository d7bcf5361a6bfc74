"""How a file's clock runs, which only its packets show: keyframes, jumps, where it ends.

For a sandboxed child (probe.py): PyAV and the standard library.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

from mediapipe.engine.edits import REORDERED, Edits
from mediapipe.engine.same_times import SameTimes
from mediapipe.engine.survey import MIN_HELD, value

MAX_READ = 64 << 20  # bytes, in search of keyframes
MAX_SECONDS = 15.0  # of looking for jumps
JUMP = 60.0  # seconds between one picture and the next: no film stands so long, a recorder's clock was set
JUMP_OF_ALL = 10.0  # and where picture and sound do it alike
MIN_SETBACK = 0.1  # seconds by which a clock is set back
SAME_JUMP = 1.5  # seconds by which the same jump may look otherwise in another track
MAX_JUMPS = 200
# seconds between the storing of a picture and its showing: more is a mistake, but of slides
MAX_REORDER = 10.0
FASTEST = 60.5  # pictures a second that are kept
BELIEVED = 1.2  # times as quick as pictures ever come, that a container may say they do


def _seconds(ticks: int, unit: Fraction) -> float:
    """float(ticks * unit), as exact, without a Fraction for each packet."""
    return ticks * unit.numerator / unit.denominator


def longest_gap(container: Any, stream: Any, facts: dict[str, Any]) -> float:
    """Seconds between keyframes, the longest in the first minute; a day where the first is none.

    Notes whether pictures are `uneven`: some follow each other faster than the track's rate says. A rate that
    no film has (a recorder's thousand a second) becomes the one at which they come.
    """
    container.seek(0)
    times: list[float] = []
    last = origin = None
    longest = 0.0
    read = 0
    for packet in container.demux(stream):
        if packet.pts is None:
            continue
        at = _seconds(packet.pts, stream.time_base)
        origin = at if origin is None else origin
        times.append(at)
        if packet.is_keyframe:
            longest = max(longest, at - last if last is not None else 0.0)
            last = at
        elif last is None:
            return 86400.0
        if last is not None:
            longest = max(longest, at - last)
        if longest > 30:
            break
        read += packet.size
        if at - origin > 60 or (longest and read > MAX_READ):
            break
    steps = [after - before for before, after in pairwise(sorted(times))]
    rate = len(steps) / sum(steps) if sum(steps) else 0.0
    if facts["fps"] > FASTEST > rate > 0:
        _rate_anew(facts, rate)
    facts["uneven"] |= sum(0 < step * facts["fps"] < 0.7 for step in steps) > 2
    return longest


def _rate_anew(facts: dict[str, Any], rate: float) -> None:
    """Takes for a track's rate the one at which its pictures come, since no film has the one it says."""
    facts |= {"fps": rate, "uneven": True, "misrated": True}


@dataclass
class _Jump:
    """At which of a track's packets its clock jumps, and by how many seconds.

    In Matroska, which says only when they are shown, pictures jump before the clock of their storing does.
    """

    at: int
    by: float
    unsaid: float  # of them those that the packet before doesn't claim to last
    shown_at: int  # the packet from which on what is shown jumps


@dataclass
class _Track:
    """What has been seen of a track's clock.

    *turn*: the seconds of one of its pictures, 0 for sound; *frame*: of a picture, or a packet of sound.
    """

    turn: float
    unit: Fraction  # seconds of one tick of its clock
    frame: float = 0.0
    first: float | None = None
    last: float = 0.0  # when its last packet begins
    lasts: float = 0.0  # and how long that claims to last
    reach: float = 0.0  # when the last of what is shown ends
    pace: float = 0.0  # pictures a second, as its container has it
    stands: float = 0.0  # seconds between two of its packets, the longest
    quickest: float = 3600.0  # … and the shortest
    packets: int = 0
    hidden: int = 0  # of them those that an edit list cuts out,
    cut: bool = False  # … the latest one, too
    edits: Edits | None = None  # where pictures that are stored in another order than shown are cut out
    jumps: list[_Jump] = field(default_factory=list)
    far: int = 0  # pictures that are to be shown far from where they lie, without a jump beside them
    kinds: set[bytes] = field(default_factory=set)  # of its sound, by rate and channels
    times: SameTimes = field(default_factory=SameTimes)
    latest: deque[tuple[int, float]] = field(
        default_factory=lambda: deque(maxlen=REORDERED)
    )  # packets, and how far

    def take(self, packet: Any) -> None:
        """Another packet: until when what is shown lasts, too, where nobody knows when it was stored.

        One that an edit list cuts out tells no time, nor does what follows behind it.
        """
        hidden = packet.is_discard
        stored = packet.dts
        shown = stored if packet.pts is None else packet.pts
        self.times.see(stored, packet.duration)
        if self.edits and stored is not None:
            self.edits.see(
                self.packets, _seconds(stored, self.unit), _seconds(shown, self.unit), hidden=hidden
            )
        if not hidden:
            lasts = _seconds(packet.duration or 0, self.unit)
            if shown is not None:
                self.reach = max(self.reach, _seconds(shown, self.unit) + (lasts or self.turn))
            if stored is not None:
                self._see(_seconds(stored, self.unit), _seconds(shown, self.unit), lasts)
        self.hidden += hidden
        self.cut = hidden
        self.packets += packet.size > 0

    def _see(self, stored: float, shown: float, lasts: float) -> None:
        by = stored - self.last - (self.turn or self.lasts)
        if self.first is None:
            self.first = stored
        elif not self.cut and (
            by > JUMP_OF_ALL or (stored < self.last - MIN_SETBACK and not self._is_guessed(shown))
        ):
            if stored < self.last:
                # begun anew, behind all that was shown: Matroska knows no order of storing then
                by = shown - self.reach
            unsaid = stored - self.last - self.lasts
            self.jumps.append(_Jump(self.packets, by, unsaid, self._shown_at(by)))
        if self.packets and stored > self.last:
            self.stands = max(self.stands, stored - self.last)
            self.quickest = min(self.quickest, stored - self.last)
        self.last = stored
        self.lasts = lasts or self.lasts
        if not self.turn:  # an MP4 would claim that the last sound before a jump lasts until after it
            self.lasts = min(self.lasts, 1.0)
        self.latest.append((self.packets, shown - stored))
        self.far += abs(shown - stored) > MAX_REORDER and abs(shown - stored) > self.order

    def _is_guessed(self, shown: float) -> bool:
        """Whether a time of storing may have fallen back because the first ones were guessed (Matroska)."""
        return self.turn > 0 and self.packets <= REORDERED and shown > (self.first or 0.0)

    def _shown_at(self, by: float) -> int:
        """The first of the latest packets that is shown after a jump by so much, though it lies before it."""
        early = [(at, far) for at, far in self.latest if abs(far - by) < min(SAME_JUMP, abs(by) / 2)]
        self.far -= sum(abs(far) > self.order for _, far in early)
        self.latest.clear()
        return min((at for at, _ in early), default=self.packets)

    @property
    def order(self) -> float:
        """Seconds that may lie between the storing of a picture and its showing."""
        return max(MAX_REORDER, REORDERED * min(self.stands, JUMP_OF_ALL))

    @property
    def seconds(self) -> float:
        """How long it is without its jumps."""
        return (
            self.last + (self.turn or self.lasts) - (self.first or 0.0) - sum(jump.by for jump in self.jumps)
        )

    @property
    def quick(self) -> float:
        """Pictures a second where they come quickly: as the container has it, unless none ever came so."""
        return min(self.pace, 1 / self.quickest) if self.pace * self.quickest > BELIEVED else self.pace

    @property
    def missing(self) -> float:
        """Seconds that its packets haven’t, though its clock counts them: holes, or pictures that stand."""
        own = self.last - (self.first or 0.0) - sum(jump.by for jump in self.jumps)
        return own - (self.shown - 1) * self.frame if self.frame and self.shown else 0.0

    @property
    def shown(self) -> int:
        """How many of its packets are shown."""
        return self.packets - self.hidden


def adts_kind(packet: Any) -> bytes:
    """What a packet of a broadcast's AAC says of its rate and channels; nothing where it says none."""
    head = bytes(memoryview(packet)[:4])
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return b""
    return bytes((head[2] & 0xFD, head[3] & 0xC0))


def _watch(stream: Any, facts: dict[str, Any]) -> _Track:
    """What will be seen of a track's clock."""
    unit = stream.time_base
    if facts["type"] != "video":
        frame = value(lambda: stream.codec_context.frame_size / stream.codec_context.sample_rate, 0.0)
        return _Track(0.0, unit, frame)
    turn = 1 / (value(lambda: float(stream.guessed_rate), 25.0) or 25.0)
    cuts = facts["discarded"] and facts["reorders"]
    pace = value(lambda: float(stream.base_rate), 0.0)
    return _Track(turn, unit, turn, pace=pace, edits=Edits(turn) if cuts else None)


def jumps(container: Any, tracks: list[dict[str, Any]], claimed: float) -> float:
    """Notes for each track the `shifts` that take its clock's jumps out, and what of its sound is `missing`.

    How long the file is without its jumps; 0 where no clock jumps. *container*: freshly opened; *tracks*: the
    film first, then its sound. *claimed*: the length without which it is cut off.
    """
    seen = {facts["index"]: _watch(container.streams[facts["index"]], facts) for facts in tracks}
    ends = time.monotonic() + MAX_SECONDS
    for number, packet in enumerate(container.demux([container.streams[index] for index in seen])):
        track = seen[packet.stream_index]
        track.take(packet)
        if not track.turn and (kind := adts_kind(packet)):
            track.kinds.add(kind)
        if number % 1000 == 0 and time.monotonic() > ends:
            break
    else:
        _note_ends(container, tracks, [track.reach for track in seen.values()], claimed)
        for facts, track in zip(tracks, seen.values(), strict=True):
            # AVI counts empty ones, too
            if track.turn and (track.hidden or (facts["frames"] and not claimed)):
                facts["frames"] = min(facts["frames"] or track.shown, track.shown)
    clocks = list(seen.values())
    _agree(clocks)
    if any(len(track.jumps) > MAX_JUMPS for track in clocks):
        return 0.0
    for facts, track in zip(tracks, clocks, strict=True):
        facts |= {"stands": track.stands, "pace": track.quick}
        if facts.get("fps", 0) > FASTEST > track.quick > 0:
            _rate_anew(facts, track.quick)
        shifts = [(jump.at, jump.shown_at, jump.by) for jump in track.jumps]
        shifts = shifts or [(at, at, by) for at, by in (track.edits.late() if track.edits else [])]
        facts["shifts"] = [(at, shown_at, round(by / track.unit)) for at, shown_at, by in shifts]
        facts["far"] = round(track.order / track.unit) if track.far else 0
        facts["counted"] = 0 if track.turn else track.times.counted()
        facts["missing"] = 0.0 if facts["counted"] else track.missing
        facts["changes"] = len(track.kinds) > 1
    jumped = any(track.jumps or track.far for track in clocks)
    return max(track.seconds for track in clocks) if jumped else 0.0


def _note_ends(container: Any, tracks: list[dict[str, Any]], reach: list[float], claimed: float) -> None:
    """Notes where a track ends that says no `end`, or that of another: some containers know the file's alone.

    Where none comes so far the file is cut off, and stays as long as it says.
    """
    start = value(lambda: container.start_time / 1e6, 0.0)
    if max(reach) - start < claimed - MIN_HELD:
        return
    for facts, end in zip(tracks, reach, strict=True):
        if not facts["end"] or end - start < facts["end"] - MIN_HELD:
            facts["end"] = end - start


def _agree(clocks: list[_Track]) -> None:
    """Keeps what is a jump: of all tracks together, backwards, or so that they end together without it.

    A gap in one track alone may be a still picture, or a silence. What they do together gets the same length
    in all, so that they stay in step.
    """
    film, *others = clocks
    alike = [
        len(each.jumps) == len(film.jumps)
        and all(abs(a.by - b.by) < SAME_JUMP for a, b in zip(each.jumps, film.jumps, strict=True))
        for each in others
    ]
    if others and all(alike):
        for each in others:
            each.jumps = [replace(a, by=b.by) for a, b in zip(each.jumps, film.jumps, strict=True)]
        return
    ends = [each.seconds for each in clocks]
    if others and max(ends) - min(ends) < SAME_JUMP:
        return
    for each in clocks:
        each.jumps = [jump for jump in each.jumps if jump.by < 0 or jump.unsaid > JUMP]
