"""The moment tag: a day and a time, which a script shows by the reader's own clock (static/mediapipe.js)."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.template.defaultfilters import date
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime

register = template.Library()


@register.simple_tag
def moment(when: datetime, year: bool = False) -> SafeString:
    """`{% moment job.created_at %}`; *year* names the year too, where others than this one are usual."""
    local = localtime(when)
    return format_html(
        '<time datetime="{}" title="{}" data-moment{}>{}</time>',
        local.isoformat(),
        date(local, "j M Y, H:i:s"),
        format_html('="{}"', "year") if year else "",
        date(local, "j M Y, H:i" if year else "j M, H:i"),
    )
