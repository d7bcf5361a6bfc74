"""Signing in with a company account: to the provider and back.

What a sign-in needs when it comes back lies in a signed cookie of its own, so that strangers make no rows and
two tabs don't disturb each other. It knows no tokens and no keys of the provider's.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import User
from django.core import signing
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from mediapipe.accounts import identities, magic_link, provider
from mediapipe.accounts.people import NotAllowed
from mediapipe.own_address import absolute_for

log = logging.getLogger(__name__)

SALT = "accounts.single_sign_on"
COOKIE = "sso-"
LIFETIME = 900  # seconds that somebody may take at the provider
TOO_LATE = "This sign-in took too long, or began in another browser. Try again."


@login_not_required
@never_cache
@require_GET
def begin(request: HttpRequest) -> HttpResponse:
    """Sends the browser to the provider. `link`: a token of who shall be connected; `next`: where to go."""
    if not settings.OIDC_ISSUER:
        raise Http404
    link = request.GET.get("link", "")
    if link and magic_link.whose(link, _person(request)) is None:
        return _refuse(request, magic_link.VOID_INVITATION)
    try:
        flow = provider.begin(_back_url(request))
    except provider.ProviderError as error:
        return _unusable(request, error)
    page = request.GET.get("next", "")
    kept = {"nonce": flow.nonce, "verifier": flow.verifier, "link": link, "next": page}
    answer = redirect(flow.url)
    answer.set_cookie(
        COOKIE + flow.state,
        signing.dumps(kept, salt=SALT),
        max_age=LIFETIME,
        path=reverse("single_sign_on"),
        httponly=True,
        secure=settings.SESSION_COOKIE_SECURE,
        samesite="Lax",
    )
    return answer


@login_not_required
@never_cache
@require_GET
def back(request: HttpRequest) -> HttpResponse:
    """Where the provider sends the browser: signs in whom it vouches for."""
    if not settings.OIDC_ISSUER:
        raise Http404
    name = COOKIE + request.GET.get("state", "")
    answer = _arrive(request, _begun(request.COOKIES.get(name, "")))
    if name in request.COOKIES:
        answer.delete_cookie(name, path=reverse("single_sign_on"))
    return answer


def _arrive(request: HttpRequest, begun: dict[str, Any]) -> HttpResponse:
    code = request.GET.get("code", "")
    # Another provider's answer under our state is a mix-up attack (RFC 9207).
    if not begun or request.GET.get("iss", settings.OIDC_ISSUER) != settings.OIDC_ISSUER:
        return _refuse(request, TOO_LATE)
    if not code:
        said = re.sub(r"[^a-z_]", "", request.GET.get("error", ""))[:40] or "no reason given"
        return _refuse(request, f"{settings.OIDC_NAME} didn’t sign you in: {said}. Try again.")
    invited = magic_link.whose(begun["link"], _person(request)) if begun["link"] else None
    if begun["link"] and invited is None:
        return _refuse(request, magic_link.VOID_INVITATION)
    try:
        who = provider.finish(code, _back_url(request), begun["nonce"], begun["verifier"])
        person = identities.person_for(who, invited)
    except provider.ProviderError as error:
        return _unusable(request, error)
    except NotAllowed as error:
        return _refuse(request, str(error))
    if not magic_link.take(person):  # deactivated, or somebody signed in with the same link, just now
        return _refuse(request, TOO_LATE)
    page = begun["next"]
    safe = url_has_allowed_host_and_scheme(page, {request.get_host()}, require_https=request.is_secure())
    return magic_link.signed_in(request, person, page if page and safe else settings.LOGIN_REDIRECT_URL)


def _person(request: HttpRequest) -> User | None:
    return request.user if isinstance(request.user, User) else None


def _begun(cookie: str) -> dict[str, Any]:
    """What began, from its cookie; empty where there is none."""
    with suppress(signing.BadSignature):
        kept: dict[str, Any] = signing.loads(cookie, salt=SALT, max_age=LIFETIME)
        return kept
    return {}


def _back_url(request: HttpRequest) -> str:
    return absolute_for(request, reverse("single_sign_on_back"))


def _unusable(request: HttpRequest, error: provider.ProviderError) -> HttpResponse:
    log.warning("OpenID provider: %s", error.reason)
    return _refuse(request, str(error))


def _refuse(request: HttpRequest, sentence: str) -> HttpResponse:
    messages.error(request, sentence)
    return redirect(settings.LOGIN_URL)
