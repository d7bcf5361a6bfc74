"""The engine's bearer key: who sends it may use the engine's API and read the metrics. It knows neither."""

from __future__ import annotations

import hmac

from django.conf import settings


def is_valid(given: str) -> bool:
    """Whether *given* is the key, or one that counts too while the key is replaced."""
    keys = (settings.ENGINE_KEY, *settings.ENGINE_KEY_FALLBACKS)
    return any(hmac.compare_digest(given.encode(), key.encode()) for key in keys)
