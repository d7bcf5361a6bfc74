"""The middle filter: a long title in a row, with its beginning and its end."""

from __future__ import annotations

from django import template

from jobs.dashboard import formatting

register = template.Library()
register.filter("middle", formatting.middle)
