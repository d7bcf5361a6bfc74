"""A tus client of a few lines over Django's test client, and bytes that are a sound."""

from __future__ import annotations

import base64
import io
import os
import wave

TUS = {"Tus-Resumable": "1.0.0"}
STREAM = "application/offset+octet-stream"


def sound(samples: int = 5000) -> bytes:
    """A WAV file that nobody has uploaded before; a large one lasts seconds only, as it is encoded, too."""
    made = io.BytesIO()
    with wave.open(made, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000 if samples < 50_000 else 192_000)
        out.writeframes(os.urandom(2 * samples))
    return made.getvalue()


DATA = sound()
LENGTH = len(DATA)


def encoded(**values: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


def create(client, length=LENGTH, name="holiday.wav", data=None, **headers):
    about = {**TUS, "Upload-Length": str(length), "Upload-Metadata": encoded(filename=name), **headers}
    about = {key: value for key, value in about.items() if value is not None}
    if data is not None:
        about["Content-Type"] = STREAM
    return client.post("/uploads/", data=data or b"", content_type="text/plain", headers=about)


def patch(client, url, data, offset, **headers):
    about = {**TUS, "Content-Type": STREAM, "Upload-Offset": str(offset), **headers}
    about = {key: value for key, value in about.items() if value is not None}
    return client.patch(url, data=data, content_type=STREAM, headers=about)


def head(client, url):
    return client.head(url, headers=TUS)


def offset(client, url) -> int:
    return int(head(client, url)["Upload-Offset"])
