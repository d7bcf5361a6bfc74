"""Media on its way out: signed URLs, byte ranges, and downloads that are broken off."""

from __future__ import annotations

import asyncio
import os
import random
import time
from email.utils import formatdate

import pytest
from django.conf import settings
from django.test import AsyncClient, Client
from django.utils import timezone

from mediapipe import storage
from mediapipe.storage import views
from mediapipe.web.handler import Handler
from tests.support.product import until_async

DATA = os.urandom(1000)


@pytest.fixture
def url(transactional_db):
    path = storage.path("outputs/clip.mp4")
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    return storage.signed_path("outputs/clip.mp4")


def get(url, **headers):
    answer = Client().get(url, headers={key.replace("_", "-"): value for key, value in headers.items()})
    body = b"".join(_collect(answer)) if answer.streaming else answer.content
    return answer, body


def _collect(answer):
    async def all_():
        return [part async for part in answer.streaming_content]

    return asyncio.run(all_())


WHOLE = (200, 0, 1000)
ASKED = {
    None: WHOLE,
    "bytes=0-": (206, 0, 1000),
    "bytes=0-0": (206, 0, 1),
    "bytes=999-999": (206, 999, 1000),
    "bytes=999-": (206, 999, 1000),
    "bytes=990-5000": (206, 990, 1000),
    "bytes=0-" + "9" * 18: (206, 0, 1000),
    "bytes=-1": (206, 999, 1000),
    "bytes=-1000": (206, 0, 1000),
    "bytes=-5000": (206, 0, 1000),
    "Bytes=10-19": (206, 10, 20),  # the unit's name is case-insensitive
    "bytes= 10-19": (206, 10, 20),
    "bytes=10-19 ": (206, 10, 20),
    "bytes=1000-": (416, 0, 0),
    "bytes=1000-1001": (416, 0, 0),
    "bytes=5000-6000": (416, 0, 0),
    "bytes=-0": (416, 0, 0),
    # several at once may be answered with the whole, and what is no range is as if it were not there
    **dict.fromkeys(("bytes=0-1,5-6", "bytes=0-1, 5-6", "bytes=0-0,-1", "bytes=0-1,", "bytes=,0-1"), WHOLE),
    **dict.fromkeys(("bytes=20-10", "bytes=10 -19", "bytes=1 0-19", "bytes =0-1", "bytes=0-1x"), WHOLE),
    **dict.fromkeys(("bytes=", "bytes=-", "bytes=--5", "bytes=+1-2", "bytes=0x1-2", "bytes=1.5-2"), WHOLE),
    **dict.fromkeys(("lines=0-1", "0-1", "bytes", "bytes=a-b", "bytes=\xb2-", "none"), WHOLE),
    "bytes=" + "9" * 40 + "-": WHOLE,
    "bytes=" + ",".join(["0-0"] * 3000): WHOLE,  # thousands cost no more than one
}


@pytest.mark.anyio
async def test_ranges_are_answered_as_rfc_9110_says(url):
    """200 random ranges against the bytes, every form there is, and every one that is wrong."""
    chance = random.Random(9110)
    asked = dict(ASKED)
    for _ in range(200):
        start, length = chance.randrange(1000), chance.randrange(1, 1200)
        asked[f"bytes={start}-{start + length - 1}"] = (206, start, min(1000, start + length))
    assert len(asked) > 217
    client = AsyncClient()
    for header, (status, start, stop) in asked.items():
        answer = await client.get(url, headers={"Range": header} if header is not None else {})
        assert answer.status_code == status, header
        if status == 416:
            assert answer["Content-Range"] == "bytes */1000", header
            continue
        body = b"".join([part async for part in answer.streaming_content])
        assert body == DATA[start:stop] and answer["Content-Length"] == str(len(body)), header
        assert answer["Accept-Ranges"] == "bytes"
        assert answer.get("Content-Range") == (f"bytes {start}-{stop - 1}/1000" if status == 206 else None)


def test_an_empty_file_has_no_range(url):
    storage.path("outputs/clip.mp4").write_bytes(b"")
    assert get(url)[0]["Content-Length"] == "0"
    for asked in ("bytes=0-", "bytes=-5"):
        answer, _ = get(url, Range=asked)
        assert answer.status_code == 416 and answer["Content-Range"] == "bytes */0"


def test_conditions_spare_bytes(url):
    answer, _ = get(url)
    etag, modified = answer["ETag"], answer["Last-Modified"]
    earlier = formatdate(time.time() - 9999, usegmt=True)
    for condition in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        spared, body = get(url, If_None_Match=condition)
        assert (spared.status_code, spared["ETag"], body) == (304, etag, b""), condition
    assert get(url, If_None_Match='"other"')[1] == DATA
    assert get(url, If_Modified_Since=modified)[0].status_code == 304
    assert get(url, If_Modified_Since=earlier)[1] == DATA
    assert get(url, If_Modified_Since=modified, If_None_Match='"other"')[1] == DATA  # the tag counts
    assert get(url, If_Match='"other"')[0].status_code == 412
    assert get(url, If_Match=etag)[1] == DATA
    assert get(url, If_Unmodified_Since=earlier)[0].status_code == 412
    assert get(url, Range="bytes=0-9", If_None_Match=etag)[0].status_code == 304


