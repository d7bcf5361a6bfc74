"""The shape of the code: imports point one way, pure modules are pure, everything says what it is for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    path
    for part in ("jobs", "mediapipe")
    for path in (ROOT / part).rglob("*.py")
    if "migrations" not in path.parts
]
# A module imports from its own layer's left only; what is not named is free.
LAYERS = (
    ("pipelines", "values", "replies", "ittybit", "messages"),
    ("models",),
    ("activities", "workflows", "stages", "attempts"),
    ("temporal", "live"),
    (
        "views",
        "pages",
        "admin",
        "history",
        "machines",
        "workers",
        "reconcile",
        "incoming",
        "tus",
        "uploads",
        "commands",
    ),
)
KINDS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
PURE = (
    "jobs.dashboard.time_axis",
    "jobs.pipelines",
    "jobs.state",
    "jobs.ittybit.client",
    "jobs.ittybit.lenient_json",
    "jobs.ittybit.replies",
    "mediapipe.engine.plan",
    "mediapipe.engine.options",
)


def imported(path: Path) -> set[str]:
    """The modules that a file imports, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(name: str) -> int | None:
    return next((at for at, names in enumerate(LAYERS) if name in names), None)


def test_imports_of_the_application_point_one_way():
    wrong = []
    for path in (ROOT / "jobs").glob("*.py"):
        own = layer(path.stem)
        for name in imported(path):
            other = layer(name.split(".")[1]) if name.startswith("jobs.") else None
            if own is not None and other is not None and other > own:
                wrong.append(f"{path.stem} imports {name}")
    assert not wrong


def test_only_http_joins_the_application_and_the_engine():
    for path in SOURCES:
        names = imported(path)
        if path.is_relative_to(ROOT / "jobs"):
            assert not any(name.startswith("mediapipe.engine") for name in names), path
        if path.is_relative_to(ROOT / "mediapipe" / "engine"):
            assert not any(name.split(".")[0] == "jobs" for name in names), path


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_without_django(module):
    code = f"import sys, {module}; assert not {{'django', 'temporalio'}} & {{*sys.modules}}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["jobs.workflow.media_pipeline", "mediapipe.engine.workflows"])
def test_a_workflow_knows_no_django(module):
    code = f"import sys, {module}; assert 'django' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_and_public_thing_says_what_it_is(path):
    tree = ast.parse(path.read_text())
    public = [tree] if tree.body else []
    for holder in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]:
        public += [node for node in holder.body if isinstance(node, KINDS) and not node.name.startswith("_")]
    names = [getattr(node, "name", "the module") for node in public if not ast.get_docstring(node)]
    assert [name for name in names if name != "Meta"] == []


def test_files_and_functions_stay_small():
    large = []
    for path in SOURCES:
        lines = path.read_text().splitlines()
        if len(lines) > 360:
            large.append(f"{path.name}: {len(lines)} lines")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno
                if length > 50:
                    large.append(f"{path.name}:{node.name}: {length} lines")
    assert not large
