r"""A sample clip for people who have no file at hand: sample.mp4, beside this module. It runs no FFmpeg.

The clip is our own, generated once by FFmpeg (colours that turn and a slow tune, 10 s of 720p):

    ffmpeg -f lavfi -i "gradients=s=1280x720:r=30:d=10:n=5:type=spiral:speed=0.012:seed=7:\
    c0=0x0b1d51:c1=0x725ac1:c2=0xff7f6b:c3=0xffd166:c4=0x118ab2" \
    -f lavfi -i "gradients=s=1280x720:r=30:d=10:n=3:type=radial:speed=0.02:seed=3:\
    c0=0xffffff:c1=0x000000:c2=0x8888aa" \
    -f lavfi -i "aevalsrc=0.22*exp(-2.2*mod(t\,0.5))*sin(2*PI*t*NOTE)+\
    0.08*sin(2*PI*110*t)*(0.6+0.4*sin(2*PI*0.2*t)):s=48000:d=10" \
    -filter_complex "[0][1]blend=all_mode=softlight:all_opacity=0.6,format=yuv420p,fade=in:d=0.6,\
    fade=out:st=9.2:d=0.8[v];[2]aecho=0.8:0.6:180|320:0.35|0.2,lowpass=4000,volume=8dB,afade=in:d=0.3,\
    afade=out:st=9:d=1,aformat=channel_layouts=stereo[a]" -map "[v]" -map "[a]" -t 10 \
    -c:v libx264 -preset slow -crf 28 -profile:v high -g 60 -c:a aac -b:a 96k \
    -movflags +faststart -map_metadata -1 -bitexact sample.mp4

NOTE is one of 220, 277.18, 329.63, 440, 329.63, 277.18, 246.94 and 293.66 Hz, the next one every half second.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from jobs.state import Source
from jobs.uploads.one_piece import incoming_file
from mediapipe import storage

CLIP = Path(__file__).with_name("sample.mp4")
SAMPLE_NAME = "sources/sample/source.mp4"


def source() -> Source:
    """The clip as a job's source; the first call copies it into the storage. Raises OSError."""
    if not storage.exists(SAMPLE_NAME):
        with incoming_file(CLIP.name) as part:
            shutil.copyfile(CLIP, part)
            storage.publish(part, SAMPLE_NAME)
    return Source(name=SAMPLE_NAME, filename="Sample clip.mp4")