def test_a_range_is_of_the_version_that_the_client_has_or_it_gets_the_whole(url):
    answer, _ = get(url)
    etag, modified = answer["ETag"], answer["Last-Modified"]
    earlier = formatdate(time.time() - 9999, usegmt=True)
    for same in (etag, modified):
        part, body = get(url, Range="bytes=5-9", If_Range=same)
        assert part.status_code == 206 and body == DATA[5:10]
    for other in ('"older"', f"W/{etag}", earlier, formatdate(time.time() + 9999, usegmt=True), "x"):
        whole, body = get(url, Range="bytes=5-9", If_Range=other)
        assert whole.status_code == 200 and body == DATA, other
    assert get(url, Range="bytes=5000-", If_Range='"older"')[0].status_code == 200
    storage.path("outputs/clip.mp4").write_bytes(DATA[::-1])
    os.utime(storage.path("outputs/clip.mp4"), (1, 1))
    assert get(url, Range="bytes=5-9", If_Range=etag)[1] == DATA[::-1]


def test_head_tells_without_sending(url):
    answer = Client().head(url)
    assert answer.status_code == 200 and answer["Content-Length"] == "1000" and not answer.content
    assert answer["Accept-Ranges"] == "bytes" and answer["ETag"] and answer["Content-Type"] == "video/mp4"
    part = Client().head(url, headers={"Range": "bytes=0-9"})  # ranges are defined for GET alone
    assert part.status_code == 200 and part["Content-Length"] == "1000"
    assert Client().head(url, headers={"If-None-Match": answer["ETag"]}).status_code == 304
    assert Client().post(url)["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.split("?")[0],
        lambda url: url.replace("signature=", "signature=x"),
        lambda url: url.replace("clip.mp4", "other.mp4"),
        lambda url: url.replace("expires=", "expires=9"),
        lambda url: storage.signed_path("outputs/clip.mp4", now=time.time() - 30 * 86400),
        lambda url: "/media/../mediapipe.sqlite3?expires=99999999999&signature=x",
        lambda url: storage.signed_path("../secret_key"),
        lambda url: storage.signed_path("/etc/passwd"),
    ],
)
def test_nothing_is_read_without_a_right_to_it(url, change):
    answer = Client().get(change(url))
    assert answer.status_code in (403, 404) and "text/" in answer["Content-Type"]


def test_the_url_is_the_same_for_hours_so_that_no_player_restarts():
    now = 1_800_000_000 // storage.URL_PERIOD * storage.URL_PERIOD
    assert storage.signed_path("outputs/a.mp4", now=now) == storage.signed_path(
        "outputs/a.mp4", now=now + 3600
    )


def test_a_download_has_its_right_name(url):
    answer, _ = get(f"{url}&download=Übersicht%20%22final%22%0d%0a.mp4")
    assert answer["Content-Disposition"].startswith("attachment; filename*=utf-8''%C3%9Cbersicht")
    assert "\r" not in answer["Content-Disposition"] and answer["Content-Type"] == "video/mp4"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_an_uploaded_page_is_never_answered_as_a_page(url):
    path = storage.path("outputs/evil.html")
    path.write_text("<script>alert(1)</script>")
    answer, _ = get(storage.signed_path("outputs/evil.html"))
    assert (
        answer["Content-Type"] == "application/octet-stream"
        and "sandbox" in answer["Content-Security-Policy"]
    )


@pytest.fixture
def page(url, editor):
    """The address by which a page of the editor's shows the file."""
    return storage.page_link("outputs/clip.mp4", editor.pk)


@pytest.mark.django_db
def test_a_pages_file_is_for_its_owner_and_for_staff_while_they_are_signed_in(
    page, editor, django_user_model
):
    create = django_user_model.objects.create_user
    people = {"owner": editor, "other": create("eve"), "admin": create("boss", is_staff=True)}
    browsers = {name: Client() for name in people}
    for name, person in people.items():
        browsers[name].force_login(person)
    for name, status in (("owner", 200), ("admin", 200), ("other", 403)):
        assert browsers[name].get(page).status_code == status, name
    assert Client().get(page).status_code == 403
    to_sign_in = Client().get(page, headers={"Sec-Fetch-Mode": "navigate"})
    assert to_sign_in.status_code == 302 and to_sign_in["Location"].startswith("/login/?next=/media/")
    browsers["owner"].post("/logout/")
    people["admin"].is_staff = False
    people["admin"].save()
    for name in browsers:
        assert browsers[name].get(page).status_code == 403, name


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["ended elsewhere", "not used", "deactivated", "new password"])
def test_a_pages_file_ends_with_the_session_however_that_ends(page, editor, end):
    browser = Client()
    browser.force_login(editor)
    assert browser.get(page).status_code == 200
    if end == "ended elsewhere":
        editor.sessions.all().delete()
    elif end == "not used":
        editor.sessions.update(expire_date=timezone.now())
    elif end == "deactivated":
        type(editor).objects.update(is_active=False)
    else:
        editor.set_password("another one")
        editor.save()
    assert browser.get(page).status_code == 403


