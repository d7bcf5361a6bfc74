"""The files of docs/deploy as they are, by the programs they are for: nginx in front, systemd's own check."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import httpx
import pytest
import yaml
from django.core.management import get_commands, load_command_class
from django.db.migrations.loader import MigrationLoader
from django.db.models import NOT_PROVIDED

from tests.support.dashboard import settled
from tests.support.product import CALM, ROOT, Product, free_port, make_clip, token, until

DEPLOY = ROOT / "docs" / "deploy"
RELEASED = [("jobs", "0001_initial"), ("engine", "0002_steps")]  # what the last release's code expects


def make_certificate(folder: Path, name: str = "localhost", more: str = "") -> list[str]:
    key, certificate = folder / "key.pem", folder / "fullchain.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-keyout", key, "-out", certificate, "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run([*made, "-addext", f"subjectAltName=DNS:{name}{more}"], check=True, capture_output=True)
    return [str(certificate), str(key)]


@pytest.fixture
def proxied(tmp_path):
    """The product behind nginx, by the file of the docs: its names, ports and paths alone are replaced."""
    if not (nginx := shutil.which("nginx", path="/usr/sbin:/usr/bin")) or not shutil.which("openssl"):
        pytest.skip("nginx and openssl aren't both installed here")
    plain, secure = free_port(), free_port()
    running = Product(
        tmp_path / "home",
        MEDIAPIPE_PUBLIC_URL=f"https://localhost:{secure}",
        MEDIAPIPE_BEHIND_PROXY="1",
        MEDIAPIPE_ACCEL_PREFIX="/sent-by-nginx/",
    )
    certificate, key = make_certificate(tmp_path)
    site = (DEPLOY / "nginx.conf").read_text()
    for written, here in {
        r"listen \[::\].*\n": "",
        r"listen 80;": f"listen 127.0.0.1:{plain};",
        r"listen 443 ssl;": f"listen 127.0.0.1:{secure} ssl;",
        r"https://\$host\$request_uri": f"https://$host:{secure}$request_uri",
        r"proxy_set_header Host \$host;": "proxy_set_header Host $http_host;",
        r"media\.example\.org": "localhost",
        r"/etc/ssl/mediapipe/fullchain.pem": certificate,
        r"/etc/ssl/mediapipe/key.pem": key,
        r"http://127.0.0.1:8000": running.url,
        r"/var/lib/mediapipe/": f"{running.home}/",
    }.items():
        site, found = re.subn(written, here, site)
        assert found, f"the docs' file has no {written}"
    (tmp_path / "site.conf").write_text(site)
    paths = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    who = "user root;" if os.geteuid() == 0 else ""  # else its own user, a member of the home's group
    (tmp_path / "nginx.conf").write_text(
        f"{who} daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}"
        f" http {{ access_log off; {paths} include {tmp_path}/site.conf; }}"
    )
    running.start()
    server = subprocess.Popen([nginx, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log"])
    with httpx.Client(
        base_url=f"https://localhost:{secure}", verify=False, trust_env=False, timeout=60
    ) as client:
        try:
            yield running, client, f"http://localhost:{plain}"
        finally:
            server.terminate()
            server.wait(30)
            running.stop()


@pytest.mark.whole
@pytest.mark.release
def test_behind_nginx_people_sign_in_upload_and_watch_and_nginx_sends_the_media(proxied, tmp_path):
    product, browser, plain = proxied
    until(lambda: not _fails(lambda: browser.get("/healthz")))
    moved = httpx.get(f"{plain}/jobs/new/", trust_env=False, timeout=60)
    assert moved.status_code == 301 and moved.headers["location"].startswith("https://localhost")
    product.shell(
        "from django.contrib.auth import get_user_model as g;"
        "g().objects.create_user('ada', password='correct horse')"
    )
    lie = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "Referer": str(browser.base_url)}
    form = {
        "username": "ada",
        "password": "correct horse",
        "csrfmiddlewaretoken": token(browser.get("/login/")),
    }
    assert browser.post("/login/", data=form, headers=lie).status_code == 302
    known = "from mediapipe.accounts.models import Session; print(Session.objects.get().network)"
    assert product.shell(known) == "127.0.0.1", "a client says nothing about where it comes from"
    assert all(cookie.secure for cookie in browser.cookies.jar)
    page = browser.get("/jobs/new/")
    assert page.headers["strict-transport-security"] and len(page.headers["x-request-id"]) == 32
    film = make_clip(tmp_path / "film.mp4", 3, "640x360", *CALM).read_bytes()
    sent = browser.post(
        "/jobs/new/",
        data={"csrfmiddlewaretoken": token(page)},
        files={"file": ("film.mp4", film)},
        headers={"Referer": str(browser.base_url)},
    )
    job = re.search(r"/jobs/([0-9a-f-]{36})/", sent.headers["location"])[1]
    done = settled(browser, job)
    assert done["status"] == "succeeded", done
    url = done["result"]["transcoded_url"]
    part = browser.get(url, headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content, part.headers["server"][:5]) == (206, b"ftyp", "nginx")
    assert "x-accel-redirect" not in part.headers
    assert browser.get("/sent-by-nginx/" + url.split("/media/")[1].split("?")[0]).status_code == 404


def _fails(call) -> bool:
    try:
        return call().status_code != 200
    except httpx.HTTPError:
        return True


def assigned(text: str) -> dict[str, str]:
    """What a file of settings sets, as systemd and compose read it."""
    return {
        name: "".join(shlex.split(value)) for name, value in re.findall(r"^([A-Z0-9_]+)=(.*)$", text, re.M)
    }


def test_settings_that_the_docs_give_are_read_by_a_shell_as_by_systemd(tmp_path):
    """A command takes them by `. /etc/mediapipe/environment`."""
    example = re.sub(r"^#(?=[A-Z0-9_]+=)", "", (ROOT / ".env.example").read_text(), flags=re.M)
    pages = [page.read_text() for page in (ROOT / "docs").rglob("*.md")]
    blocks = [block for page in pages for block in re.findall(r"```sh\n(.*?)```", page, re.S)]
    settings = [text for text in map(dedent, blocks) if re.fullmatch(r"([A-Z0-9_]+=.*\n)+", text)]
    assert len(assigned(example)) > 50 and len(settings) > 1
    for text in (example, *settings):
        (tmp_path / "environment").write_text(text)
        script = f"set -a; . {tmp_path}/environment; env -0"
        done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, env={})
        assert done.returncode == 0 and not done.stderr, done.stderr
        read = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
        assert assigned(text).items() <= read.items()


def test_what_is_run_by_the_services_user_has_its_settings_its_folder_and_no_home_of_roots():
    """In a home that it can't look into, libpq looks for certificates, and then uses no TLS."""
    pages = [page.read_text() for page in (ROOT / "docs").rglob("*.md")]
    blocks = [block for page in pages for block in re.findall(r"```sh\n(.*?)```", page, re.S)]
    run = [block for block in blocks if "runuser -u mediapipe" in block]
    assert len(run) > 3
    for block in run:
        before = block.partition("runuser")[0]
        assert "cd /opt/mediapipe\nset -a; . /etc/mediapipe/environment; HOME=/var/lib/mediapipe" in before
        assert "MEDIAPIPE_HOME=/var/lib/mediapipe; set +a\n" in before


