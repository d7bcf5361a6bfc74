"""Which tests a run takes, in what order, and which of them share a worker (a pytest plugin).

`--quick` takes what needs no server, `--all` also what only a release needs; neither is the run of every day.
A server is started once per worker that needs it, so tests that share a server share a worker.
"""

from __future__ import annotations

import pytest

# What is started once for many tests: by its fixture, the group of tests that run in one worker.
SHARED = {
    "cloud": "cloud",
    "product": "product",
    "stored": "cloud",
    "database": "cloud",
    "dev_env": "temporal",
    "skipping_env": "temporal",
}
FIRST = ["product", "cloud", "temporal"]  # the longest begin first


def pytest_addoption(parser):
    """The tiers, and what only a person asks for."""
    group = parser.getgroup("mediapipe")
    group.addoption("--quick", action="store_true", help="only what needs no server: under a minute")
    group.addoption("--all", action="store_true", help="also what only a release needs: media set, chaos")
    group.addoption("--save-histories", action="store_true", help="write tests/histories/ anew")


def pytest_collection_modifyitems(config, items):
    """Leaves out other tiers' tests, names each one's group, and orders them."""
    taken = [item for item in items if _is_taken(config, item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(taken)])
    parallel = hasattr(config, "workerinput")
    for item in taken:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    taken.sort(key=_place if parallel else _weight)
    items[:] = taken


def _is_taken(config, item) -> bool:
    if config.option.quick:
        return not _servers(item) and not {"whole", "browser", "release"} & set(item.keywords)
    return config.option.all or "release" not in item.keywords


def _servers(item) -> list[str]:
    return [group for fixture, group in SHARED.items() if fixture in item.fixturenames]


def _group(item) -> str:
    """The first shared server that a test needs; else its module, whose fixtures are made once."""
    return next(iter(_servers(item)), item.location[0])


def _place(item) -> int:
    group = _group(item)
    return FIRST.index(group) if group in FIRST else len(FIRST) + ("whole" not in item.keywords)


def _weight(item) -> int:
    """In one process the quick tests come first."""
    return ("whole" in item.keywords) + ("browser" in item.keywords)
