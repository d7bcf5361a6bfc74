"""The icon tag: a symbol of the sprite. A tag and not an include, because a list shows hundreds."""

from __future__ import annotations

from functools import cache

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag
@cache
def icon(name: str, spin: bool = False) -> SafeString:
    """`{% icon "film" %}`; *spin* turns it, for what is running."""
    return format_html(
        '<svg class="i{}" aria-hidden="true"><use href="{}#{}"></use></svg>',
        " spin" if spin else "",
        static("icons.svg"),
        name,
    )
