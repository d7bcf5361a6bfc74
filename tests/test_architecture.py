"""The shape of the code: imports point one way, pure modules are pure, everything says what it is for."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    path
    for part in ("jobs", "mediapipe")
    for path in (ROOT / part).rglob("*.py")
    if "migrations" not in path.parts
]
# Every module, from the ground up: it imports only modules that stand before it.
ORDER = """
mediapipe mediapipe.tracing mediapipe.addresses mediapipe.at_work mediapipe.places mediapipe.backup
mediapipe.content_encoding mediapipe.file_names mediapipe.content_disposition
mediapipe.home mediapipe.database mediapipe.disk
mediapipe.own_address mediapipe.environment mediapipe.kernel mediapipe.metrics mediapipe.pace
mediapipe.part mediapipe.payloads
mediapipe.log mediapipe.recent mediapipe.reply mediapipe.supervisor
mediapipe.temporal mediapipe.task_queues mediapipe.threads mediapipe.timestamps
mediapipe.validators mediapipe.task_options
mediapipe.url_safety
mediapipe.retention mediapipe.old_rows mediapipe.search_index
mediapipe.accounts.engine_key mediapipe.accounts.provider mediapipe.accounts.new_password
mediapipe.accounts.magic_link
mediapipe.accounts.roles mediapipe.accounts.models mediapipe.accounts.limits mediapipe.accounts.audit
mediapipe.accounts.audited_settings mediapipe.accounts.people mediapipe.accounts.retention
mediapipe.accounts.sessions mediapipe.accounts.login_required
mediapipe.accounts.identities mediapipe.accounts.single_sign_on
mediapipe.accounts.apps mediapipe.accounts.views mediapipe.accounts.visitor mediapipe.temporal_ui
mediapipe.storage.content_types mediapipe.storage.s3 mediapipe.storage.multipart mediapipe.storage.outage
mediapipe.storage mediapipe.storage.archive mediapipe.remote mediapipe.download
mediapipe.storage.views
mediapipe.web.requests mediapipe.web.handler mediapipe.web.middleware mediapipe.web.refusal
mediapipe.web.request_body mediapipe.web.connections
mediapipe.engine
mediapipe.engine.broadcasts mediapipe.engine.containers
mediapipe.engine.described mediapipe.engine.tracks mediapipe.engine.survey
mediapipe.engine.turns mediapipe.engine.first_pictures mediapipe.engine.edits mediapipe.engine.same_times
mediapipe.engine.clock mediapipe.engine.intact mediapipe.engine.looks mediapipe.engine.seams
mediapipe.engine.picture_times
mediapipe.engine.probe
mediapipe.engine.errors
mediapipe.engine.timecode mediapipe.engine.media mediapipe.engine.encode
mediapipe.engine.not_media mediapipe.engine.fetch mediapipe.engine.system_calls mediapipe.engine.sandbox
mediapipe.engine.prober
mediapipe.engine.measures mediapipe.engine.instep mediapipe.engine.findings
mediapipe.engine.colours mediapipe.engine.packets mediapipe.engine.arguments
mediapipe.engine.sound mediapipe.engine.plan
mediapipe.engine.pieces mediapipe.engine.piece_arguments
mediapipe.engine.listening mediapipe.engine.lookthrough
mediapipe.engine.stills mediapipe.engine.previews mediapipe.engine.compare mediapipe.engine.segments
mediapipe.engine.verify
mediapipe.engine.beside
mediapipe.engine.kinds
mediapipe.engine.course mediapipe.engine.models mediapipe.engine.retention mediapipe.engine.gauges
mediapipe.engine.apps
mediapipe.engine.openapi
mediapipe.engine.options
mediapipe.engine.serialize mediapipe.engine.source_check mediapipe.engine.folders
mediapipe.engine.hooks mediapipe.engine.piece_files mediapipe.engine.sources mediapipe.engine.task
mediapipe.engine.check mediapipe.engine.piecework
mediapipe.engine.workflows mediapipe.engine.queue
mediapipe.engine.views mediapipe.engine.urls mediapipe.engine.webhook mediapipe.engine.surroundings
mediapipe.engine.giving_back
mediapipe.engine.imports mediapipe.engine.piece_activity mediapipe.engine.worker
jobs jobs.findings jobs.pipelines jobs.option_words jobs.pipeline_rules
jobs.result jobs.state jobs.requests jobs.waits
jobs.notifications.events jobs.notifications.wording jobs.notifications.delivery_workflow
jobs.notifications.push_message
jobs.batches.batch_workflow jobs.removal.prune_workflow
jobs.ittybit.lenient_json jobs.ittybit.replies jobs.ittybit.resource jobs.ittybit.probe jobs.ittybit.client
jobs.engine
jobs.models.api_token jobs.models.event jobs.models.fleet_worker
jobs.models.turn
jobs.models.job_queryset jobs.models.saved_view
jobs.models.stage jobs.models.trashed_file jobs.models.upload
jobs.models.wish jobs.models.notice jobs.models.job_row jobs.models.earlier_version jobs.models.pipeline
jobs.models.removal
jobs.models.job jobs.models.share jobs.models.batch
jobs.models.destination jobs.models.delivery
jobs.models
jobs.workflow.activity_calls jobs.workflow.failures jobs.workflow.receipt jobs.workflow.search_attributes
jobs.workflow.needs jobs.workflow.stage_run jobs.workflow.media_pipeline jobs.workflow.watch
jobs.workflow.limits jobs.workflow.webhook
jobs.workflow.activities
jobs.fleet.pausing jobs.removal.trash jobs.trouble jobs.live jobs.workflow_calls jobs.control
jobs.removal.deleting jobs.remaking
jobs.finished jobs.shares
jobs.serialize jobs.removal.orphans jobs.removal.retention jobs.dashboard.formatting jobs.removal.pruning
jobs.api.problems jobs.api.bearer
jobs.uploads.errors jobs.uploads.naming jobs.uploads.source_check
jobs.uploads.arriving jobs.uploads.part_file jobs.uploads.bucket_part
jobs.uploads.intake jobs.uploads.one_piece jobs.uploads.becoming jobs.uploads.sample_clip
jobs.uploads.sweeping jobs.uploads.tus jobs.uploads.writing jobs.uploads.arrived jobs.uploads.views
jobs.notifications.channels.channel jobs.notifications.channels.chat jobs.notifications.channels.mail
jobs.notifications.channels.webhook jobs.notifications.channels.browser
jobs.notifications.channels jobs.notifications.confirming jobs.notifications.payload
jobs.notifications.activities jobs.notifications.outbox
jobs.batches.activities jobs.batches.waking
jobs.closing jobs.fulfilling jobs.reconcile jobs.worker jobs.fleet.presence
jobs.dashboard.counting jobs.dashboard.keyset jobs.dashboard.searching
jobs.dashboard.advice jobs.dashboard.bulk jobs.dashboard.forms
jobs.dashboard.option_form jobs.dashboard.pipeline_form jobs.dashboard.output_view
jobs.dashboard.polling jobs.dashboard.stage_view
jobs.dashboard.time_axis jobs.dashboard.stage_axis jobs.dashboard.check_view
jobs.dashboard.saved_views
jobs.dashboard.presenters jobs.dashboard.job_page jobs.dashboard.job_list jobs.dashboard.figures
jobs.dashboard.history jobs.dashboard.news
jobs.dashboard.people jobs.dashboard.audit_page jobs.fleet.line jobs.fleet.first
jobs.dashboard.fleet_workers jobs.dashboard.fleet_pruned jobs.dashboard.fleet
jobs.dashboard.keeping jobs.dashboard.pipeline_pages jobs.dashboard.trash_page jobs.dashboard.bulk_page
jobs.batches.sources jobs.batches.forms jobs.batches.manifest jobs.batches.views
jobs.dashboard.views jobs.dashboard.downloads jobs.dashboard.stage_page jobs.dashboard.source_page
jobs.dashboard.sharing
jobs.dashboard.handed_over jobs.notifications.views
jobs.api.cursor jobs.api.schemas jobs.api.submission jobs.api.description jobs.api.views jobs.api.making
jobs.api.batches
jobs.api.urls jobs.api.tokens
jobs.gauges jobs.monitoring jobs.templatetags
jobs.templatetags.films jobs.templatetags.icons jobs.templatetags.moments jobs.templatetags.titles
jobs.templatetags.uploading
jobs.records
jobs.admin
jobs.management.commands.outputs
jobs.apps jobs.urls
mediapipe.management.process mediapipe.management.arguments mediapipe.management.command_line
jobs.management.verbs jobs.management.remote jobs.management.sources
jobs.management.commands.cancel jobs.management.commands.check-engine
jobs.management.commands.retry jobs.management.commands.rename jobs.management.commands.share
jobs.management.commands.make-again jobs.management.commands.replace-source
jobs.management.commands.status jobs.management.commands.submit
jobs.management.commands.submit-batch jobs.management.commands.prune
mediapipe.clocks mediapipe.finding mediapipe.doctor_machine
mediapipe.management.commands.test mediapipe.management.commands.web mediapipe.management.dev_server
mediapipe.management.commands.up
mediapipe.management.commands.worker
mediapipe.doctor mediapipe.management.commands.doctor
mediapipe.management.commands.backup mediapipe.management.commands.audit
mediapipe.management.commands.restore
mediapipe.apps mediapipe.urls mediapipe.asgi mediapipe.settings
""".split()  # noqa: SIM905 - a hundred quotes would not read better
WORKFLOWS = (
    "jobs.workflow.media_pipeline",
    "jobs.notifications.delivery_workflow",
    "jobs.batches.batch_workflow",
    "jobs.removal.prune_workflow",
    "mediapipe.engine.workflows",
)
KINDS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def dotted(path: Path) -> str:
    """A file's module name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path): path for path in SOURCES if path.read_text().strip()}


