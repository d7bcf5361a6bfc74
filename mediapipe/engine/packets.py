"""FFmpeg's filters of a source's packets, before anything else is done with them. Pure."""

from __future__ import annotations

from mediapipe.engine.media import Audio, Media, Video

TURNED_BY_PICTURES = {  # filters that take out what pictures say of their turn
    "h264": "h264_metadata=display_orientation=remove",
    "hevc": "filter_units=remove_types=39",
}
MOMENT = 0.01  # seconds that a last picture lasts by its packet, where others are put behind it
RESET = ("mpegts", "mpeg", "ogg")  # containers whose clock may begin anew: FFmpeg takes that out itself


def packet_filters(media: Media, first: str = "") -> list[str]:
    """The arguments that change a source's packets before anything else is done with them.

    *first*: a filter of the picture's that comes before all others.
    """
    arguments = []
    for track in (media.video, media.audio):
        turned = TURNED_BY_PICTURES.get(track.codec) if isinstance(track, Video) and track.says_turn else None
        chain = [each for each in (first if track is media.video else "", turned) if each]
        if isinstance(track, Video) and track.unheld:
            chain.append(f"setts=pts=PTS:dts=DTS:duration='min(DURATION,ceil({MOMENT}/TB))'")
        chain += steady_clock(track) if track and media.format not in RESET else []
        arguments += [f"-bsf:{track.index}", ",".join(chain)] if track and chain else []
    if media.audio and media.audio.counted:  # FFmpeg would leave out those that say the same time again
        arguments += [f"-flags2:{media.audio.index}", "+skip_manual"]
    return arguments


def steady_clock(track: Video | Audio) -> list[str]:
    """The filter that takes a clock's jumps out of the packets, which FFmpeg does itself in some containers.

    And the lateness of pictures that are stored in another order.
    """
    if isinstance(track, Audio) and track.counted:
        at = f"STARTDTS+N*{track.counted}"
        return [f"setts=dts='{at}':pts='{at}'"]
    far = track.far if isinstance(track, Video) else 0
    late = track.late if isinstance(track, Video) else 0
    if not (track.shifts or far or late):
        return []
    stored = "DTS" + "".join(f"-gte(N,{at})*({ticks})" for at, _, ticks in track.shifts)
    shown = "PTS" + "".join(f"-gte(N,{at})*({ticks})" for _, at, ticks in track.shifts)
    stored, shown = (f"if(eq({each[:3]},NOPTS),NOPTS,{each})" for each in (stored, shown))
    shown = f"if(gt(abs(PTS-DTS),{far})*not(eq(DTS,NOPTS)),{stored},{shown})" if far else shown
    if late:  # what FFmpeg takes for the time of showing is made up
        stored = stored[:-1] + f"-round({late:.6f}/TB))"
        shown = "NOPTS"
    return [f"setts=dts='{stored}':pts='{shown}'"]
