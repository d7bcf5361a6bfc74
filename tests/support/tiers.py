"""Which tests a run takes, in what order, and which of them share a worker (a pytest plugin).

`--quick` takes what needs no server, `--all` also what only a release needs; neither is the run of every day.
A server is started once per worker that needs it, so tests that share a server share a worker.
"""

from __future__ import annotations

import json
import os

import pytest

from tests.support.environment import RUN

# What is started once for many tests: by its fixture, the group of tests that run in one worker.
SHARED = {
    "cloud": "cloud",
    "product": "product",
    "stored": "cloud",
    "database": "cloud",
    "dev_env": "temporal",
    "skipping_env": "skipping",
}
GROUPS = RUN / "groups.json"  # of each test, from the workers, who collect, for the one who hands out
# What encodes for seconds, starts program after program, or is about chaos: not in the quick loop.
ENCODE = (
    "check",
    "compare",
    "formats",
    "hostile",
    "photos",
    "pictures",
    "pieces",
    "previews",
    "shared",
    "stream",
    "tasks",
    "tracks",
)
SLOW = {f"tests/test_engine_{name}.py" for name in ENCODE}
SLOW |= {f"tests/test_{name}.py" for name in ("backup", "chaos_judge", "drawn", "first_start", "sandbox")}
FIRST = [
    "product",
    "cloud browser",
    "temporal",
    "cloud",
    "product browser",
    "skipping",
]  # the longest begin first


def pytest_addoption(parser):
    """The tiers, and what only a person asks for."""
    group = parser.getgroup("mediapipe")
    group.addoption("--quick", action="store_true", help="only what needs no server: under a minute")
    group.addoption("--all", action="store_true", help="also what only a release needs: media set, chaos")
    group.addoption("--save-histories", action="store_true", help="write tests/histories/ anew")


def pytest_terminal_summary(terminalreporter):
    """What a release's list of packages and licences says is shown though its test passes."""
    for report in terminalreporter.stats.get("passed", []):
        for name, text in getattr(report, "user_properties", []):
            if name == "supply":
                terminalreporter.section("packages, licences, vulnerabilities")
                terminalreporter.write_line(text)


def pytest_ignore_collect(collection_path, config):
    """In the quick loop no module is even read of which it takes no test."""
    if config.option.quick and collection_path.suffix == ".py":
        name = str(collection_path.relative_to(config.rootpath))
        return True if name in SLOW or name.startswith("tests/test_browser") else None
    return None


def pytest_collection_modifyitems(config, items):
    """Leaves out other tiers' tests, names each one's group, and orders them."""
    judged = [(item, _is_taken(config, item)) for item in items]
    taken = [item for item, is_taken in judged if is_taken]
    config.hook.pytest_deselected(items=[item for item, is_taken in judged if not is_taken])
    taken.sort(key=_place if _is_worker(config) else _weight)
    items[:] = taken
    if _is_worker(config):
        new = RUN / f"groups-{os.getpid()}"
        new.write_text(json.dumps({item.nodeid: _group(item) for item in taken}))
        new.rename(GROUPS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """One worker for each group; pytest-xdist's own loadgroup loses the groups (pytest-xdist#1386)."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        """Asks the workers' list for the group of a test."""

        groups: dict[str, str] | None = None

        def _split_scope(self, nodeid: str) -> str:
            self.groups = self.groups or json.loads(GROUPS.read_text())
            return self.groups[nodeid]

    return ByGroup(config, log)


def _is_worker(config) -> bool:
    return hasattr(config, "workerinput")


def _is_taken(config, item) -> bool:
    if config.option.quick:
        slow = item.location[0] in SLOW or {"whole", "browser", "release"} & set(item.keywords)
        return not slow and not _servers(item)
    return config.option.all or "release" not in item.keywords


def _servers(item) -> list[str]:
    """The shared servers that a test needs; a module's own fixture of such a name is none."""
    return [group for fixture, group in SHARED.items() if _is_shared(item, fixture)]


def _is_shared(item, fixture: str) -> bool:
    definitions = item._fixtureinfo.name2fixturedefs.get(fixture, ())
    return any(each.baseid in ("", "tests") for each in definitions[-1:])


def _group(item) -> str:
    """The first shared server that a test needs, twice where many also need a browser; else its module."""
    server = next(iter(_servers(item)), "")
    if server and "browser" in item.keywords:
        return f"{server} browser"
    return server or item.location[0]


def _place(item) -> int:
    group = _group(item)
    return FIRST.index(group) if group in FIRST else len(FIRST) + ("whole" not in item.keywords)


def _weight(item) -> int:
    """In one process the quick tests come first."""
    return ("whole" in item.keywords) + ("browser" in item.keywords)
