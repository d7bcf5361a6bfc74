"""A company's OpenID provider: a real HTTP server that signs its tokens, and lies where a test says so."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT = ("mediapipe", "a secret of both")


class Provider:
    """`person` is who signs in there; `claims`, `header` and `key` change the next tokens."""

    def __init__(self) -> None:
        self.keys = [RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})]
        self.person = {"sub": "4711", "preferred_username": "ada"}
        self.userinfo = {}
        self.claims, self.header, self.key = {}, {"alg": "RS256", "kid": "one"}, None
        self.codes: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.broken = ""  # a path that answers a proxy's page
        self.page = "<html>Bad gateway"  # in place of what is broken
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def do_GET(self):
                self.reply({}, "")

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.reply(dict(parse_qsl(body)), self.headers.get("Authorization", ""))

            def reply(self, form, authorization):
                provider.asked.append(self.path)
                status, answer = 502, provider.page
                if self.path != provider.broken:
                    status, answer = provider.answer(self.path, form, authorization)
                    answer = json.dumps(answer)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer.encode())

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}/realm"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path, form, authorization):
        if path == "/realm/.well-known/openid-configuration":
            ends = {"authorization": "auth?tenant=1", "token": "token", "userinfo": "userinfo"}
            about = {f"{name}_endpoint": f"{self.issuer}/{end}" for name, end in ends.items()}
            return 200, {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", **about}
        if path == "/realm/keys":
            return 200, {"keys": [key.as_dict(private=False) for key in self.keys]}
        if path == "/realm/userinfo":
            return 200, {"sub": self.person["sub"], **self.userinfo}
        if path == "/realm/token":
            return self.token(form, authorization)
        return 404, {}

    def token(self, form, authorization):
        if authorization != f"Basic {base64.b64encode(':'.join(CLIENT).encode()).decode()}":
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form["code"], None)  # a code counts once
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if not asked or asked["code_challenge"] != challenge or asked["redirect_uri"] != form["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT[0], "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        claims = {name: value for name, value in (claims | self.person | self.claims).items() if value}
        algorithms = [self.header["alg"]]
        token = jwt.encode(self.header, claims, self.key or self.keys[0], algorithms=algorithms)
        return 200, {"access_token": "x", "token_type": "Bearer", "id_token": token}

    def sign_in(self, url: str) -> str:
        """What the provider's own pages do: the address that the browser is sent back to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert url.startswith(f"{self.issuer}/auth?tenant=1&") and asked["response_type"] == "code"
        code = hashlib.sha256(url.encode()).hexdigest()[:20]
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"


def shared_secret() -> OctKey:
    """What a confused client might take for a key: the provider's secret."""
    return OctKey.import_key(CLIENT[1].ljust(32))
