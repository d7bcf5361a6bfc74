"""The sign-in link that `up` prints for the first admin: it works once, for an hour."""

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
LIFETIME = 3600  # seconds
VOID = "This sign-in link has expired or was already used. Sign in with your password."


def create(username: str) -> str:
    """A path that signs *username* in, once: it is void after any sign-in. Raises User.DoesNotExist."""
    user = get_user_model().objects.get(username=username)
    last_login = user.last_login.isoformat() if user.last_login else ""
    return reverse("magic_link", args=[signing.dumps([username, last_login], salt=SALT)])


@login_not_required
@require_GET
def sign_in(request: HttpRequest, token: str) -> HttpResponse:
    """Signs in and redirects to the list; a void link redirects to the sign-in page with a message."""
    try:
        username, last_login = signing.loads(token, salt=SALT, max_age=LIFETIME)
        user = get_user_model().objects.get(username=username, is_active=True)
        if last_login != (user.last_login.isoformat() if user.last_login else ""):
            raise signing.BadSignature
    except (signing.BadSignature, ValueError, get_user_model().DoesNotExist):
        messages.error(request, VOID)
        return redirect(settings.LOGIN_URL)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return redirect("jobs:list")
