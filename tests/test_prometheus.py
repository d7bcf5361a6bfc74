"""A real Prometheus takes the files of docs/deploy as they are, and what they ask for is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.support.dashboard import settled, submit
from tests.support.product import ROOT, free_port, make_broken, make_clip, until

FILES = ROOT / "docs" / "deploy" / "prometheus"
pytestmark = [
    pytest.mark.release,
    pytest.mark.whole,
    pytest.mark.skipif(
        not shutil.which("prometheus") or not shutil.which("promtool"), reason="there is no Prometheus here"
    ),
]


def configuration(product, folder: Path) -> Path:
    """The docs' files, with this product's addresses and key, and asked every second."""
    shutil.copy(FILES / "alerts.yml", folder)
    shutil.copy(product.home / "engine_key", folder)
    text = (FILES / "prometheus.yml").read_text()
    for theirs, ours in (
        ("10.0.0.5:8000", f"127.0.0.1:{product.port}"),
        ("10.0.0.7:9464", product.environment["MEDIAPIPE_METRICS_ADDRESS"]),
        ("/etc/prometheus/mediapipe_engine_key", f"{folder}/engine_key"),
    ):
        assert text.count(theirs) == 1
        text = text.replace(theirs, ours)
    path = folder / "prometheus.yml"
    path.write_text(f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n{text}")
    return path


@contextmanager
def prometheus(config: Path):
    """One that runs: a client of its API."""
    port = free_port()
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={config.parent}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with open(config.parent / "prometheus.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False, timeout=30) as api:
            yield api
    finally:
        process.terminate()
        process.wait(30)


def asked(api: httpx.Client, expression: str) -> list[dict]:
    """What Prometheus answers now. Fails where it can't read the expression."""
    answer = api.get("/query", params={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    return answer["data"]["result"]


def rules(api: httpx.Client) -> list[dict]:
    """The alerts, and how Prometheus finds them."""
    return [rule for group in api.get("/rules").json()["data"]["groups"] for rule in group["rules"]]


def metrics(expression: str) -> set[str]:
    """The metrics that an expression reads."""
    return set(re.findall(r"\b(?:mediapipe|temporal)_[a-z_]+|\bup\b", expression))


def test_its_tool_finds_nothing_wrong_with_the_rules(tmp_path):
    shutil.copytree(FILES, tmp_path / "there")
    for command in ("config", "rules"):
        file = {"config": "prometheus.yml", "rules": "alerts.yml"}[command]
        more = ["--syntax-only"] if command == "config" else []  # the key isn't there
        done = subprocess.run(
            ["promtool", "check", command, *more, str(tmp_path / "there" / file)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr


def test_it_reaches_web_and_worker_and_finds_every_metric_that_alerts_and_dashboard_ask_for(
    product, tmp_path
):
    browser = product.editor("grace", staff=True)
    dashboard = json.loads((FILES / "grafana.json").read_text())
    panels = [each["expr"] for panel in dashboard["panels"] for each in panel.get("targets", [])]
    with prometheus(configuration(product, tmp_path)) as api:
        clips = [make_clip(tmp_path / f"{n}.mp4", 6 + n, "1280x720") for n in range(3)]
        good = [submit(product, clip) for clip in clips]  # so that something waits
        bad = submit(product, make_broken(tmp_path / "broken.mp4"))
        assert {settled(browser, job)["status"] for job in good} == {"succeeded"}
        assert settled(browser, bad)["status"] in ("failed", "attention")
        until(lambda: len(asked(api, "up == 1")) == 2)
        until(lambda: all(rule["health"] == "ok" for rule in rules(api)))
        named = set().union(*map(metrics, panels), *(metrics(rule["query"]) for rule in rules(api)))
        assert len(named) > 15, named

        def missing() -> set[str]:
            return {name for name in named if not asked(api, f"count(last_over_time({name}[1h]))")}

        with suppress(AssertionError):
            until(lambda: not missing(), 30)
        assert not missing()
        for expression in panels:
            asked(api, expression)
        alarming = [rule["name"] for rule in rules(api) if rule["state"] == "firing"]
        assert not alarming, "of a product that works"
