"""Who hasn't signed in is sent to do so, and comes back to the page they were on.

It knows no page: what a browser does with a 401 is the page's matter.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.middleware import HtmxDetails

from mediapipe.accounts import sessions
from mediapipe.database import OUTAGES


class PageRequest(HttpRequest):
    """A request that it has let in: its user has signed in, and django-htmx has read its headers."""

    user: User
    htmx: HtmxDetails


class LoginRequired(LoginRequiredMiddleware):
    """Django's, but a fragment is answered 401, and a form leads back to its page, not to its own address."""

    def process_view(
        self, request: HttpRequest, view_func: Callable[..., Any], *args: Any
    ) -> HttpResponseBase | None:
        """Django's; where it lets somebody in by their session, that was used.

        What is open to all may answer without a database, which Django's would ask who has signed in.
        """
        refused: HttpResponseBase | None = None
        with suppress(*(() if getattr(view_func, "login_required", True) else OUTAGES)):
            refused = super().process_view(request, view_func, *args)
            if refused is None and request.user.is_authenticated:
                sessions.use(request)
        return refused

    def handle_no_permission(  # type: ignore[override]
        self, request: HttpRequest, view_func: Callable[..., Any]
    ) -> HttpResponseBase:
        """The sign-in page, or 401 for what would be swapped into a page."""
        if request.headers.get("HX-Request"):
            return HttpResponse(status=401, headers={"Cache-Control": "no-store"})
        page = request.headers.get("Referer", "")
        if request.method != "GET" and url_has_allowed_host_and_scheme(page, {request.get_host()}):
            parts = urlsplit(page)
            return redirect_to_login(parts._replace(scheme="", netloc="").geturl() or "/")
        response: HttpResponseBase = super().handle_no_permission(request, view_func)
        return response
