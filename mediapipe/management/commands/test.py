"""Runs every check of the project: lint, types, templates, migrations, tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PACKAGES = ("chromium", "libatomic1", "fonts-dejavu-core")
APT = ("apt-get", "-qq", "-o", "Dpkg::Use-Pty=0")


class Command(BaseCommand):
    """`manage.py test [pytest arguments]`."""

    help = "Runs ruff, mypy, djlint and pytest; arguments go to pytest."
    requires_system_checks: list[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        """All arguments are pytest's; its exit status is ours, unless a check has failed."""
        root, scripts = settings.BASE_DIR, Path(sys.executable).parent
        checks = [
            ["ruff", "check", "."],
            ["ruff", "format", "--check", "."],
            ["mypy"],
            ["djlint", "templates", "--lint", "--quiet"],
        ]
        failed = [
            name
            for name, *arguments in checks
            if subprocess.run([str(scripts / name), *arguments], cwd=root).returncode
        ]
        migrations = [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"]
        failed += ["makemigrations"] if subprocess.run(migrations, cwd=root).returncode else []
        environment = {**os.environ, "MEDIAPIPE_BROWSER": browser()}
        if failed:
            print(f"Failed before the tests: {', '.join(failed)}. See above.", flush=True)
        tests = [sys.executable, "-m", "pytest", *argv[2:]]
        status = subprocess.run(tests, cwd=root, env=environment).returncode
        sys.exit(status or bool(failed))


def browser() -> str:
    """The path of a Chromium, installed first where there is none; nothing where that cannot be done."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found and find_library("atomic"):  # Playwright's driver needs it, and a bare Debian has it not
        return found
    if shutil.which("apt-get") and os.geteuid() == 0:
        print("Installing Debian's chromium for the browser tests ...", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            [*APT, "update"],
            [*APT, "install", "-y", "--no-install-recommends", *PACKAGES],
        ):
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL)
        found = shutil.which("chromium")
    if found:
        return found
    print("Installing Playwright's own Chromium for the browser tests ...", flush=True)
    if subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"]).returncode == 0:
        return "playwright"
    print(
        "NO BROWSER could be installed: the browser tests are skipped (with CI=true they fail).", flush=True
    )
    return ""
