"""Which colours an output has, and what they are called in it. Pure.

It writes FFmpeg's filters, and knows neither sizes nor plans.
"""

from __future__ import annotations

from dataclasses import replace

from mediapipe.engine.media import BT709, CONSTANT, UNSPECIFIED_VALUES, Video

# What still formats hold is always read as BT.601, JPEG's in full range, whatever the film was in.
STILLS = {"yuvj420p": ":out_range=pc:out_color_matrix=bt601"} | dict.fromkeys(
    ("yuv420p", "yuva420p"), ":out_range=tv:out_color_matrix=bt601"
)
# What the scaler knows, by H.273's number; the primaries and the transfer that belong to a matrix.
MATRICES = {BT709: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
BELONGING = {
    "bt709": ("bt709", "bt709"),
    "bt470bg": ("bt470bg", "smpte170m"),
    "smpte170m": ("smpte170m", "smpte170m"),
    "smpte240m": ("smpte240m", "smpte240m"),
    "bt2020nc": ("bt2020", "bt2020-10"),
}
RGB = 0
YCGCO = 8
ICTCP = 14  # of BT.2020’s primaries alone
BY_PRIMARIES = (10, 12, 13)  # BT.2020 with constant luminance, and what is derived from primaries
# What zscale makes of these is light, not how bright a screen is made; BT.709’s own curve, in 16 bits.
CURVE = "if(lt(val,0.018*65535),4.5*val,(1.099*pow(val/65535,0.45)-0.099)*65535)"
LIGHT = (
    "zscale=t=linear:m=gbr",
    "format=gbrp16le",
    f"lutrgb=r='{CURVE}':g='{CURVE}':b='{CURVE}'",
    "setparams=color_trc=bt709",
)
LOGARITHMIC = (9, 10)  # transfers that the scaler refuses; nobody shows them as what they say
TELEVISION = (5, 6)  # primaries
TO_SDR = (
    "zscale=t=linear:npl=100",
    "format=gbrpf32le",
    "zscale=p=bt709",
    "tonemap=hable:desat=0",
    "zscale=t=bt709:m=bt709:r=tv",
)


def even_sides(video: Video) -> list[str]:
    """Takes a row or a column from odd sides: zscale refuses them, half of their colour has no place."""
    odd = video.width % 2 or video.height % 2
    return ["crop=trunc(iw/2)*2:trunc(ih/2)*2"] if odd else []


def to_sdr(video: Video, width: int, height: int) -> list[str]:
    """The filters that make an HDR film of another size one for ordinary screens."""
    return [*even_sides(video), *missing_of_hdr(video), f"zscale=w={width}:h={height}:f=bilinear", *TO_SDR]


def missing_of_hdr(video: Video) -> list[str]:
    """Names to zscale the colours of HDR that its file leaves out: it refuses to guess."""
    unsaid = video.primaries in UNSPECIFIED_VALUES or video.matrix == ICTCP
    lacking = ["color_primaries=bt2020"] if unsaid else []
    if video.matrix in (*UNSPECIFIED_VALUES, *CONSTANT, 11) or video.matrix > ICTCP:
        lacking += ["colorspace=bt2020nc"] if video.pix_fmt.startswith("yuv") else []
    return ["setparams=" + ":".join(lacking)] if lacking else []


def understood(video: Video) -> tuple[Video, list[str]]:
    """The film in colours that the scaler knows, and the filters that make them of what it says.

    What says nothing is taken for what players guess: they count its pixels, which may be others afterwards.
    """
    if not video.pix_fmt.startswith("yuv"):
        return video, []
    if video.matrix == YCGCO or (video.matrix in BY_PRIMARIES and video.primaries not in UNSPECIFIED_VALUES):
        transfer = video.matrix in CONSTANT and video.transfer in (*UNSPECIFIED_VALUES, *LOGARITHMIC)
        named = ["setparams=color_trc=bt709"] if transfer else []
        width, height = (side - side % 2 for side in (video.width, video.height))
        known = replace(video, matrix=BT709, width=width, height=height)
        if video.matrix in CONSTANT:
            return replace(known, pix_fmt="gbrp16le", matrix=RGB), [*even_sides(video), *named, *LIGHT]
        return known, [*even_sides(video), *named, "zscale=m=bt709"]
    matrix = video.matrix if video.matrix in MATRICES else _guessed(video)
    named = [] if matrix == video.matrix else [f"colorspace={MATRICES[matrix]}"]
    named += ["color_trc=bt709"] if video.transfer in LOGARITHMIC else []
    return replace(video, matrix=matrix), ["setparams=" + ":".join(named)] if named else []


def _guessed(video: Video) -> int:
    """BT.709 for what is large, as Chromium and mpv count; else BT.601, by the lines of television it has."""
    if video.width >= 1280 or video.height > 576:
        return BT709
    return 5 if video.height in (576, 288) else 6


def conversion(video: Video, target: str) -> str:
    """The scaler’s arguments: *target*, and BT.709 for RGB and 4:4:4, unless it says another matrix."""
    to_709 = matrix(video) == "bt709" and video.matrix != BT709 and "matrix" not in target
    return target + (":out_color_matrix=bt709" if to_709 else "")


def matrix(video: Video) -> str:
    """In what an understood film is encoded: its own, and BT.709 for RGB and 4:4:4."""
    rgb = video.pix_fmt.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "gray", "pal8", "0", "mono"))
    return "bt709" if rgb or "444" in video.pix_fmt else MATRICES.get(video.matrix, "bt709")


def tags(video: Video) -> list[str]:
    """Names the colours of an understood film that its source leaves out.

    The matrix alone is not enough: without primaries Chromium shows BT.709’s pure red as dark red.
    """
    primaries, transfer = BELONGING.get(matrix(video), BELONGING["smpte170m"])
    named = [f"color_primaries={primaries}"] if video.primaries in UNSPECIFIED_VALUES else []
    named += [f"color_trc={transfer}"] if video.transfer in UNSPECIFIED_VALUES else []
    return ["setparams=" + ":".join(named)] if named else []


def copied_tags(video: Video, which: str = "") -> list[str]:
    """The arguments that name in a copy of H.264 the primaries which belong to its BT.709 matrix."""
    if video.matrix != BT709 or video.primaries not in UNSPECIFIED_VALUES:
        return []
    named = "colour_primaries=1" + (
        ":transfer_characteristics=1" if video.transfer in UNSPECIFIED_VALUES else ""
    )
    return [f"-bsf:v{which}", f"h264_metadata={named}"]


def untagged(video: Video) -> list[str]:
    """Takes television’s primaries from a still: a PNG would carry them, and look other than the film."""
    return ["setparams=color_primaries=unknown:color_trc=unknown"] if video.primaries in TELEVISION else []
