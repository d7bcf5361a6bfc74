"""A link to what a job has made, for people without an account: what it shows, and when it ends."""

from __future__ import annotations

import asyncio
import html
import io
import re
import zipfile
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.utils import timezone

from jobs.models import ApiToken, Job, Share, Stage
from jobs.models.wish import DELETE, Wish
from jobs.state import JobState
from mediapipe import storage
from tests.support.recorded import job, text

pytestmark = pytest.mark.django_db(transaction=True)
LOOKED = {"Accept": "text/html,application/xhtml+xml"}  # as a person's browser asks
OUTPUTS = {
    "ingest": {"name": "outputs/t1.mp4", "kind": "video", "format": "mp4"},
    "thumbnails": {"name": "outputs/t2.webp", "kind": "image", "format": "webp"},
    "audio": {"url": "https://cdn.example.com/a.mp3", "kind": "audio"},
    "transcode": {"name": "outputs/t4.mp4", "kind": "video", "format": "mp4", "duration": 123, "width": 1280},
    "hls": {"name": "outputs/t5/index.m3u8", "kind": "adaptive_video", "format": "hls"},
}


@pytest.fixture
def done(editor):
    made = job(editor, "harbour.mov", pipeline="streaming")
    for stage, output in OUTPUTS.items():
        Stage.objects.filter(job=made, name=stage).update(output=output)
    for name in ("t1.mp4", "t2.webp", "t4.mp4", "t5/index.m3u8", "t5/1.m4s", "secret.mp4"):
        path = storage.path(f"outputs/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return made


def share(ada, done, **fields) -> str:
    """The path of a new link to the job."""
    page = ada.post(f"/jobs/{done.pk}/share/", {"days": "7", **fields}).content.decode()
    return re.search(r'id="share-link"\s+value="http://testserver(/s/[\w-]{43}/)"', page).group(1)


def body(answer) -> bytes:
    async def parts() -> bytes:
        return b"".join([part async for part in answer.streaming_content])

    return asyncio.run(parts()) if answer.streaming else answer.content


def test_a_stranger_with_the_link_sees_and_saves_what_the_job_has_made_and_nothing_else(ada, client, done):
    link = share(ada, done)
    answer = client.get(link, headers=LOOKED)
    page = answer.content.decode()
    assert answer.status_code == 200 and "harbour.mov" in text(answer) and "2:03" in text(answer)
    assert f'src="{link}files/outputs/t4.mp4"' in page and "cdn.example.com" not in page
    assert f'property="og:image" content="http://testserver{link}files/outputs/t2.webp"' in page
    assert answer["Cache-Control"] == "no-store" and answer["Referrer-Policy"] == "no-referrer"
    assert answer["X-Robots-Tag"] == "noindex, nofollow" and "noindex" in page
    for name in ("t1.mp4", "t2.webp", "t5/index.m3u8", "t5/1.m4s"):
        file = client.get(f"{link}files/outputs/{name}")
        assert body(file) == name.encode() and file["Cache-Control"] == "private, no-cache", name
    saved = client.get(re.search(r'href="([^"]*t4.mp4\?download[^"]*)"', page).group(1))
    assert 'filename="harbour - transcode.mp4"' in saved["Content-Disposition"]
    names = ("secret.mp4", "t5/../secret.mp4", "t5", "")
    for name in (*(f"outputs/{each}" for each in names), "sources/x.mp4", "../db.sqlite3"):
        assert client.get(f"{link}files/{name}").status_code == 404, name
    with zipfile.ZipFile(io.BytesIO(body(client.get(f"{link}all.zip")))) as archive:
        assert len(archive.namelist()) == 5 and archive.testzip() is None


def framed(answer) -> bool:
    """Whether another site may show the answer in a frame; both headers say the same."""
    policy = answer["Content-Security-Policy"]
    assert ("frame-ancestors *" in policy) != ("frame-ancestors 'none'" in policy)
    assert ("frame-ancestors *" in policy) == (answer.get("X-Frame-Options") is None)
    assert "default-src 'self'" in policy and "unsafe" not in policy
    return "frame-ancestors *" in policy


def test_another_site_frames_the_player_alone_and_no_page_with_a_form(ada, client, done):
    page = ada.post(f"/jobs/{done.pk}/share/", {"days": "7"})
    code = html.unescape(re.search(r'id="share-frame"\s+value="([^"]*)"', page.content.decode())[1])
    address = re.fullmatch(
        r'<iframe src="http://testserver(/s/[\w-]{43}/)embed/" width="640" .*></iframe>', code
    )
    assert 'title="harbour.mov"' in code, code
    link = address[1]
    player = client.get(f"{link}embed/", headers=LOOKED)
    shown = player.content.decode()
    assert framed(player) and "<form" not in shown and not player.cookies
    assert f'src="{link}files/outputs/t4.mp4"' in shown and f"{link}files/outputs/t5/index.m3u8" in shown
    assert player["Referrer-Policy"] == "no-referrer" and Share.objects.get().opened == 1
    for path in (link, "/login/", f"/jobs/{done.pk}/", f"/jobs/{done.pk}/share/"):
        assert not framed(ada.get(path)), path
    assert client.post(f"{link}embed/").status_code == 405


def test_a_frame_of_a_link_that_has_ended_or_wants_a_password_shows_nothing_of_the_job(ada, client, done):
    locked = share(ada, done, password="the harbour at dawn")
    assert (
        "share-frame"
        not in ada.post(
            f"/jobs/{done.pk}/share/", {"days": "7", "password": "the harbour at dawn"}
        ).content.decode()
    )
    client.post(locked, {"password": "the harbour at dawn"})
    for path, status, says in (
        (locked, 200, "A password protects this."),
        ("/s/forged/", 404, "may have ended"),
    ):
        answer = client.get(f"{path}embed/")
        assert answer.status_code == status and says in text(answer), path
        assert "harbour" not in answer.content.decode() and "files/" not in answer.content.decode()


def test_stages_of_an_admins_own_names_are_handed_over_too(ada, client, done):
    Stage.objects.filter(job=done, name__in=("ingest", "thumbnails")).delete()
    Stage.objects.filter(job=done, name="transcode").update(name="for-the-web", label="Cut for the web")
    page = client.get(link := share(ada, done), headers=LOOKED)
    assert "Cut for the web" in text(page)
    assert f'src="{link}files/outputs/t4.mp4"' in page.content.decode()
    assert body(client.get(f"{link}files/outputs/t4.mp4")) == b"t4.mp4"


def test_a_link_that_is_wrong_expired_revoked_or_of_a_deleted_job_is_the_same_page(ada, client, done):
    def dead(link) -> bool:
        answers = [client.get(f"{link}{rest}") for rest in ("", "files/outputs/t4.mp4", "all.zip")]
        return all(each.status_code == 404 and "This link doesn’t work" in text(each) for each in answers)

    expired, revoked, deleted = (share(ada, done) for _ in range(3))
    assert not dead(expired) and dead("/s/forged/")
    newest, middle, oldest = Share.objects.order_by("-pk")
    Share.objects.filter(pk=oldest.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert dead(expired)
    assert "Ended" in text(ada.get(f"/jobs/{done.pk}/"))
    answer = ada.post(f"/jobs/{done.pk}/shares/{middle.pk}/revoke/", follow=True)
    assert dead(revoked) and not dead(deleted)
    assert "ada’s link was revoked; it was never opened by ada" in text(answer)
    assert Job.objects.get().keep_wish(Wish(DELETE, "ada")) and dead(deleted)
    assert Job.objects.get().remove("ada") and not Share.objects.filter(pk=newest.pk).exists()


def test_who_made_a_link_until_when_and_how_often_it_was_opened_is_on_the_jobs_page(ada, client, done):
    link = share(ada, done)
    assert link.split("/")[2] not in Share.objects.get().digest, "a token is kept as it is"
    client.get(link)  # a chat that unfolds the link
    for _ in range(2):
        client.get(link, headers=LOOKED)
    page = text(ada.get(f"/jobs/{done.pk}/"))
    assert "opened 2 times" in page and "ada’s link was opened for the first time" in page
    until = f"{timezone.localtime(Share.objects.get().expires_at):%-d %b %Y}"
    assert f"Shared by a link until {until} by ada" in page
    assert link not in ada.get(f"/jobs/{done.pk}/share/").content.decode(), "a link is shown once"


def test_a_password_is_asked_for_by_page_and_files_and_guessed_no_faster_than_at_sign_in(ada, done):
    link = share(ada, done, password="the harbour at dawn")
    stranger = Client(enforce_csrf_checks=True)
    page = stranger.get(link)
    assert "harbour.mov" not in text(page) and "og:" not in page.content.decode()
    assert page["Referrer-Policy"] == "same-origin", "browsers would send its form without an Origin"
    assert stranger.get(f"{link}files/outputs/t4.mp4").status_code == 404
    token = {"csrfmiddlewaretoken": stranger.cookies["csrftoken"].value}
    assert stranger.post(link, {**token, "password": "the harbour"}).status_code == 400
    assert stranger.post(link, {**token, "password": "the harbour at dawn"})["Location"] == link
    assert "harbour.mov" in text(stranger.get(link))
    assert body(stranger.get(f"{link}files/outputs/t4.mp4")) == b"t4.mp4"
    other = share(ada, done, password="another one entirely")
    stranger.cookies["shared"]["path"] = other
    assert "Password needed" in text(stranger.get(other)), "one link's password opened another"
    tries = [Client().post(link, {"password": "guess"}).status_code for _ in range(12)]
    assert tries[:9] == [400] * 9 and tries[-1] == 429


def test_only_a_done_job_is_shared_and_only_by_who_may_see_it(ada, chief, editor, done, django_user_model):
    hers = job(django_user_model.objects.create_user("eve"), "hers")
    assert ada.post(f"/jobs/{hers.pk}/share/", {"days": "7"}).status_code == 404
    assert chief.post(f"/jobs/{hers.pk}/share/", {"days": "1"}).status_code == 200
    theirs = Share.objects.get()
    for pk in (hers.pk, done.pk):  # of another job, it is no link
        assert ada.post(f"/jobs/{pk}/shares/{theirs.pk}/revoke/").status_code == 404
    for wrong in ({"days": "365"}, {"days": ""}, {"days": "7", "password": "short"}):
        assert ada.post(f"/jobs/{done.pk}/share/", wrong).status_code == 400
    failed = job(editor, "f", JobState.FAILED)
    assert ada.post(f"/jobs/{failed.pk}/share/", {"days": "7"})["Location"] == failed.get_absolute_url()
    assert Share.objects.count() == 1


def test_programs_make_list_and_revoke_links_of_jobs_that_are_theirs(client, editor, done, django_user_model):
    def program(owner):
        _, token = ApiToken.issue(owner, "a script", ["act", "read"], 1)
        return Client(headers={"Authorization": f"Bearer {token}"})

    hers = program(editor)
    path = f"/api/v1/jobs/{done.pk}/shares"
    for wrong in ({"days": 365}, {"days": 0}, {"password": "short"}, {"to": "eve"}):
        assert hers.post(path, wrong, content_type="application/json").status_code == 422
    made = hers.post(path, {"days": 2, "password": "the harbour"}, content_type="application/json")
    assert made.status_code == 201 and made.json()["share"]["password"] is True
    link = made.json()["link"].removeprefix("http://testserver")
    assert "Password needed" in text(client.get(urlsplit(link).path))
    listed = hers.get(path).json()["shares"]
    assert [(each["made_by"], each["works"], each["opened"]) for each in listed] == [("ada", True, 0)]
    assert made.json()["link"] not in hers.get(path).content.decode()
    eve = program(django_user_model.objects.create_user("eve"))
    number = listed[0]["id"]
    asked = eve.post(path, {}, content_type="application/json")
    for answer in (eve.get(path), asked, eve.delete(f"{path}/{number}")):
        assert answer.status_code == 404
    assert hers.delete(f"{path}/{number}").status_code == 200
    assert hers.delete(f"{path}/{number}").status_code == 409 and not Share.objects.exists()
    failed = job(editor, "f", JobState.FAILED)
    assert (
        hers.post(f"/api/v1/jobs/{failed.pk}/shares", {}, content_type="application/json").status_code == 409
    )


def test_links_of_who_may_not_sign_in_any_more_open_nothing_and_admins_see_why(
    ada, client, editor, chief, done
):
    link = share(ada, done)
    editor.is_active = False
    editor.save()
    for rest in ("", "files/outputs/t4.mp4", "all.zip"):
        assert client.get(f"{link}{rest}").status_code == 404
    page = text(chief.get(f"/jobs/{done.pk}/"))
    assert "Doesn’t work, since ada may not sign in any more" in page
    editor.is_active = True
    editor.save()
    assert client.get(link).status_code == 200
