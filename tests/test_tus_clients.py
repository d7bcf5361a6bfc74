"""Clients of others upload, stop and go on as their own guides say: tus-js-client, Uppy, tuspy, aiotus.

They are fetched from npm and PyPI by a release alone, and skipped where those can't be reached.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tusclient import sound
from tests.test_api_whole import ISSUE, Line

pytestmark = [pytest.mark.release, pytest.mark.whole, pytest.mark.timeout(600)]
PROGRAMS = Path(__file__).parent / "support" / "tus_clients"
OF_NPM = ["tus-js-client@4.3.1", "uppy@6.0.1"]
OF_PYPI = ["tuspy==1.1.0", "aiotus==1.1.0"]
PART = 1 << 20
STOP = 2 * PART
FOUND = "from jobs.models import Job; print(Job.objects.filter(source_sha256={!r}, source_size={}).count())"


def fetched(*command: object) -> None:
    """Skips where a registry can't be reached, or its program isn't here."""
    if not shutil.which(str(command[0])):
        pytest.skip(f"there is no {command[0]} here")
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{command[0]} fetches nothing here: {done.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="module")
def of_npm(tmp_path_factory):
    """The folder with node_modules."""
    folder = tmp_path_factory.mktemp("npm")
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts"]
    fetched("npm", "install", *quiet, "--prefix", folder, *OF_NPM)
    return folder


@pytest.fixture(scope="module")
def of_pypi(tmp_path_factory):
    """A Python that has them."""
    folder = tmp_path_factory.mktemp("pypi")
    fetched(f"{sys.base_prefix}/bin/python3", "-m", "venv", folder)
    fetched(folder / "bin" / "pip", "install", "--quiet", *OF_PYPI)
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module")
def api_token(product):
    return product.shell(ISSUE.format(name="ada"))


@pytest.fixture
def asked(product, api_token, tmp_path):
    """What a program is asked for: a file that nobody has sent before."""
    film = tmp_path / "tune.wav"
    film.write_bytes(sound(3 * PART))  # six parts, and a head
    about = {"url": f"{product.url}/uploads/", "token": api_token, "file": str(film), "name": film.name}
    return {**about, "part": PART, "memory": str(tmp_path / "memory"), "stop": 0}


def ask(command: list[str], asked: dict, **changed: object) -> str:
    """Runs a client's program: what it prints."""
    own = {"PATH": "/usr/local/bin:/usr/bin:/bin", "NO_PROXY": "127.0.0.1"}
    words = [*command, json.dumps({**asked, **changed})]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=own)
    assert done.returncode == 0, done.stderr
    return done.stdout


def became_one_job(product, asked: dict) -> bool:
    """The bytes that were sent are those of the file."""
    data = Path(asked["file"]).read_bytes()
    return product.shell(FOUND.format(hashlib.sha256(data).hexdigest(), len(data))) == "1"


def test_tus_js_client_stops_and_goes_on_in_another_process(product, of_npm, asked):
    node = ["node", str(PROGRAMS / "with_tus_js_client.mjs")]
    asked["installed"] = str(of_npm)
    assert ask(node, asked, stop=STOP) == ""
    assert ask(node, asked) == f"went on at {STOP}\ndone\n"
    assert became_one_job(product, asked)


def test_tuspy_stops_and_goes_on_in_another_process(product, of_pypi, asked):
    program = [of_pypi, str(PROGRAMS / "with_tuspy.py")]
    assert ask(program, asked, stop=STOP) == ""
    assert ask(program, asked) == f"went on at {STOP}\ndone\n"
    assert became_one_job(product, asked)


def test_aiotus_goes_on_where_its_line_broke(product, of_pypi, asked):
    line = Line(product.port, STOP)  # Location leads to it, since no public address is set
    try:
        assert ask([of_pypi, str(PROGRAMS / "with_aiotus.py")], asked, url=f"{line.url}/uploads/") == "done\n"
    finally:
        line.server.close()
    assert line.broken == 1 and became_one_job(product, asked)


PAGE = """<!doctype html><title>Uppy</title><input type="file"><script src="uppy.min.js"></script><script>
const uppy = new Uppy.Uppy().use(Uppy.Tus, {options});
uppy.on("upload-progress", (file, {{ bytesUploaded }}) => {{
  if ({stop} && bytesUploaded >= {stop}) {{ uppy.pauseAll(); document.title = "paused"; }}
}});
uppy.on("complete", (result) => {{ document.title = result.failed.length ? "failed" : "done"; }});
document.querySelector("input").onchange = ({{ target }}) => {{
  const data = target.files[0];
  uppy.addFile({{ name: data.name, type: data.type, data, source: "page" }});
  uppy.upload();
}};
</script>"""


@pytest.mark.browser
def test_uppy_is_paused_and_goes_on_when_its_page_is_opened_again(product, of_npm, asked, context):
    page, folder = context.new_page(), f"{product.url}/a-page-of-somebody-elses/"
    options = {
        "endpoint": asked["url"],
        "headers": {"Authorization": f"Bearer {asked['token']}"},
        "chunkSize": PART,
    }
    stop = {"stop": STOP}
    context.route(
        f"{folder}*.html",
        lambda route: route.fulfill(
            content_type="text/html", body=PAGE.format(options=json.dumps(options), **stop)
        ),
    )
    script = of_npm / "node_modules" / "uppy" / "dist" / "uppy.min.js"
    context.route(f"{folder}uppy.min.js", lambda route: route.fulfill(path=script))
    page.goto(f"{folder}first.html")
    page.set_input_files("input", asked["file"])
    page.wait_for_function("document.title === 'paused'")
    stop["stop"] = 0
    page.goto(f"{folder}again.html")
    with page.expect_response(lambda answer: answer.request.method == "HEAD") as known:
        page.set_input_files("input", asked["file"])
    assert int(known.value.headers["upload-offset"]) >= STOP
    page.wait_for_function("document.title === 'done'")
    assert became_one_job(product, asked)
