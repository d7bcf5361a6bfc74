"""What the documents say is true: settings, commands, links; and nothing names a machine."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jobs.pipelines import PIPELINES

ROOT = Path(__file__).resolve().parents[1]
CODE = [path for part in ("jobs", "mediapipe") for path in (ROOT / part).rglob("*.py")] + [ROOT / "manage.py"]
MAP = ROOT / "docs" / "architecture.md"
OTHERS = {"CI", "MEDIAPIPE_BROWSER", "DJANGO_SETTINGS_MODULE", "TZ"}  # not settings of the product


def test_every_setting_is_in_the_example():
    pattern = re.compile(
        r'(?:environ(?:\.get\(|\[)|flag\(|number\(|days\(|hosts\(|location\(|comma_list\(|stored_secret\(|other_keys\(|address\(|log_level\(|port\(|pem_file\(|\b(?:exact_)?url\()\s*"([A-Z][A-Z0-9_]+)"'
    )
    read = {name for path in CODE for name in pattern.findall(path.read_text())} - OTHERS
    shown = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.M))
    assert read <= shown, f"not in .env.example: {read - shown}"
    known = {"TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY", "TEMPORAL_TLS", "TEMPORAL_TLS_CLIENT_CERT_PATH"}
    known |= {
        "TEMPORAL_TLS_CLIENT_KEY_PATH",
        "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
        "DATABASE_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    }  # read by libraries
    assert shown <= read | known, f"nothing reads: {shown - read - known}"


def test_the_readmes_commands_and_links_exist():
    readme = (ROOT / "README.md").read_text()
    commands = {path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")}
    named = set(re.findall(r"manage\.py ([\w-]+)", readme)) - {"createsuperuser", "changepassword"}
    assert named <= commands and commands <= named | {"test"}
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            assert link.startswith("http") or (document.parent / link).exists(), f"{document.name}: {link}"


def test_the_sentences_that_the_readme_explains_are_the_products():
    table = (ROOT / "README.md").read_text().split("## When something is wrong")[1]
    sentences = re.findall(r'"([^"]+)"', table)
    folders = ((ROOT / "jobs", "py"), (ROOT / "mediapipe", "py"), (ROOT / "templates", "html"))
    shown = "".join(path.read_text() for folder, kind in folders for path in folder.rglob(f"*.{kind}"))
    for sentence in sentences:
        pattern = re.sub(r"\d+", r"\\{.*?\\}+", re.escape(sentence))  # numbers are filled in
        assert re.search(pattern, shown), sentence
    assert len(sentences) > 5


def test_alerts_and_dashboards_ask_for_metrics_that_exist():
    code = "".join(path.read_text() for path in CODE)
    made = set(re.findall(r'"(mediapipe_[a-z_]+)"', code))
    made |= {f"mediapipe_{name}" for name in re.findall(r'gauge\("([a-z_]+)"', code)}
    folder = ROOT / "docs" / "deploy"
    for path in (
        folder / "prometheus" / "alerts.yml",
        folder / "prometheus" / "grafana.json",
        folder / "monitoring.md",
    ):
        asked = set(re.findall(r"mediapipe_[a-z_]+", path.read_text())) - {"mediapipe_engine_key"}
        asked = {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in asked}
        assert asked <= made and len(asked) > 7, (path.name, asked - made)


def test_prose_keeps_to_120_columns():
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.M | re.S)
        long = [line for line in prose.splitlines() if len(line) > 120 and not line.startswith("|")]
        assert not long, f"{document.name}: {long}"


def test_the_map_has_a_line_for_every_module_and_for_no_other():
    known = {str(path.relative_to(ROOT)) for path in CODE if "migrations" not in path.parts}
    empty = {name for name in known if name.endswith("__init__.py") or name == "manage.py"}
    shown = set(re.findall(r"^\| `((?:jobs|mediapipe)/[\w/-]+\.py)` \|", MAP.read_text(), re.M))
    assert shown <= known, shown - known
    assert known - empty <= shown, known - empty - shown


def test_the_pipelines_documented_exist():
    assert {"standard", "previews", "streaming", "checked"} == set(PIPELINES)


def test_nothing_committed_names_a_registry_or_a_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split("\n")
    for name in filter(None, listed):
        path = ROOT / name
        if path.suffix in (".png", ".gz") or "vendor" in path.parts or not path.is_file():
            continue
        text = path.read_text(errors="ignore")
        assert "index" + "-url" not in text and "/simple" + "/" not in text, name
        assert "/home/" + "user" not in text and "/ro" + "ot/" not in text, name


def test_a_lock_names_the_extras_that_its_packages_ask_for():
    """Without them pip looks for a newest release beside the pinned one, and refuses it as it has no hash."""
    for lock in (ROOT / "requirements.txt", ROOT / "requirements-dev.txt"):
        pinned = {}
        for name, extras in re.findall(r"^([\w.-]+)(?:\[([\w,-]+)\])?==", lock.read_text(), re.M):
            pinned[canonicalize_name(name)] = set(extras.split(",")) - {""}
        for package in pinned:
            try:
                wanted = requires(package) or []
            except PackageNotFoundError:  # of another platform or of the development lock
                continue
            for one in map(Requirement, wanted):
                applies = one.marker is None or one.marker.evaluate({"extra": ""})
                if one.extras and applies:
                    assert one.extras <= pinned[canonicalize_name(one.name)], f"{lock.name}: {package}: {one}"
