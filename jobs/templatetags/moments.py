"""The moment tag: a day and a time, which a script shows by the reader's own clock (static/mediapipe.js)."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.timezone import localtime

register = template.Library()


@register.simple_tag
def moment(when: datetime, year: bool = False) -> SafeString:
    """`{% moment job.created_at %}`; *year* names the year too, where others than this one are usual."""
    local = localtime(when)  # written by Python: a page shows fifty, and Django's formats take much longer
    return format_html(
        '<time datetime="{}" title="{}" data-moment{}>{}</time>',
        local.isoformat(),
        f"{local.day} {local:%b %Y, %H:%M:%S}",
        mark_safe('="year"') if year else "",
        f"{local.day} {local:%b %Y, %H:%M}" if year else f"{local.day} {local:%b, %H:%M}",
    )
