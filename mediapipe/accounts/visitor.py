"""Who a browser's cookies are of, for code that stands before Django's requests. It knows no page."""

from __future__ import annotations

from importlib import import_module

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.http import HttpRequest, parse_cookie


def signed_in(cookies: str) -> User | None:
    """The person whose session a Cookie field names, as a page would know them; None for strangers."""
    key = parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME)
    if not key:
        return None
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    person = get_user(request)
    return person if isinstance(person, User) and person.is_active else None
