"""The tags that show a film in small frames: under the pointer on a poster, and as far as it is encoded.

The frames are the small storyboard that our own engine makes beside a thumbnail: ten to a row.
"""

from __future__ import annotations

from typing import Any

from django import template
from django.conf import settings

from jobs.dashboard.job_page import JobPage
from jobs.dashboard.presenters import Row
from jobs.dashboard.stage_view import StageView
from jobs.pipelines import STORYBOARD_FRAMES, THUMBNAILS
from jobs.state import StageState
from mediapipe import storage

register = template.Library()
WIDTH = 160  # of a frame
BAR_FRAMES = range(0, STORYBOARD_FRAMES, 2)  # in a bar, which is narrow


@register.simple_tag
def sprite(row: Row) -> str:
    """`{% sprite row as storyboard %}`: the address of the frames; "" where there are none."""
    thumbnail = row.output(THUMBNAILS.name)
    name = thumbnail.extras.get("storyboard", "") if thumbnail else ""
    return storage.page_link(name, row.job.owner_id) if name and "://" not in name else ""


@register.inclusion_tag("jobs/_film.html")
def film(page: JobPage, stage: StageView) -> dict[str, Any]:
    """`{% film page stage %}`: the frames, in colour as far as the stage has come, or their place."""
    coming = page.keeps_places and settings.EMBEDDED_ENGINE and {THUMBNAILS.name, stage.name} <= page.planned
    thumbnail = page.output(THUMBNAILS.name)
    url = sprite(page)
    if not thumbnail or not url:
        return {"place": coming}
    height = round(WIDTH * (thumbnail.height or 9) / (thumbnail.width or 16))
    done = 100 if stage.status.state == StageState.SUCCEEDED else stage.percent or 0
    return {
        "place": True,
        "url": url,
        "width": WIDTH * 10,
        "height": height * STORYBOARD_FRAMES // 10,
        "cells": [(at * 50, f"{at % 10 * WIDTH} {at // 10 * height} {WIDTH} {height}") for at in BAR_FRAMES],
        "done": done * 10,
    }
