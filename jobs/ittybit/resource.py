"""Which of the API's two resources takes our requests: set by an admin, remembered, or found out.

Pure. Ittybit has moved what we send from `POST /tasks` to `POST /jobs`, so an address may know one or the
other. What answered is remembered in a file, for this installation's other processes and the next start;
without it the next request finds out anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

import httpx

RESOURCES = ("tasks", "jobs")
NO_SUCH_RESOURCE = (404, 405)
# What an API says of an `input` that it wants as an object, or of a path that it doesn't know.
INPUT_TYPE = re.compile(r"object|dict|mapping|string|type|expected")
PATH = re.compile(r"\b(resource|endpoint|route)\b|/jobs\b|/tasks\b")


def refuses_resource(response: httpx.Response) -> bool:
    """Whether a reply to a create speaks of the resource or of its input's type, not of this very request."""
    if response.status_code in NO_SUCH_RESOURCE:
        return True
    if response.status_code not in (400, 422):
        return False
    text = response.text[:4000].lower()
    return bool(PATH.search(text)) or ("input" in text and bool(INPUT_TYPE.search(text)))


class Resource:
    """The resource of the API at the address *api*. *fixed*: set, so nothing is found out or remembered."""

    def __init__(self, fixed: str = "", memory: Path | None = None, api: str = "") -> None:
        self.fixed = fixed
        self._memory = memory
        self._api = api
        self._found = ""

    @property
    def found(self) -> str:
        """The one that has answered, in this process or another of this installation; "" while unknown."""
        if not self._found and self._memory:
            with contextlib.suppress(OSError, ValueError):
                known = json.loads(self._memory.read_text())
                if isinstance(known, dict) and known.get("api") == self._api:
                    self._found = known["resource"] if known.get("resource") in RESOURCES else ""
        return self._found

    @property
    def known(self) -> str:
        """The one that is set, or that was found; "" while unknown."""
        return self.fixed or self.found

    @property
    def name(self) -> str:
        """The one to ask first."""
        return self.known or RESOURCES[0]

    def remember(self, name: str) -> None:
        """It has answered as it should."""
        if self.fixed or self.found == name:
            return
        self._found = name
        if self._memory:
            new = self._memory.with_name(f"{self._memory.name}.{os.getpid()}")
            with contextlib.suppress(OSError):  # a memory is a convenience: the next process asks again
                new.write_text(json.dumps({"api": self._api, "resource": name}))
                new.replace(self._memory)


def other_than(name: str) -> str:
    """The other resource."""
    return RESOURCES[1 - RESOURCES.index(name)]
