"""Bearer tokens: who sends a request, what its token allows, and how many it may send.

A view marked by `accepts_token` takes a token in place of a session; no other view does. It knows no jobs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from jobs.api.problems import ProblemError
from jobs.models import ApiToken
from mediapipe.accounts import audit
from mediapipe.recent import Recent

View = TypeVar("View", bound=Callable[..., Any])
BURST = 120  # requests of a token at once
PER_SECOND = 10.0  # and after that
MISSING = "Send a token as “Authorization: Bearer …”. You can make one on your account’s page."
INVALID = "This token isn’t valid: it was revoked, has expired, or its owner may not sign in any more."
TOO_MANY = "This token sends too many requests. Wait a moment."


class Allowance:
    """How many requests each token may still send: a bucket of BURST that fills by PER_SECOND."""

    def __init__(self) -> None:
        self._left: Recent[str, tuple[float, float]] = Recent(10_000)  # requests, and as of when
        self._lock = Lock()

    def take(self, key: str, now: float) -> int:
        """Takes one request; 0, or in how many seconds there is one again."""
        with self._lock:
            left, since = self._left.get(key, (float(BURST), now))
            left = min(BURST, left + (now - since) * PER_SECOND)
            taken = left >= 1
            self._left[key] = (left - taken, now)
        return 0 if taken else max(1, math.ceil((1 - left) / PER_SECOND))


allowance = Allowance()  # of this process


def authenticate(request: HttpRequest, scope: str) -> ApiToken:
    """The token that the request was sent with. Raises ProblemError: 401, 403 without *scope*, 429."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise ProblemError(401, MISSING, WWW_Authenticate="Bearer")
    token = ApiToken.find(text.strip())
    if token is None:
        raise ProblemError(401, INVALID, WWW_Authenticate='Bearer error="invalid_token"')
    if wait := allowance.take(token.digest, time.monotonic()):
        raise ProblemError(429, TOO_MANY, Retry_After=wait)
    if not token.allows(scope):
        raise ProblemError(
            403,
            f"This token may not do that: it lacks the scope “{scope}”.",
            WWW_Authenticate=f'Bearer error="insufficient_scope", scope="{scope}"',
        )
    return token


def act_as_owner(request: HttpRequest, token: ApiToken) -> None:
    """Makes the token's owner the request's user; no cookie of the request counts any more."""

    async def owner() -> Any:
        return token.owner

    request.user = token.owner
    audit.by_token(token.name)
    request.auser = owner
    request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]  # no other site can send a token


def accepts_token(scope: str) -> Callable[[View], View]:
    """Marks a view: it takes a token with *scope* as well as a session."""

    def mark(view: View) -> View:
        view.token_scope = scope  # type: ignore[attr-defined]
        return view

    return mark


class BearerTokens(MiddlewareMixin):
    """Answers a request with an Authorization header at a marked view as its token's owner, or refuses it."""

    def process_view(
        self, request: HttpRequest, view: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        """Runs before the checks of the CSRF token and of the session."""
        scope = getattr(view, "token_scope", None)
        if scope is None or "Authorization" not in request.headers:
            return None
        try:
            act_as_owner(request, authenticate(request, scope))
        except ProblemError as problem:
            return problem.response()
        return None
