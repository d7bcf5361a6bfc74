"""Which tests a run takes, in what order, and which of them share a worker (a pytest plugin).

`--quick` takes what needs no server, `--all` also what only a release needs; neither is the run of every day.
A server is started once per worker that needs it, so tests that share a server share a worker.
"""

from __future__ import annotations

import json
import os
from collections import Counter

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
# Not in the quick loop, which doesn't even read it: what needs a server or a browser, encodes for seconds,
# starts program after program, tries hundreds of inputs, or is about chaos. Single tests are marked `slow`.
SLOW = """
durable/test_01_crash_and_resume durable/test_03_hold_and_retry durable/test_12_who_owns_the_state
durable/test_14_made_again durable/test_15_a_check durable/test_16_any_order durable/test_17_batches
durable/test_18_edited_pipelines
test_api_whole test_backup test_bucket test_chaos test_chaos_judge test_doctor test_drawn
test_engine_api test_engine_check test_engine_compare test_engine_formats test_engine_hostile
test_engine_photos test_engine_pictures test_engine_pieces test_engine_pieces_parts
test_engine_pieces_sources test_engine_previews
test_engine_pieces_stream test_engine_shared
test_engine_stream test_engine_tasks test_engine_times test_engine_tracks
test_first_start test_fuzz test_hostile_clients test_many test_one_machine test_postgres
test_private_authority test_replacing_keys test_sandbox test_secrets test_several_machines
test_temporal_door
test_temporal_tls test_tracing test_tus_clients test_uploads_in_a_bucket test_whole
test_wrong_values
""".split()  # noqa: SIM905 - forty quotes would not read better
SLOW = {f"tests/{name}.py" for name in SLOW}
FIRST = [
    "tests/test_job_machine.py",
    "product",
    "cloud browser",
    "temporal",
    "cloud",
    "product browser",
    "skipping",
    *("tests/test_postgres.py", "tests/test_bucket.py", "tests/test_drawn.py"),
    *("tests/test_engine_pieces.py", "tests/test_engine_check.py"),
    "tests/durable/test_13_slowness_holds_no_slot.py",
    "tests/durable/test_02_a_misbehaving_api.py",
]  # the longest begin first, then those of few tests that would be alone at the end


def further(*values, **about):
    """A further example of a rule of which `test` takes another: only a release takes all."""
    return pytest.param(*values, marks=pytest.mark.release, **about)


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
    groups = {item: _group(item) for item in taken}
    sizes = Counter(groups.values())
    taken.sort(key=lambda item: _place(item, sizes[groups[item]]) if _is_worker(config) else _weight(item))
    items[:] = taken
    if _is_worker(config):
        new = RUN / f"groups-{os.getpid()}"
        new.write_text(json.dumps({item.nodeid: group for item, group in groups.items()}))
        new.rename(GROUPS)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item, nextitem):
    """Stops what a group has shared after its last test: nobody in this worker asks for it again."""
    try:
        return (yield)
    finally:
        if _is_worker(item.config) and nextitem and _group(nextitem) != _group(item):
            for name in SHARED:
                for each in item.session._fixturemanager.getfixturedefs(name, item) or ():
                    if each.scope == "session" and each.cached_result:
                        each.finish(item._request)


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
        slow = item.location[0] in SLOW or {"whole", "browser", "release", "slow"} & set(item.keywords)
        return not slow and not _servers(item) and "bucket" not in item.fixturenames
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


def _place(item, size: int) -> tuple[int, int]:
    """The few that take long, then what is whole, then the modules of many tests: at the end small ones."""
    group = _group(item)
    early = FIRST.index(group) if group in FIRST else len(FIRST) + ("whole" not in item.keywords)
    return early, -size


def _weight(item) -> int:
    """In one process the quick tests come first."""
    return ("whole" in item.keywords) + ("browser" in item.keywords)
