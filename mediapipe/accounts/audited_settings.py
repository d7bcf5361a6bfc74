"""Has the audit log say with which settings a web server starts, where they are others than before.

Settings are environment variables. One that may hold a secret is compared by a digest and never shown.
"""

from __future__ import annotations

import getpass
import logging
import os
import re
import socket
from collections.abc import Mapping

from django.db import DatabaseError, transaction
from django.utils.crypto import salted_hmac

from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act
from mediapipe.accounts.models import AuditEntry

log = logging.getLogger(__name__)
PREFIXES = ("MEDIAPIPE_", "TEMPORAL_", "ITTYBIT_", "DATABASE_URL")
# What `up` and the tests hand to their children, which nobody sets.
HANDED_ON = {"MEDIAPIPE_NO_VENV", "MEDIAPIPE_PORT", "MEDIAPIPE_LOCAL_URL"}
SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CERT|DATABASE_URL|://[^/]*@")
UNSET = "unset"


def shown(name: str, value: str) -> str:
    """A setting's value as the log may have it."""
    if not SECRET.search(f"{name} {value}"):
        return value
    mark = salted_hmac("accounts.audited_settings", f"{name}={value}", algorithm="sha256").hexdigest()[:12]
    return f"a secret ({mark})"


def note(environment: Mapping[str, str] = os.environ) -> None:
    """An entry for each setting that is another one than at the last start on this machine."""
    here = f"{getpass.getuser()}@{socket.gethostname()}"
    names = {name for name in environment if name.startswith(PREFIXES)} - HANDED_ON
    try:
        before = _last(here)
        with transaction.atomic():
            for name in sorted(names | set(before)):
                now = shown(name, environment[name]) if environment.get(name) else UNSET
                if now != before.get(name, UNSET):
                    audit.record(Act.CHANGE_SETTING, here, key=name, name=name, text=now)
    except DatabaseError as error:  # not there yet, or away: the server starts all the same
        log.warning("the settings aren't in the audit log: %s", error)


def _last(here: str) -> dict[str, str]:
    """Each setting as it was last recorded on this machine."""
    entries = AuditEntry.objects.filter(act=Act.CHANGE_SETTING.value, actor=here).order_by("pk")
    return dict(entries.values_list("key", "text"))
