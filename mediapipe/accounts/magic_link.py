"""Links that let somebody in once: the one that `up` prints for the first admin, and invitations.

The first signs in at once. An invitation asks for a password first, so that a program which only looks at
the link (a chat's preview) doesn't use it up. It knows users, and nothing of roles.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from mediapipe.accounts.new_password import NewPassword
from mediapipe.accounts.provider import ways

SALT = "jobs.welcome"
INVITED = "accounts.invited"
CONNECTING = "accounts.connecting"
LIFETIME = 3600  # seconds
INVITED_LIFETIME = 3 * 24 * 3600
LINK_INVALID = "This sign-in link has expired or was already used. Sign in with your password."
VOID_INVITATION = "This link has expired or was already used. Ask an admin for a new one."


def _stamp(user: User) -> list[str]:
    """What changes with every sign-in and every new password, so that a link is void after either."""
    last_login = user.last_login.isoformat() if user.last_login else ""
    return [user.get_username(), last_login, salted_hmac(SALT, user.password).hexdigest()[:16]]


def create(username: str) -> str:
    """A path that signs *username* in, once: it is void after any sign-in. Raises User.DoesNotExist."""
    user = User.objects.get(username=username)
    return reverse("magic_link", args=[signing.dumps(_stamp(user), salt=SALT)])


def invite(user: User) -> str:
    """A path where *user* chooses a password, once, and is signed in by it."""
    return reverse("invited", args=[signing.dumps(_stamp(user), salt=INVITED)])


def connect(user: User) -> str:
    """A token by which *user*, who is signed in, connects their account at the company's provider."""
    return signing.dumps(_stamp(user), salt=CONNECTING)


def whose(token: str, signed_in: User | None) -> User | None:
    """Whom a sign-in at the company's provider shall be connected with: whom an invitation is for, or who is
    signed in and asked for it. None where the token is void, or another person's."""
    if user := _read(token, INVITED, INVITED_LIFETIME):
        return user
    user = _read(token, CONNECTING, LIFETIME)
    return user if user == signed_in else None


def _read(token: str, salt: str, lifetime: int) -> User | None:
    """Whom a link is for; None where it is void."""
    try:
        stamp = signing.loads(token, salt=salt, max_age=lifetime)
        user = User.objects.get(username=stamp[0], is_active=True)
    except (signing.BadSignature, LookupError, ValueError, TypeError, User.DoesNotExist):
        return None
    return user if stamp == _stamp(user) else None


def take(user: User, **fields: Any) -> bool:
    """Uses a link up: of several at the same moment one gets True."""
    same = User.objects.filter(pk=user.pk, is_active=True, last_login=user.last_login, password=user.password)
    return bool(same.update(last_login=timezone.now(), **fields))


@login_not_required
@never_cache
@require_GET
def sign_in(request: HttpRequest, token: str) -> HttpResponse:
    """Signs in and redirects to the list; a void link redirects to the sign-in page with a message."""
    user = _read(token, SALT, LIFETIME)
    if user is None or not take(user):
        messages.error(request, LINK_INVALID)
        return redirect(settings.LOGIN_URL)
    return signed_in(request, user)


@login_not_required
@never_cache
@require_http_methods(["GET", "POST"])
def invited(request: HttpRequest, token: str) -> HttpResponse:
    """Asks an invited person for a password, then signs in with it."""
    user = _read(token, INVITED, INVITED_LIFETIME)
    form = NewPassword(user, request.POST or None) if user else None
    if user and form and settings.PASSWORD_SIGN_IN and form.is_valid():
        if take(user, password=make_password(form.cleaned_data["new_password1"])):
            return signed_in(request, user)
        user = None
    if user is None:
        messages.error(request, VOID_INVITATION)
        return redirect(settings.LOGIN_URL)
    return render(
        request, "registration/invited.html", {"form": form, "person": user, "token": token, **ways()}
    )


def signed_in(request: HttpRequest, user: User, page: str = "jobs:list") -> HttpResponse:
    """Signs *user* in, and goes to a page."""
    user.refresh_from_db()
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return redirect(page)
