"""What we ship of others: `python -m tests.support.supply` lists licences and known vulnerabilities.

It exits with 1 where a vulnerability is known, and says about what it could not ask: that is no clean answer.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.txt"
# Vendored as released on npm: file, package, version, SHA-256. The sourceMappingURL of two is cut off.
VENDORED = [
    (
        *("htmx-4.0.1.min.js", "htmx.org", "4.0.1"),
        "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
    ),
    (
        *("hx-ptag-4.0.1.min.js", "htmx.org", "4.0.1"),
        "1993b23e86553100e4f45eed1b756eb8cf53c5b2244caf98e58662dfde9ca069",
    ),
    (
        *("tus-4.3.1.min.js", "tus-js-client", "4.3.1"),
        "2370de43c57969760dfdab84e2b50a675c5459b91e4c8f809e6fda0f8376c892",
    ),
    (
        *("hls.light-1.7.4.min.js", "hls.js", "1.7.4"),
        "236fded746599de9a54ee84b0a7d1ea77399ad6f897fac36a4a8944b808a89f6",
    ),
]


def locked() -> dict[str, str]:
    """The lock's packages and their versions."""
    return dict(re.findall(r"^([\w.\-\[\]]+)==([^\s;\\]+)", LOCK.read_text(), flags=re.M))


def licence(name: str) -> str:
    """What an installed package says of its licence."""
    try:
        about = metadata(name.partition("[")[0])
    except PackageNotFoundError:
        return "not installed here"
    classified = [each for each in about.get_all("Classifier") or [] if each.startswith("License ::")]
    text = (about["License-Expression"] or about["License"] or "").strip().split("\n")[0]
    return text or ", ".join(each.rpartition(":: ")[2] for each in classified) or "says nothing"


def audit(seconds: int = 60) -> tuple[list[str], list[str], str]:
    """Known vulnerabilities, the packages that could be asked about, and why none could be."""
    program = str(Path(sys.executable).with_name("pip-audit"))
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    command = [program, "--requirement", str(LOCK), *options, "--timeout", "10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        answer = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return [], [], f"{type(error).__name__}: {error}"
    return (*judge(answer), "")


def judge(answer: dict) -> tuple[list[str], list[str]]:
    """The same of pip-audit's JSON, which calls what it could not ask about clean."""
    found, asked = [], []
    for package in answer["dependencies"]:
        if "skip_reason" not in package:
            asked.append(package["name"])
        for each in package.get("vulns", []):
            mended = ", ".join(each.get("fix_versions", [])) or "no version yet"
            found.append(f"{package['name']} {package['version']}: {each['id']}, mended in {mended}")
    return found, asked


def report() -> tuple[list[str], bool]:
    """The lines of the list, and whether no vulnerability is known."""
    lines = [f"{file}: {package} {version}" for file, package, version, _ in VENDORED]
    lines += [f"{name} {version}: {licence(name)}" for name, version in locked().items()]
    found, asked, why = audit()
    lines += [f"VULNERABLE: {each}" for each in found]
    lines.append(
        f"known vulnerabilities: {len(found)} in the {len(asked)} packages that could be asked about"
    )
    if unasked := {name.partition("[")[0] for name in locked()} - {*asked}:
        reason = why or f"the package index has no data on {', '.join(sorted(unasked))}"
        lines.append(f"COULD NOT ASK about {len(unasked)} of {len(locked())} packages: {reason}")
    return lines, not found


if __name__ == "__main__":
    printed, clean = report()
    print("\n".join(printed))
    sys.exit(0 if clean else 1)