def test_what_a_unit_runs_has_the_settings_and_the_home_of_the_service():
    pages = [page.read_text() for page in DEPLOY.glob("*.md")]
    units = [path.read_text() for path in (DEPLOY / "systemd").glob("*.service")]
    units += [block for page in pages for block in re.findall(r"```ini\n(.*?)```", page, re.S)]
    assert len(units) > 3
    for unit in units:
        for line in ("User=mediapipe", "Group=mediapipe", "WorkingDirectory=/opt/mediapipe"):
            assert f"\n{line}\n" in unit
        assert "\nEnvironmentFile=-/etc/mediapipe/environment\n" in unit
        assert "\nEnvironment=MEDIAPIPE_HOME=/var/lib/mediapipe\n" in unit


@pytest.mark.release
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    if not (analyze := shutil.which("systemd-analyze")):
        pytest.skip("systemd isn't installed here")
    for unit in (DEPLOY / "systemd").glob("*.service"):
        text = unit.read_text().replace("/opt/mediapipe", str(tmp_path))
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run([analyze, "verify", *tmp_path.glob("*.service")], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_last_releases_code_can_write_every_row_of_todays_database():
    """So a new version's migrations go first, while the old one's servers and workers still run."""
    loader = MigrationLoader(None)
    then = loader.project_state(RELEASED).models
    now = loader.project_state().models
    wrong = []
    for key in [key for key in then.keys() & now.keys() if key[0] in dict(RELEASED)]:
        old, new = then[key].fields, now[key].fields
        wrong += [f"{key}: {name} is gone" for name in old.keys() - new.keys()]
        for name in new.keys() - old.keys():
            if not new[name].null and new[name].db_default is NOT_PROVIDED:
                wrong.append(f"{key}: {name} has no default in the database")
    assert not wrong


def test_the_image_holds_what_the_product_needs_and_nothing_of_a_home(tmp_path):
    steps = re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Containerfile").read_text(), re.M)
    copied = {name for step in steps for name in step.split()}
    needed = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert copied == needed | {
        "manage.py",
        "pyproject.toml",
        "requirements.txt",
        "LICENSE",
        "CHANGELOG.md",
        "templates",
        "static",
    }
    for name in copied:
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "manage.py").unlink()
    shutil.copy(ROOT / "manage.py", tmp_path)
    for name in ("jobs", "mediapipe"):  # what looks for a file looks beside them
        (tmp_path / name).unlink()
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, str(tmp_path / "manage.py"), "check"]
    own = {"MEDIAPIPE_NO_VENV": "1", "MEDIAPIPE_HOME": str(tmp_path / "home")}
    started = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True)
    assert started.returncode == 0, started.stderr
    kept = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert kept[0] == "*" and kept[-1] == "**/__pycache__"
    assert {line.removeprefix("!") for line in kept[1:-1]} == copied


