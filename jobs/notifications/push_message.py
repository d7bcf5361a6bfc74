"""A message that one browser alone can read, signed for its push service. Pure.

By RFC 8291 (encryption, in RFC 8188's aes128gcm) and RFC 8292 (the signature). It sends nothing.
"""

from __future__ import annotations

import base64
import json
import os
import struct

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CURVE = ec.SECP256R1()
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of that curve
RECORD = 4096  # bytes: a message is one record
MAX_BYTES = 3900  # bytes of a message, which its service takes
VALID = 12 * 3600  # seconds for which a signature counts; a day at most
Key = ec.EllipticCurvePrivateKey


def encode(data: bytes) -> str:
    """As base64 for URLs, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of encode(). Raises ValueError."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def key_of(secret: str) -> Key:
    """The key that an installation signs with: made of its secret, so it is the same each time."""
    derived = HKDF(SHA256(), 48, None, b"mediapipe web push").derive(secret.encode())
    return ec.derive_private_key(int.from_bytes(derived) % (ORDER - 1) + 1, CURVE)


def public(key: Key) -> bytes:
    """The public half, as browsers want it: 65 bytes."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def encrypt(text: bytes, receiver: bytes, auth: bytes, once: Key | None = None, salt: bytes = b"") -> bytes:
    """The body for the push service; *receiver* and *auth* are the browser's. Raises ValueError.

    *once* and *salt* are new for each message.
    """
    once = once or ec.generate_private_key(CURVE)
    salt = salt or os.urandom(16)
    ours = public(once)
    shared = once.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(CURVE, receiver))
    secret = HKDF(SHA256(), 32, auth, b"WebPush: info\0" + receiver + ours).derive(shared)
    key = HKDF(SHA256(), 16, salt, b"Content-Encoding: aes128gcm\0").derive(secret)
    nonce = HKDF(SHA256(), 12, salt, b"Content-Encoding: nonce\0").derive(secret)
    head = salt + struct.pack(">IB", RECORD, len(ours)) + ours
    return head + AESGCM(key).encrypt(nonce, text + b"\2", None)


def authorization(key: Key, origin: str, contact: str, now: float) -> str:
    """The header by which the service at *origin* knows who sends; *contact* is a mailto: or https: URL."""
    claims = {"aud": origin, "exp": int(now) + VALID, "sub": contact}
    parts = [encode(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ES256"}, claims)]
    signed = ".".join(parts)
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(SHA256())))
    signature = encode(r.to_bytes(32) + s.to_bytes(32))
    return f"vapid t={signed}.{signature}, k={encode(public(key))}"
