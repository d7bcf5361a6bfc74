"""Lint, types and templates, as processes beside the tests (a pytest plugin: `--checks`).

It knows commands and exit statuses. What a check prints is shown only where it fails, before pytest's closing
line; a failed check fails the run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECKS = {
    "ruff check": ("ruff", "check", "."),
    "ruff format": ("ruff", "format", "--check", "."),
    "mypy": ("mypy",),
    "djlint": ("djlint", "templates", "--lint", "--quiet"),
    "djangofmt": ("djangofmt", "--check", "templates"),
    "biome": ("biome", "ci", "--colors=off"),
}


def pytest_addoption(parser):
    """Whether the checks run."""
    parser.getgroup("mediapipe").addoption("--checks", action="store_true", help="run the linters too")


def pytest_configure(config):
    """Only the process that a person started makes the checks, not its workers."""
    if config.option.checks and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Checks(), "mediapipe-checks")


class Checks:
    """The running checks, and the output of those that have failed."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[subprocess.Popen, object]] = {}
        self.failed: dict[str, str] = {}

    def pytest_report_header(self) -> str:
        """Says that they run."""
        return f"checks: {', '.join(CHECKS)}"

    def pytest_sessionstart(self) -> None:
        """Starts all of them."""
        scripts = Path(sys.executable).parent
        for name, (program, *arguments) in CHECKS.items():
            output = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the session ends
            command = [str(scripts / program), *arguments]
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
            self.running[name] = process, output

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session) -> None:
        """Waits for them; a failed one fails a run whose tests have passed."""
        for name, (process, output) in self.running.items():
            if process.wait():
                output.seek(0)
                self.failed[name] = output.read().decode(errors="replace")
            output.close()
        if self.failed and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter) -> None:
        """Shows what the failed ones printed."""
        for name, output in self.failed.items():
            terminalreporter.section(f"{name} failed", red=True)
            terminalreporter.write(output.rstrip() + "\n")
        if self.failed:
            terminalreporter.section(f"failed checks: {', '.join(self.failed)}", red=True)
