"""The tag of the uploads' tray, which every page of a signed-in person has."""

from __future__ import annotations

from typing import Any

from django import template

from jobs.dashboard.forms import chosen_pipeline
from jobs.models import Pipeline
from jobs.uploads.views import unfinished_uploads

register = template.Library()


@register.inclusion_tag("jobs/_tray.html", takes_context=True)
def tray(context: template.Context) -> dict[str, Any]:
    """`{% tray %}`: what this person has begun to upload, and the pipeline they chose last."""
    chosen = context.get("chosen") or Pipeline.chosen_by(context["user"], chosen_pipeline(context["request"]))
    return {
        "pipeline": chosen,
        "unfinished": unfinished_uploads(context["user"].pk),
    }