def has_command(name: str, *arguments: str) -> None:
    """There is such a command, and it takes them."""
    command = load_command_class(get_commands()[name], name)
    command.create_parser("manage.py", name).parse_args(arguments)


def test_the_containers_run_commands_that_there_are_without_rights_and_a_worker_is_looked_after():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    image = (DEPLOY / "Containerfile").read_text()
    for service in compose["services"].values():
        has_command(*service.get("command", json.loads(re.search(r"^CMD (.+)", image, re.M)[1])))
        assert service["env_file"] == ".env", "every Compose 2 reads this form"
        assert (
            service["cap_drop"] == ["ALL"]
            and service["read_only"]
            and service["volumes"] == ["home:/var/lib/mediapipe"]
        )
    assert "http://127.0.0.1:8000/healthz" in image
    for name, port in (("worker", "8000"), ("mediapipe", "9464")):
        service = compose["services"][name]
        assert service["environment"] == {"MEDIAPIPE_METRICS_ADDRESS": f"0.0.0.0:{port}"}, "others reach it"
        published = f"${{MEDIAPIPE_METRICS_ADDRESS:-127.0.0.1:9464}}:{port}"
        assert published in service["ports"], "and by default this machine's alone do"
    assert "USER 10001" in image and "MEDIAPIPE_HOME=/var/lib/mediapipe" in image
    assert compose["name"] == "mediapipe", "a project is called by its folder else, and replaces another's"


def test_what_the_docs_have_compose_do_names_services_profiles_and_commands_that_there_are():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    lines = re.findall(
        r"^docker compose -f docs/deploy/compose.yaml (.+)$", (DEPLOY / "README.md").read_text(), re.M
    )
    assert len(lines) == 5
    for verb, *arguments in map(shlex.split, lines):
        if verb == "--profile":
            assert any(service["profiles"] == [arguments[0]] for service in services.values())
            continue
        service, *command = (each for each in arguments if not each.startswith("--"))
        assert service in services
        if verb == "run" or command[:2] == ["python3", "manage.py"]:
            has_command(*(command if verb == "run" else command[2:]))


@pytest.mark.release
@pytest.mark.parametrize("program", ["docker compose", "podman-compose"])
def test_a_compose_that_is_installed_here_takes_the_file(program, tmp_path):
    if subprocess.run(["sh", "-c", f"{program} version"], capture_output=True).returncode:
        pytest.skip(f"{program} isn't installed here")
    (tmp_path / "docs" / "deploy").mkdir(parents=True)
    (tmp_path / "docs" / "deploy" / ".env").write_text((ROOT / ".env.example").read_text())
    file = shutil.copy(DEPLOY / "compose.yaml", tmp_path / "docs" / "deploy")
    for profile in ("all", "web", "worker"):
        command = [*program.split(), "-f", file, "--profile", profile, "config"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert len(yaml.safe_load(done.stdout)["services"]) == 1
