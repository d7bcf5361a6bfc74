"""Every URL of the installation: the dashboard, the engine, signing in, the back office."""

from __future__ import annotations

import sys

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth import views as auth
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, parse_cookie
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import include, path

from jobs import (
    admin,  # noqa: F401 - registers what the records are
    records,
)
from jobs.api import problems
from jobs.dashboard.history import staff_only
from mediapipe import temporal, temporal_ui
from mediapipe.accounts import magic_link, single_sign_on, visitor
from mediapipe.accounts import views as accounts
from mediapipe.database import fresh_connections
from mediapipe.storage import views as media

DATABASE_UNAVAILABLE = "The database can’t be reached. Try again in a moment."
BROKEN = "Something went wrong on the server. An admin can find the reason in the log."
UNREADABLE = "This request can’t be read: it isn’t valid HTTP, or a field of it isn’t plain text."

ANONYMOUS: dict[str, AbstractBaseUser | AnonymousUser] = {"user": AnonymousUser()}


def server_error(request: HttpRequest) -> HttpResponse:
    """The page for an error of ours; another one where it is the database that can't be reached."""
    status = 503 if isinstance(sys.exc_info()[1], OperationalError) else 500
    if request.path.startswith("/api/"):
        answer = problems.answer(status, DATABASE_UNAVAILABLE if status == 503 else BROKEN)
    else:
        seen_by = (
            _visitor(request) if status == 500 else ANONYMOUS
        )  # who it is would be asked of the database
        answer = render(request, f"{status}.html", seen_by, status=status)
    if status == 503:
        answer["Retry-After"] = "2"
    return answer


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The page for a request that can't be read; the engine's API answers in JSON whatever it is asked."""
    if request.path.startswith("/ittybit/"):
        return JsonResponse({"kind": "request_invalid", "message": UNREADABLE}, status=400)
    if request.path.startswith("/api/"):
        return problems.answer(400, UNREADABLE)
    return render(request, "400.html", _visitor(request), status=400)


def expired(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The page for a form without its token (settings.CSRF_FAILURE_VIEW): Django's knows no visitor."""
    return render(request, "403_csrf.html", _visitor(request), status=403)


def too_large(limit: int, headers: dict[str, str]) -> str:
    """The page for a body over its sender's *limit* of bytes, which no Django request has come of."""
    cookies = headers.get("cookie", "")
    request = HttpRequest()
    request.META["CSRF_COOKIE"] = parse_cookie(cookies).get(settings.CSRF_COOKIE_NAME)
    with fresh_connections():
        person = visitor.signed_in(cookies)
    return render_to_string("413.html", {"limit": limit >> 20, "user": person or AnonymousUser()}, request)


def _visitor(request: HttpRequest) -> dict[str, AbstractBaseUser | AnonymousUser]:
    """Who an error's page is for, so that its head leads on; nobody where that can't be found out now."""
    try:
        return {"user": get_user(request)}
    except Exception:  # the page is about one error, and makes no other
        return ANONYMOUS


@staff_only
def to_temporal(request: HttpRequest) -> HttpResponse:
    """Sends an admin on to Temporal's own UI: who opens that without having signed in comes by here."""
    if not (url := temporal.ui_url()):
        raise Http404
    return redirect(f"{url}{temporal_ui.ARRIVED}")


handler400 = bad_request
handler500 = server_error
urlpatterns = [
    path("", include("jobs.urls")),
    path("api/v1/", include("jobs.api.urls")),
    path("ittybit/", include("mediapipe.engine.urls")),
    path(f"{settings.MEDIA_URL[1:]}<path:name>", media.serve, name="media"),
    path("welcome/<str:token>/", magic_link.sign_in, name="magic_link"),
    path("invited/<str:token>/", magic_link.invited, name="invited"),
    path("login/", accounts.SignIn.as_view(), name="login"),
    path("login/single-sign-on/", single_sign_on.begin, name="single_sign_on"),
    path("login/single-sign-on/back/", single_sign_on.back, name="single_sign_on_back"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("password/", accounts.ChangePassword.as_view(), name="password_change"),
    path("account/sessions/", accounts.signed_in, name="sessions"),
    path("account/sessions/others/end/", accounts.end_others, name="end_others"),
    path("account/sessions/<str:mark>/end/", accounts.end_session, name="end_session"),
    path("temporal/", to_temporal, name="temporal"),
    path("admin/", records.site.urls),
]