@cache
def parsed(path: Path) -> ast.Module:
    """A file's syntax: each is read once."""
    return ast.parse(path.read_text())


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@cache
def imported(path: Path) -> frozenset[str]:
    """The modules of ours that a file imports when it runs; for the settings also those that strings name."""
    found: set[str] = set()
    body = [node for node in parsed(path).body if not _is_for_types(node)]
    for node in ast.walk(ast.Module(body, [])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif path.name == "settings.py" and isinstance(node, ast.Constant):
            found |= set(re.findall(r"^(?:jobs|mediapipe)(?:\.\w+)+$", str(node.value)))
    modules = {name if name in MODULES else name.rpartition(".")[0] for name in found}
    return frozenset(modules & set(MODULES) - {dotted(path)})


def test_every_module_stands_in_the_order():
    assert sorted(ORDER) == sorted(MODULES)


def test_imports_point_one_way():
    place = {name: at for at, name in enumerate(ORDER)}
    wrong = [
        f"{name} imports {other}"
        for name, path in MODULES.items()
        for other in imported(path)
        if place[other] > place[name]
    ]
    assert not wrong


def test_only_http_joins_the_application_and_the_engine():
    def room(name: str) -> str:
        return "engine" if name.startswith("mediapipe.engine") else name.split(".")[0]

    joined = [
        f"{name} imports {other}"
        for name, path in MODULES.items()
        for other in imported(path)
        if {room(name), room(other)} == {"engine", "jobs"}
    ]
    assert not joined


def test_the_application_reads_no_setting_that_names_the_engine():
    tree = parsed(MODULES["mediapipe.settings"])
    names = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and "mediapipe.engine" in ast.unparse(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert "INSTALLED_APPS" in names  # or this test has gone blind
    readers = [
        f"{name} reads {setting}"
        for name, path in MODULES.items()
        if name.startswith("jobs")
        for setting in names
        if re.search(rf"\bsettings\.{setting}\b", path.read_text())
    ]
    assert not readers


PURE = sorted(
    name
    for name, path in MODULES.items()
    if "Pure" in path.read_text() and re.search(r"\bPure\b", ast.get_docstring(parsed(path)) or "")
)


def test_modules_that_say_they_are_pure_import_without_django():
    code = """
import sys, importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
    if {"django", "temporalio"} & {*sys.modules}:
        sys.exit(f"{name} isn't pure")
"""
    done = subprocess.run([sys.executable, "-c", code, *PURE], cwd=ROOT, capture_output=True, text=True)
    assert PURE and done.returncode == 0, done.stderr


def test_a_workflow_knows_no_django():
    code = """
import sys, importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
    if "django" in sys.modules:
        sys.exit(f"{name} knows Django")
"""
    done = subprocess.run([sys.executable, "-c", code, *WORKFLOWS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "package",
    ["jobs", "jobs.workflow", "jobs.notifications", "jobs.batches", "jobs.ittybit", "mediapipe"],
)
def test_what_temporals_sandbox_imports_again_runs_no_code(package):
    tree = ast.parse((ROOT / Path(*package.split(".")) / "__init__.py").read_text())
    assert all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in tree.body)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_and_public_thing_says_what_it_is(path):
    tree = parsed(path)
    public = [tree] if tree.body else []
    for holder in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]:
        public += [node for node in holder.body if isinstance(node, KINDS) and not node.name.startswith("_")]
    names = [getattr(node, "name", "the module") for node in public if not ast.get_docstring(node)]
    assert [name for name in names if name != "Meta"] == []


def test_files_and_functions_stay_small():
    large = []
    for path in SOURCES:
        lines = path.read_text().splitlines()
        if len(lines) > 300:
            large.append(f"{path.name}: {len(lines)} lines")
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 40:
                    large.append(f"{path.name}:{node.name}: {length} lines")
    assert not large
