"""Where the tests live: loaded by pytest before Django reads its settings (`-p` in pyproject.toml)."""

import os
import tempfile
from pathlib import Path

SHARED = Path(__file__).resolve().parents[3] / "shared"  # the media set, where it lies beside the repository

os.environ.setdefault("MEDIAPIPE_HOME", tempfile.mkdtemp(prefix="mediapipe-test-"))
os.environ["TEMPORAL_ADDRESS"] = "127.0.0.1:1"  # nobody's: a test says which Temporal it means
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # Playwright's sync API runs a loop in the main thread
for name in (
    "ITTYBIT_API_KEY",
    "ITTYBIT_API_URL",
    "MEDIAPIPE_PUBLIC_URL",
    "DATABASE_URL",
):
    os.environ.pop(name, None)