@pytest.mark.django_db
def test_a_pages_file_is_played_by_ranges_and_kept_by_the_browser_that_asks_each_time(page, editor):
    browser = Client()
    browser.force_login(editor)
    part = browser.get(page, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part["Content-Range"]) == (206, "bytes 10-19/1000")
    assert part["Cache-Control"] == "private, no-cache", "after a sign-out it would still be shown"
    same = browser.get(page, headers={"If-None-Match": part["ETag"]})
    assert (same.status_code, same["Cache-Control"]) == (304, "private, no-cache")
    assert page == storage.page_link("outputs/clip.mp4", editor.pk), "a new address would load it anew"
    saved = browser.head(storage.page_link("outputs/clip.mp4", editor.pk, save_as="a.mp4"))
    assert "a.mp4" in saved["Content-Disposition"]


@pytest.mark.django_db
def test_no_link_becomes_one_of_the_other_kind(page, url, editor, django_user_model):
    other = Client()
    other.force_login(django_user_model.objects.create_user("eve"))
    mine = f"owner={editor.pk}&"
    assert Client().get(url).status_code == 200
    for wrong in (page.replace(mine, ""), page.replace(mine, "owner=&"), url.replace("?", f"?{mine}")):
        assert Client().get(wrong).status_code == other.get(wrong).status_code == 403, wrong
    eve = other.session["_auth_user_id"]
    assert other.get(page.replace(mine, f"owner={eve}&")).status_code == 403
    with pytest.raises(storage.Forbidden):
        storage.to_kept(f"{settings.LOCAL_URL}{page}")  # it is no source: the engine has no session


@pytest.mark.django_db
def test_a_playlist_names_its_files_by_links_of_its_own_kind(editor):
    path = storage.path("outputs/film/index.m3u8")
    path.parent.mkdir(parents=True)
    path.write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhigh.m3u8\n")
    browser = Client()
    browser.force_login(editor)
    shown = browser.get(storage.page_link("outputs/film/index.m3u8", editor.pk)).content.decode()
    assert storage.page_link("outputs/film/high.m3u8", editor.pk) in shown
    handed_on = Client().get(storage.signed_path("outputs/film/index.m3u8")).content.decode()
    assert storage.signed_path("outputs/film/high.m3u8") in handed_on and "owner=" not in handed_on


def test_nginx_may_send_the_bytes(url, settings):
    settings.ACCEL_PREFIX = "/internal/"
    answer, body = get(url)
    assert answer["X-Accel-Redirect"] == "/internal/outputs/clip.mp4" and body == b""


@pytest.mark.anyio
async def test_a_block_of_a_file_is_sent_in_one_piece(url):
    data = os.urandom(3 * views.BLOCK + 7)
    storage.path("outputs/clip.mp4").write_bytes(data)
    path, _, query = url.partition("?")
    sent: list[bytes] = []
    asked = asyncio.Event()

    async def receive():
        if asked.is_set():
            await asyncio.sleep(30)
        asked.set()
        return {"type": "http.request"}

    async def send(message):
        sent.append(message.get("body", b""))

    scope = {"type": "http", "method": "GET", "http_version": "1.1", "path": path, "scheme": "http"}
    scope |= {"query_string": query.encode(), "headers": [(b"host", b"localhost")]}
    await Handler()(scope | {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}, receive, send)
    assert b"".join(sent) == data and len([each for each in sent if each]) == 4


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)  # each request looks whether its database connection still serves
@pytest.mark.slow
async def test_downloads_that_are_broken_off_leave_no_open_file(url):
    storage.path("outputs/clip.mp4").write_bytes(os.urandom(3 << 20))

    def opened():
        return sum("clip.mp4" in _opened(number) for number in os.listdir("/proc/self/fd"))

    client = AsyncClient()
    for count in range(300):
        answer = await client.get(url)
        parts = aiter(answer.streaming_content)
        await anext(parts)
        if count % 2:
            task = asyncio.ensure_future(anext(parts))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
        answer.close()
    await until_async(lambda: asyncio.sleep(0, opened() == 0))


def _opened(number: str) -> str:
    """What a descriptor is of; other threads close theirs at any moment."""
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        return ""
