"""The company's OpenID provider: where people sign in there, and whom it says they are. It knows no users.

OpenID Connect Core 1.0, the authorization code flow with PKCE (RFC 7636). HTTP goes as httpx's environment
says: HTTPS_PROXY, SSL_CERT_FILE.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import ssl
import time
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
from django.conf import settings
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from mediapipe.recent import Recent
from mediapipe.reply import json_of

TIMEOUT = 10.0  # seconds
CACHE_SECONDS = 3600.0  # seconds that its addresses and keys are kept
KEYS_ASKED_EVERY = 30.0  # seconds: a token under an unknown key is no reason to ask for each
LONGEST_SUBJECT = 255  # ASCII characters, OpenID Connect Core 1.0, section 2
CLOCKS_APART = 60  # seconds that its clock may differ from ours
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
# A secret that two share signs nothing that a third must believe, and "none" signs nothing.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")

_kept: Recent[str, tuple[float, dict[str, Any]]] = Recent(4)


class ProviderError(Exception):
    """It can't be used, or what it says can't be believed: its text is for people, `reason` for admins."""

    def __init__(self, reason: str) -> None:
        other = " or sign in with your password" if settings.PASSWORD_SIGN_IN else ""
        super().__init__(
            f"Signing in with {settings.OIDC_NAME} doesn’t work at the moment. Try again in a minute{other}."
            " An admin finds the reason in the log."
        )
        self.reason = reason


class Flow(NamedTuple):
    """A sign-in that has begun: where the browser goes, and what must be known when it comes back."""

    url: str
    state: str
    nonce: str
    verifier: str


class Who(NamedTuple):
    """Whom the provider vouches for; *subject* alone stays the same, *name* is a suggestion."""

    issuer: str
    subject: str
    name: str
    groups: frozenset[str]


def ways() -> dict[str, Any]:
    """How people may sign in, for pages that offer it."""
    return {"provider": settings.OIDC_NAME, "passwords": settings.PASSWORD_SIGN_IN}


def begin(back: str) -> Flow:
    """A new sign-in that comes back to the URL *back*. Raises ProviderError."""
    flow = Flow("", secrets.token_hex(8), secrets.token_urlsafe(24), secrets.token_urlsafe(48))
    digest = hashlib.sha256(flow.verifier.encode()).digest()
    asked = {
        "response_type": "code",
        "client_id": settings.OIDC_CLIENT_ID,
        "redirect_uri": back,
        "scope": settings.OIDC_SCOPES,
        "state": flow.state,
        "nonce": flow.nonce,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    where = str(discover()["authorization_endpoint"])
    return flow._replace(url=f"{where}{'&' if '?' in where else '?'}{urlencode(asked)}")


def finish(code: str, back: str, nonce: str, verifier: str) -> Who:
    """Whom the *code* is for, that a browser brought back. Raises ProviderError."""
    about = discover()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back, "code_verifier": verifier}
    client = {"client_id": settings.OIDC_CLIENT_ID, "client_secret": settings.OIDC_CLIENT_SECRET}
    methods = about.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    basic = httpx.BasicAuth(client["client_id"], client["client_secret"])
    if "client_secret_basic" in methods:
        reply = _ask("POST", about["token_endpoint"], data=form, auth=basic)
    else:
        reply = _ask("POST", about["token_endpoint"], data=form | client)
    claims = _claims(str(reply.get("id_token", "")), nonce)
    if settings.OIDC_GROUPS_CLAIM not in claims and about.get("userinfo_endpoint"):
        bearer = {"Authorization": f"Bearer {reply.get('access_token', '')}"}
        more = _ask("GET", about["userinfo_endpoint"], headers=bearer)
        claims = {**more, **claims} if more.get("sub") == claims["sub"] else claims
    return _who(claims)


def discover() -> dict[str, Any]:
    """Its addresses and abilities, as its discovery document says. Raises ProviderError."""
    url = f"{settings.OIDC_ISSUER.rstrip('/')}/.well-known/openid-configuration"
    about = _kept_answer(url, CACHE_SECONDS)
    if about.get("issuer") != settings.OIDC_ISSUER or not all(
        isinstance(about.get(each), str) for each in ENDPOINTS
    ):
        _kept.pop(url, None)
        raise ProviderError(f"{url} isn’t the discovery document of {settings.OIDC_ISSUER!r}")
    return about


def _claims(token: str, nonce: str) -> dict[str, Any]:
    """What an ID token says, if it is the provider's, for us, for this sign-in, and of now."""
    rules = jwt.JWTClaimsRegistry(
        leeway=CLOCKS_APART,
        iss={"essential": True, "value": settings.OIDC_ISSUER},
        aud={"essential": True, "value": settings.OIDC_CLIENT_ID},
        exp={"essential": True},
        iat={"essential": True},
        sub={"essential": True},
        nonce={"essential": True, "value": nonce},
        azp={"value": settings.OIDC_CLIENT_ID},
    )
    try:
        try:
            read = jwt.decode(token, _keys(CACHE_SECONDS), algorithms=ALGORITHMS)
        except (JoseError, ValueError):  # it may have new keys
            read = jwt.decode(token, _keys(KEYS_ASKED_EVERY), algorithms=ALGORITHMS)
        rules.validate(read.claims)
    except (JoseError, ValueError) as error:
        raise ProviderError(f"its ID token can’t be believed: {error}") from None
    subject = read.claims["sub"]
    if len(subject) > LONGEST_SUBJECT or not subject.isascii() or not subject.isprintable():
        raise ProviderError("its ID token can’t be believed: sub is no name of OpenID Connect")
    return read.claims


def _keys(age: float) -> KeySet:
    """Its public keys, not older than *age* seconds."""
    keys = _kept_answer(str(discover()["jwks_uri"]), age).get("keys")
    usable = [key for key in keys or [] if isinstance(key, dict) and key.get("use", "sig") == "sig"]
    return KeySet.import_key_set({"keys": usable})


def _who(claims: dict[str, Any]) -> Who:
    address = claims.get("email")
    short = address.partition("@")[0] if isinstance(address, str) else ""
    names = (claims.get("preferred_username"), short, claims.get("name"), claims["sub"])
    name = next(each for each in names if isinstance(each, str) and each)
    groups = claims.get(settings.OIDC_GROUPS_CLAIM)
    listed = groups if isinstance(groups, list) else [groups]
    kept = frozenset(each for each in listed if isinstance(each, str))
    return Who(settings.OIDC_ISSUER, claims["sub"], name, kept)


def _kept_answer(url: str, age: float) -> dict[str, Any]:
    """What a GET answers, kept for *age* seconds."""
    since, answer = _kept.get(url, (0.0, {}))
    if not answer or time.monotonic() - since > age:
        answer = _ask("GET", url)
        _kept[url] = (time.monotonic(), answer)
    return answer


@cache
def _tls() -> ssl.SSLContext:
    """httpx's own: to make one takes as long as many requests."""
    return httpx.create_ssl_context()


def _ask(method: str, url: str, **more: Any) -> dict[str, Any]:
    """A JSON object of the provider's. Raises ProviderError."""
    try:
        reply = httpx.request(method, url, timeout=TIMEOUT, verify=_tls(), **more)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ProviderError(f"{url} can’t be reached: {error or type(error).__name__}") from None
    try:
        answer = json_of(reply)
    except ValueError:
        answer = None
    if not reply.is_success or not isinstance(answer, dict):
        said = answer.get("error") if isinstance(answer, dict) else "no JSON"
        raise ProviderError(f"{url} answered {reply.status_code}: {said}")
    return answer
