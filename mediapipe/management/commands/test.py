"""Runs every check of the project: pytest, and beside it lint, types and templates.

What the tiers take and which checks there are stands in tests/support/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from ctypes.util import find_library

from django.conf import settings
from django.core.management.base import BaseCommand

# The headless shell is Chromium without its window: it starts in a third of the CPU time.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PACKAGES = ("libatomic1", "fonts-dejavu-core")
PARALLEL = ("--dist", "loadscope", "--no-loadscope-reorder")
COVERAGE = ("--cov", "--cov-report", "term:skip-covered")
APT = ("apt-get", "-qq", "-o", "Dpkg::Use-Pty=0")


class Command(BaseCommand):
    """`manage.py test [--quick | --all] [pytest arguments]`."""

    help = (
        "Runs the linters and pytest, in parallel. --quick: what needs no server; --all: also what a release "
        "needs. Other arguments go to pytest; where they name tests, it is one process."
    )
    requires_system_checks: list[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        """All arguments are pytest's, the tiers too (tests/support/tiers.py); its exit status is ours."""
        arguments = argv[2:]
        names_tests = any(not each.startswith("-") for each in arguments)
        workers = "4" if "--quick" in arguments else "6"  # on two cores: many tests wait, mostly for a server
        how = ["--checks", *([] if names_tests else ("-n", workers, *PARALLEL))]
        how += COVERAGE if "--all" in arguments else ()
        environment = dict(os.environ)
        # Else each worker would rewrite every test's asserts anew, and each process compile all of our code.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if "--quick" not in arguments and "MEDIAPIPE_BROWSER" not in environment:
            environment["MEDIAPIPE_BROWSER"] = browser()
        tests = [sys.executable, "-m", "pytest", *how, *arguments]
        sys.exit(subprocess.run(tests, cwd=settings.BASE_DIR, env=environment).returncode)


def apt(*arguments: str) -> bool:
    """Runs Debian's package manager; whether it did what was asked."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return not subprocess.run([*APT, *arguments], env=environment, stdout=subprocess.DEVNULL).returncode


def browser() -> str:
    """The path of a Chromium, installed first where there is none; nothing where that cannot be done."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found and find_library("atomic"):  # Playwright's driver needs it, and a bare Debian has it not
        return found
    if shutil.which("apt-get") and os.geteuid() == 0:
        print(
            "The browser tests need a Chromium and there is none: installing Debian's by apt-get ...",
            flush=True,
        )
        apt("update")
        for name in BROWSERS[:2]:  # an older Debian has no headless shell
            if apt("install", "-y", "--no-install-recommends", name, *PACKAGES):
                break
        found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found:
        return found
    print("Installing Playwright's own Chromium for the browser tests ...", flush=True)
    if subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"]).returncode == 0:
        return "playwright"
    print(
        "NO BROWSER could be installed: the browser tests are skipped (with CI=true they fail).", flush=True
    )
    return ""
