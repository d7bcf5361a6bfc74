"""What we ship of others is what it says it is, and what nobody could be asked about is not called clean."""

from __future__ import annotations

import hashlib
import re

import pytest

from tests.support.supply import ROOT, VENDORED, judge, licence, locked, report


def test_vendored_scripts_are_the_releases_that_their_names_say():
    vendored = {path.name: path for path in (ROOT / "static" / "vendor").iterdir()}
    assert {*vendored} == {file for file, *_ in VENDORED}
    for file, _, version, digest in VENDORED:
        assert hashlib.sha256(vendored[file].read_bytes()).hexdigest() == digest, file
        assert f"-{version}." in file


def test_pages_load_no_other_vendored_script():
    templates = "".join(path.read_text() for path in (ROOT / "templates").rglob("*.html"))
    used = {*re.findall(r"vendor/([\w.\-]+)", templates)}
    assert used <= {file for file, *_ in VENDORED} and used


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_every_locked_package_has_hashes_and_comes_from_no_address(lock):
    text = (ROOT / lock).read_text()
    packages = re.split(r"\n(?=\S)", text.strip())
    assert [each.split()[0] for each in packages if "--hash=sha256:" not in each] == []
    assert "://" not in text and "--index" not in text


def test_what_could_not_be_asked_about_is_not_counted_as_without_vulnerabilities():
    vulnerable = {"id": "CVE-1", "fix_versions": ["2.0"]}
    answer = {
        "dependencies": [
            {"name": "a", "version": "1.0", "vulns": [vulnerable]},
            {"name": "b", "version": "1.0", "vulns": []},
            {"name": "c", "skip_reason": "Dependency not found"},
        ]
    }
    assert judge(answer) == (["a 1.0: CVE-1, mended in 2.0"], ["a", "b"])


def test_every_licence_of_the_lock_is_known():
    silent = [name for name in locked() if licence(name) == "says nothing"]
    assert silent == []


@pytest.mark.release
def test_no_vulnerability_is_known_of_the_lock(record_property):
    lines, clean = report()
    record_property("supply", "\n".join(lines))
    assert clean, "\n".join(lines)
