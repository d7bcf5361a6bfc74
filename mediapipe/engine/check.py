"""One task of the kind `check` from start to end: its files, a look through each output, a report.

It knows storage, and neither the database nor the queue. What it looks for is lookthrough.py's.
"""

from __future__ import annotations

import json
from pathlib import Path

from mediapipe import storage
from mediapipe.engine import prober
from mediapipe.engine.errors import TaskError
from mediapipe.engine.findings import Finding
from mediapipe.engine.folders import clear, folder
from mediapipe.engine.hooks import Hooks
from mediapipe.engine.kinds import Kind
from mediapipe.engine.listening import File
from mediapipe.engine.lookthrough import Lookthrough, Report
from mediapipe.engine.serialize import file_facts
from mediapipe.engine.sources import source_file
from mediapipe.engine.task import TaskOutput, store
from mediapipe.validators import Options, links_of


async def process(task_id: str, kind: Kind, options: Options, kept: str, hooks: Hooks) -> TaskOutput:
    """Looks through the outputs that *options* name, beside the source that is *kept* in the task's row.

    An output that can't be read is a finding. Raises TaskError, OSError; the caller clears the folder.
    """
    clear(task_id)
    work = folder(task_id) / "out"
    work.mkdir(parents=True)
    hooks.step("import")
    path, filename = await source_file(kept, folder(task_id) / "input", hooks)
    named = links_of(options["outputs"])
    paths = {name: await _output(name, url, folder(task_id), hooks) for name, url in named.items()}
    hooks.step("probe", **({"filename": filename} if filename else {}))
    source = File("source", path, await prober.probe(path))
    hooks.step("encode", file=file_facts(source.media, path))
    reports = await _reports(source, paths, work, hooks)
    hooks.step("export")
    found = [each for report in reports.values() for each in report.findings]
    findings = [each.as_json() for each in sorted(found, key=lambda each: not each.look)]
    target = work / "report.json"
    outputs = {output: report.as_json() for output, report in reports.items()}
    target.write_text(json.dumps({"outputs": outputs, "findings": findings}))
    facts = {"object": "file", "kind": kind.name, "format": "json", "filesize": target.stat().st_size}
    name = f"outputs/{task_id}.json"
    await store(target, name, hooks)
    return TaskOutput({"name": name, **facts, "findings": findings})


async def _output(name: str, url: str, work: Path, hooks: Hooks) -> Path:
    """An output as a file. Raises TaskError: it must be one of ours."""
    kept = storage.to_kept(url)
    if not kept.startswith(storage.OWN_FILE_PREFIX):
        raise TaskError("source_refused", f"The output {name} isn’t a file of this installation.")
    path, _ = await source_file(kept, work / name, hooks)
    return path


async def _reports(source: File, paths: dict[str, Path], work: Path, hooks: Hooks) -> dict[str, Report]:
    """A report on each output; one that can't be read takes none of the others with it."""
    reports = {}
    outputs = []
    for name, path in paths.items():
        try:
            outputs.append(File(name, path, await prober.probe(path)))
        except TaskError as error:
            reports[name] = _unreadable(name, error)
    looks = Lookthrough(source, outputs, work, hooks.report)
    for output in outputs:
        try:
            reports[output.name] = await looks.through(output)
        except TaskError as error:
            reports[output.name] = _unreadable(output.name, error)
    return reports


def _unreadable(name: str, error: TaskError) -> Report:
    return Report([Finding(name, "unreadable", f"couldn’t be looked through: {error}")])
