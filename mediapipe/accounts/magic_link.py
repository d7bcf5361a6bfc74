"""The one-time create that signs the first admin in: `up` prints it, and it works once, for an hour."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import get_user_model, login
from django.contrib.auth.decorators import login_not_required
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_GET

SALT = "jobs.welcome"
LIFE = 3600  # seconds


def create(username: str) -> str:
    """A path that signs *username* in, once: it dies with the sign-in that it makes."""
    user = get_user_model().objects.get(username=username)
    seen = user.last_login.isoformat() if user.last_login else ""
    return reverse("magic_link", args=[signing.dumps([username, seen], salt=SALT)])


@login_not_required
@require_GET
def sign_in(request: HttpRequest, token: str) -> HttpResponse:
    """Signs in, and shows the dashboard."""
    try:
        username, seen = signing.loads(token, salt=SALT, max_age=LIFE)
        user = get_user_model().objects.get(username=username, is_active=True)
        if seen != (user.last_login.isoformat() if user.last_login else ""):
            raise signing.BadSignature
    except (signing.BadSignature, ValueError, get_user_model().DoesNotExist):
        messages.error(request, "This sign-in create has been used or is too old. Sign in with the password.")
        return redirect(settings.LOGIN_URL)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return redirect("jobs:list")
