"""People hear of their jobs when no page is open: who is told of what, once, by messages that arrive."""

from __future__ import annotations

import asyncio
import json
import re
import socketserver
import threading
import uuid
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.utils import timezone
from standardwebhooks import Webhook, WebhookVerificationError
from temporalio.worker import Worker

from jobs.models import Delivery, Destination, Job, Notice, Stage
from jobs.notifications import activities, events, outbox, wording
from jobs.notifications.channels import webhook
from jobs.notifications.channels.channel import NotDelivered, Parcel
from jobs.notifications.channels.chat import Chat
from jobs.notifications.delivery_workflow import NOTIFICATIONS, DeliveryWorkflow
from jobs.notifications.wording import Message, News
from jobs.state import JobState, PipelineStatus, Source, StageState, StageStatus
from tests.support.product import until_async
from tests.support.receiving import MailServer, Receiver, text_of

ADDRESS = "ada@example.org"
PAGE = "/account/notifications/"


def submitted(owner, title: str = "interview.mp4") -> Job:
    job = Job.submit(owner, title=title, pipeline="standard", source=Source(name="sources/o/a.mp4"))
    Job.objects.filter(pk=job.pk).update(state="running", workflow_started_at=timezone.now())
    return job


def report(job: Job, state: str, seq: int = 1, **stages: str) -> bool:
    """What the job's workflow records: its state, and those of the stages that have begun."""
    told = [StageStatus(name, name.title(), StageState(each)) for name, each in stages.items()]
    for stage in told:
        stage.error = "The file is damaged." if stage.state == StageState.FAILED else None
        stage.finished_at = timezone.now().timestamp()
    status = PipelineStatus(str(job.pk), JobState(state), seq, told)
    return job.record(status, [], job.run)


def to_mail(person, wants: str = "done needs_me", address: str = ADDRESS) -> Destination:
    now = timezone.now()
    return Destination.objects.create(
        owner=person, channel="mail", address=address, wants=wants, confirmed_at=now
    )


def types(job: Job) -> list[str]:
    return list(job.notices.values_list("type", flat=True))


# What has happened


@pytest.mark.django_db
def test_what_nobody_wants_to_hear_of_is_handled_at_once_however_much_it_is(
    editor, django_assert_max_num_queries
):
    for number in range(10):
        report(submitted(editor, f"{number}.mp4"), "succeeded", ingest="succeeded", transcode="succeeded")
    assert Notice.objects.filter(handled=False).count() == 30
    with django_assert_max_num_queries(4):
        outbox.hand_out()
    assert not Notice.objects.filter(handled=False).exists() and not Delivery.objects.exists()


@pytest.mark.django_db
def test_a_change_of_a_job_and_its_notice_are_one_transaction(editor):
    job = submitted(editor)
    with transaction.atomic():
        report(job, "succeeded", ingest="succeeded")
        transaction.set_rollback(True)
    assert types(job) == []
    assert report(job, "succeeded", ingest="succeeded")
    assert types(job) == [events.STAGE_DONE, events.DONE]


@pytest.mark.django_db
def test_what_is_reported_twice_has_happened_once(editor):
    job = submitted(editor)
    report(job, "attention", 3, ingest="failed")
    report(job, "attention", 3, ingest="failed")
    report(job, "attention", 4, ingest="failed")
    assert types(job) == [events.STAGE_FAILED, events.HELD]
    assert job.notices.get(type=events.HELD).text == "Ingest: The file is damaged."
    report(job, "running", 5, ingest="running")
    report(job, "attention", 6, ingest="failed")
    assert types(job).count(events.HELD) == 2  # held again, after a retry


@pytest.mark.django_db
def test_an_end_that_no_workflow_reports_is_told_too(editor):
    lost, early = submitted(editor), Job.submit(editor, title="b", pipeline="standard", source=Source())
    assert lost.close(JobState.FAILED, "Its workflow is gone.") and early.cancel_unstarted("ada")
    assert types(lost) == [events.FAILED] and types(early) == [events.CANCELLED]


# Who is told


@pytest.mark.parametrize(
    "wants, event, mine, admin, told",
    [
        ("done", events.DONE, True, False, True),
        ("done", events.DONE, False, True, False),
        ("done", events.FAILED, True, False, False),
        ("needs_me", events.FAILED, True, False, True),
        ("needs_me", events.STILL_HELD, True, False, True),
        ("anybody", events.HELD, False, True, True),
        ("anybody", events.HELD, False, False, False),  # an admin once, an editor now
        ("done needs_me slow anybody", events.CANCELLED, True, True, False),  # a person did that
        ("slow", events.SLOW, True, False, True),
        ("done needs_me slow anybody", events.STAGE_DONE, True, True, False),
    ],
)
def test_who_wants_what(wants, event, mine, admin, told):
    assert events.wanted(wants, event, mine=mine, admin=admin) is told


@pytest.mark.django_db
def test_only_confirmed_places_of_people_who_may_come_in_are_told(editor, chief):
    to_mail(editor)
    unconfirmed = to_mail(editor, address="b@example.org")
    Destination.objects.filter(pk=unconfirmed.pk).update(confirmed_at=None)
    to_mail(User.objects.create_user("gone", is_active=False, is_staff=True), "anybody")
    admin = to_mail(User.objects.get(username="chief"), "anybody")
    stranger = to_mail(User.objects.create_user("eve"), "done needs_me slow anybody")
    report(submitted(editor), "attention", ingest="failed")
    outbox.hand_out()
    told = set(Delivery.objects.values_list("owner__username", "destination__address"))
    assert told == {("ada", ADDRESS), ("chief", admin.address)}
    assert not stranger.deliveries.exists()


@pytest.mark.django_db
def test_a_bulk_is_one_message_and_looking_twice_changes_nothing(editor):
    to_mail(editor)
    for number in range(30):
        report(submitted(editor, f"take {number}"), "succeeded", ingest="succeeded")
    outbox.hand_out()
    outbox.hand_out()
    delivery = Delivery.objects.get()
    assert delivery.notices.count() == 30
    taken = Delivery.take(delivery.pk)
    report(submitted(editor, "too late"), "succeeded")
    outbox.hand_out()
    assert taken.notices.count() == 30 and Delivery.objects.count() == 2


@pytest.mark.django_db
def test_a_held_job_reminds_each_day_and_says_when_it_closes(editor, settings):
    to_mail(editor)
    job = submitted(editor)
    report(job, "attention", ingest="failed")
    now = timezone.now()
    for hours in (1, 23, 25, 30, 49, 49):
        outbox.look(now + timedelta(hours=hours))
    assert types(job).count(events.STILL_HELD) == 2
    outbox.hand_out()
    delivery = Delivery.objects.get()
    text = activities.compose(delivery, delivery.destination).text
    closes = timezone.localtime(now + timedelta(days=settings.HOLD_DAYS))
    assert f"closed by itself on {closes:%A}, {closes.day} {closes:%B}" in text
    report(job, "running", 5, ingest="running")
    assert activities.compose(delivery, delivery.destination) is None  # somebody has retried it meanwhile


@pytest.mark.django_db
def test_a_stage_that_takes_three_times_as_long_as_usual_is_told_once(editor):
    to_mail(editor, "slow")
    now = timezone.now()
    for job in (submitted(editor) for _ in range(3)):
        job.stages.filter(name="transcode").update(
            state="succeeded", started_at=now - timedelta(minutes=5), finished_at=now
        )
    slow, usual = submitted(editor, "slow"), submitted(editor, "usual")
    for job, minutes in ((slow, 16), (usual, 14)):
        job.stages.filter(name="transcode").update(
            state="running", started_at=now - timedelta(minutes=minutes)
        )
    outbox.look(now)
    outbox.look(now)
    assert types(slow) == [events.SLOW] and types(usual) == []
    assert slow.notices.get().text == "Transcode usually takes 5 minutes here."


# What a message says


def test_a_message_about_one_job_leads_to_it():
    told = News(events.HELD, "a\nb.mp4", "http://x/jobs/1/", "Ingest: The file is damaged.")
    message = wording.message([told], "http://x/", "http://x/account/notifications/")
    assert message.subject == "“a b.mp4” needs you" and message.url == "http://x/jobs/1/"
    assert "Ingest: The file is damaged." in message.text and "http://x/jobs/1/" in message.text
    assert message.whole.endswith("http://x/account/notifications/\n")


def test_a_message_about_many_jobs_counts_them():
    many = [News(events.DONE, f"take {n}", f"http://x/jobs/{n}/") for n in range(45)]
    many.append(News(events.HELD, "bad", "http://x/jobs/bad/", "Ingest: damaged.", owner="ada"))
    message = wording.message(many, "http://x/", "")
    assert message.subject == "45 jobs are done, 1 needs you" and message.url == "http://x/"
    assert "“take 39” is done\nhttp://x/jobs/39/" in message.text and "And 6 more" in message.text


def test_a_message_names_the_hour_at_which_a_job_is_closed():
    told = News(events.STILL_HELD, "a", "u", closes_at=datetime(2026, 12, 5, 9, 3, tzinfo=UTC))
    assert "closed by itself on Saturday, 5 December, 09:03" in wording.message([told], "", "").text


# Messages that arrive


@pytest.fixture
def mail(settings):
    """A real mail server, and an installation that sends by it."""
    server = MailServer()
    server.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_USE_TLS = "127.0.0.1", server.port, False
    settings.DEFAULT_FROM_EMAIL = "mediapipe <media@example.org>"
    settings.PUBLIC_URL = "http://media.example.org"
    yield server
    server.stop()


@pytest.fixture
async def delivering(skipping_env, temporal_at):
    """A worker of deliveries, in a Temporal in which three days pass at once; hands out and awaits them."""
    temporal_at(skipping_env.client.service_client.config.target_host)
    queue = str(uuid.uuid4())

    async def hand_out() -> list[str]:
        await sync_to_async(outbox.hand_out)()
        waiting = [each async for each in Delivery.objects.filter(state="waiting").order_by("created_at")]
        await outbox.run_once(queue)  # from here on one may be sent before the next line
        await outbox.run_once(queue)  # nothing is started twice
        handles = [skipping_env.client.get_workflow_handle(each.workflow_id) for each in waiting]
        async with skipping_env.time_skipping_unlocked():
            return [await handle.result() for handle in handles]

    workflows, functions = [DeliveryWorkflow], activities.ALL
    async with Worker(
        skipping_env.client, task_queue=queue + NOTIFICATIONS, workflows=workflows, activities=functions
    ):
        yield hand_out


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_an_address_is_confirmed_by_a_button_and_then_a_job_that_is_done_comes_there(
    mail, delivering, editor, ada
):
    post, get = sync_to_async(ada.post), sync_to_async(ada.get)
    form = {"channel": "mail", "address": ADDRESS, "wants": ["done", "needs_me"]}
    assert (await post(PAGE, form)).status_code == 302
    assert await delivering() == ["sent"]
    [letter] = mail.letters
    link = re.search(r"http://media.example.org(/\S+)", text_of(letter))[1]
    assert (await get(link)).status_code == 200
    assert not (await Destination.objects.aget()).confirmed_at  # a mail scanner opens links, too
    stranger = Client()
    await sync_to_async(stranger.force_login)(await User.objects.acreate(username="eve"))
    assert (await sync_to_async(stranger.post)(link)).status_code == 404
    assert (await post(link)).status_code == 302 and (await Destination.objects.aget()).confirmed_at

    job = await sync_to_async(submitted)(editor)
    await sync_to_async(report)(job, "succeeded", ingest="succeeded")
    assert await delivering() == ["sent"]
    letter = mail.letters[1]
    assert letter["Subject"] == "“interview.mp4” is done" and letter["To"] == ADDRESS
    assert f"http://media.example.org/jobs/{job.pk}/" in text_of(letter)
    assert len(mail.letters) == 2
    page = (await get(f"/jobs/{job.pk}/")).content.decode()
    assert "Delivered" in page and "Send again" in page
    delivery = await Delivery.objects.aget(about="events")
    await post(f"{PAGE}deliveries/{delivery.pk}/", {"next": "job"})
    assert await delivering() == ["sent"] and len(mail.letters) == 3


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_a_mail_server_that_is_down_gets_the_mail_when_it_is_back(
    mail, delivering, editor, skipping_env
):
    await sync_to_async(to_mail)(editor)
    await sync_to_async(report)(await sync_to_async(submitted)(editor), "succeeded", ingest="succeeded")
    mail.stop()

    async def back():
        row = await Delivery.objects.afirst()
        return row and row.tries >= 3 and row

    async with asyncio.TaskGroup() as group:
        group.create_task(delivering())
        row = await until_async(back)
        assert "can’t be reached" in row.error
        await sync_to_async(mail.start)()
    assert (await Delivery.objects.aget()).state == "sent" and len(mail.letters) == 1
    handle = skipping_env.client.get_workflow_handle(row.workflow_id)
    history = (await handle.fetch_history()).to_json()
    assert ADDRESS not in history and "interview" not in json.dumps(history)


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_three_days_of_tries_end_with_a_sentence_and_can_begin_again(mail, delivering, editor, ada):
    await sync_to_async(to_mail)(editor)
    job = await sync_to_async(submitted)(editor)
    await sync_to_async(report)(job, "succeeded", ingest="succeeded")
    mail.stop()
    assert await delivering() == ["failed"]
    row = await Delivery.objects.aget()
    assert row.tries > 60
    says = "Not delivered. Given up after three days. The mail server can’t be reached."
    assert says in (await sync_to_async(ada.get)(f"/jobs/{job.pk}/")).content.decode()


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_an_address_that_the_server_refuses_is_tried_once(mail, delivering, editor):
    await sync_to_async(to_mail)(editor)
    await sync_to_async(report)(await sync_to_async(submitted)(editor), "succeeded", ingest="succeeded")
    mail.refusals = ["550 No such person"]
    assert await delivering() == ["failed"]
    row = await Delivery.objects.aget()
    assert row.tries == 1 and row.error == "The mail server refuses this address."


# Webhooks


@pytest.fixture
def receiver(settings):
    """A program that wants to know, in a network that this installation may reach."""
    settings.ALLOW_PRIVATE_SOURCES = True
    server = Receiver()
    server.start()
    yield server
    server.stop()


def secret_on(page) -> str:
    return re.search(r'value="(whsec_[^"]+)"', page.content.decode())[1]


def hooked(ada, url: str, *wants: str) -> tuple[Destination, str]:
    """A webhook of hers, made on the page, and its secret."""
    page = ada.post(PAGE, {"channel": "webhook", "address": url, "wants": wants or ("every",)})
    assert page.status_code == 200, page.content.decode()
    return Destination.objects.get(channel="webhook"), secret_on(page)


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_each_event_is_posted_and_its_signature_is_the_schemes(receiver, delivering, editor, ada):
    hook, secret = await sync_to_async(hooked)(ada, receiver.url)
    job = await sync_to_async(submitted)(editor)
    await sync_to_async(report)(job, "running", 1, ingest="succeeded", audio="running")
    await sync_to_async(report)(job, "succeeded", 2, ingest="succeeded", audio="succeeded")
    assert set(await delivering()) == {"sent"}
    events_ = [Webhook(secret).verify(body, headers) for headers, body in receiver.came]
    told = sorted((each["type"], each["data"]["stage"]) for each in events_)
    stages = [("stage.started", "audio"), ("stage.succeeded", "audio"), ("stage.succeeded", "ingest")]
    assert told == [("job.succeeded", None), *stages]
    assert events_[0]["data"]["job"]["id"] == str(job.pk)
    assert events_[0]["data"]["job"]["api_url"].endswith(f"/api/v1/jobs/{job.pk}")
    ids = {headers["webhook-id"] for headers, _ in receiver.came}
    assert ids == {str(pk) async for pk in Delivery.objects.values_list("pk", flat=True)}

    page = (await sync_to_async(ada.get)(f"{PAGE}{hook.pk}/")).content.decode()
    assert secret not in page and "a-path-that-is-a-secret" not in page and "stage.started" in page
    other = await Delivery.objects.afirst()
    await sync_to_async(ada.post)(f"{PAGE}deliveries/{other.pk}/")
    assert await delivering() == ["sent"]
    assert receiver.came[-1][0]["webhook-id"] == str(other.pk) and len(receiver.came) == 5


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_a_receiver_that_was_down_or_asked_for_patience_hears_it_once(
    receiver, delivering, editor, ada, skipping_env
):
    await sync_to_async(hooked)(ada, receiver.url, "done")
    receiver.answers = [(500, {}), (503, {"Retry-After": "3600"}), (302, {"Location": "http://127.0.0.1:1/"})]
    await sync_to_async(report)(await sync_to_async(submitted)(editor), "succeeded")
    before = await skipping_env.get_current_time()
    assert await delivering() == ["sent"]
    assert await skipping_env.get_current_time() - before > timedelta(hours=1)
    assert len(receiver.came) == 4 and len({headers["webhook-id"] for headers, _ in receiver.came}) == 1
    row = await Delivery.objects.aget()
    assert row.tries == 4 and row.error == ""
    handle = skipping_env.client.get_workflow_handle(row.workflow_id)
    history = json.dumps((await handle.fetch_history()).to_json())
    assert "a-path-that-is-a-secret" not in history and "whsec" not in history


@pytest.mark.parametrize(
    ("asked", "hours"),
    [
        ("3600", 1),
        ("9" * 5000, 6),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 6),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("soon", None),
        ("\xb2", None),
    ],
    ids=["an hour", "digits", "a date", "a date that has passed", "a word", "a strange digit"],
)
def test_a_receiver_may_ask_for_patience_in_every_way_and_for_six_hours_at_most(asked, hours):
    with pytest.raises(NotDelivered) as error:
        webhook.judge(httpx.Response(503, headers=[(b"Retry-After", asked.encode("latin-1"))]))
    assert error.value.again_in == (None if hours is None else timedelta(hours=hours))


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_what_a_receiver_missed_for_good_is_played_again(receiver, delivering, editor, ada):
    hook, _ = await sync_to_async(hooked)(ada, receiver.url, "done")
    receiver.answers = [(410, {})]
    await sync_to_async(report)(await sync_to_async(submitted)(editor), "succeeded")
    assert await delivering() == ["failed"]
    page = (await sync_to_async(ada.get)(f"{PAGE}{hook.pk}/")).content.decode()
    assert "Not delivered. The receiver says that it’s gone (410)." in page and "failed (1)" in page
    await sync_to_async(ada.post)(f"{PAGE}{hook.pk}/replay/")
    assert await delivering() == ["sent"] and len(receiver.came) == 2


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_while_a_secret_is_replaced_both_are_valid_and_a_third_is_not(receiver, delivering, ada):
    hook, first = await sync_to_async(hooked)(ada, receiver.url)
    second = secret_on(await sync_to_async(ada.post)(f"{PAGE}{hook.pk}/secret/"))

    async def signed() -> tuple[dict[str, str], bytes]:
        await sync_to_async(ada.post)(f"{PAGE}{hook.pk}/test/")
        assert await delivering() == ["sent"]
        return receiver.came[-1]

    headers, body = await signed()
    assert Webhook(first).verify(body, headers) == Webhook(second).verify(body, headers)
    third = secret_on(await sync_to_async(ada.post)(f"{PAGE}{hook.pk}/secret/"))
    headers, body = await signed()
    assert Webhook(second).verify(body, headers) == Webhook(third).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(first).verify(body, headers)
    await hook.arefresh_from_db()
    assert hook.valid_secrets(timezone.now() + timedelta(hours=25)) == [third]


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_no_webhook_leads_into_our_own_network(receiver, delivering, editor, ada, settings):
    await sync_to_async(hooked)(ada, receiver.url, "done")
    settings.ALLOW_PRIVATE_SOURCES = False
    for url in (receiver.url, "https://127.0.0.1/", "https://[::1]/", "https://localhost/", "ftp://x.org/"):
        form = {"channel": "webhook", "address": url, "wants": ["done"]}
        assert (await sync_to_async(ada.post)(PAGE, form)).status_code == 400
    await sync_to_async(report)(await sync_to_async(submitted)(editor), "succeeded")
    assert await delivering() == ["failed"]  # a name that was public once leads here today
    assert receiver.came == [] and "can’t be found" in (await Delivery.objects.aget()).error


@pytest.mark.django_db
def test_everything_of_everybody_is_for_admins_and_for_programs(editor, ada, chief):
    assert events.wanted("everybody", events.STAGE_STARTED, mine=False, admin=True)
    assert not events.wanted("everybody", events.DONE, mine=False, admin=False)
    assert "Everything of my jobs" in ada.get(PAGE).content.decode()
    form = {"channel": "webhook", "address": "https://192.0.2.1/", "wants": ["everybody"]}
    assert "everybody is not one of" in ada.post(PAGE, form).content.decode()


# Chat


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_a_service_that_an_admin_allows_is_told_in_words(receiver, delivering, editor, ada, settings):
    settings.CHAT_SERVICES = ["json"]
    post = sync_to_async(ada.post)
    address = receiver.url.replace("http://", "json://")
    form = {"channel": "chat", "address": address, "wants": ["done"]}
    assert (await post(PAGE, form)).status_code == 302
    page = (await sync_to_async(ada.get)(PAGE)).content.decode()
    assert "json://…" in page and "a-path-that-is-a-secret" not in page
    receiver.answers = [(500, {})]
    for title in ("one", "two"):
        await sync_to_async(report)(await sync_to_async(submitted)(editor, title), "succeeded")
    assert await delivering() == ["sent"] and len(receiver.came) == 2
    told = json.loads(receiver.came[-1][1])
    assert told["title"] == "2 jobs are done" and "“two” is done" in told["message"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "address, says",
    [
        ("json://127.0.0.1:9/", "can be used here"),  # leads wherever it says
        ("ntfys://localhost/topic", "can be used here"),
        ("https://example.org/", "can be used here"),
        ("syslog://", "can be used here"),  # of this machine
        ("nonsense", "can be used here"),
        ("https://[", "can be used here"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?template=/etc/passwd", "Leave template out"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?verify=no&rto=9999", "Leave rto, verify out"),
    ],
)
def test_what_leads_elsewhere_or_reads_a_file_is_no_address(ada, address, says):
    answer = ada.post(PAGE, {"channel": "chat", "address": address, "wants": ["done"]})
    assert answer.status_code == 400 and says in answer.content.decode()
    assert not Destination.objects.exists()


@pytest.fixture
def recorded(monkeypatch):
    """What a proxy for everything that leaves this process is asked to connect to; it connects nowhere."""
    seen = []

    class Recorder(socketserver.StreamRequestHandler):
        def handle(self):
            seen.append(self.rfile.readline().decode("latin-1"))
            self.wfile.write(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Recorder) as server:
        threading.Thread(target=server.serve_forever, args=[0.02]).start()
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_address[1]}")
        yield seen
        server.shutdown()


EVIL = "?to=evil.example&region=evil.example/"
TOKEN = "a" * 30


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("address", "vendor"),
    [
        (f"discord://evil.example/evil.example/{EVIL}", "discord.com"),
        (f"tgram://111111111:{TOKEN}/12345/evil.example/{EVIL}", "telegram.org"),
        (f"gchat://evil.example/evil.example/evil.example/{EVIL}", "googleapis.com"),
        (f"webex://evil.example/{EVIL}", "webexapis.com"),
        (f"zoom://{TOKEN}/evil.example/{EVIL}", "zoom.us"),
        (f"line://evil.example/{EVIL}", "line.me"),
        (f"lark://evil.example@{TOKEN}/{EVIL}", "larksuite.com"),
        (f"feishu://evil.example@{TOKEN}/{EVIL}", "feishu.cn"),
        (f"dingtalk://{TOKEN}/evil.example/{EVIL}", "dingtalk.com"),
        (f"flock://evil.example@{TOKEN}/{TOKEN}/{EVIL}", "flock.co"),
        (f"pover://{TOKEN}@{TOKEN}/", "pushover.net"),
        (f"pbul://evil.example/{EVIL}", "pushbullet.com"),
        (f"signl4://evil.example/{EVIL}", "signl4.com"),
    ],
)
async def test_wherever_an_address_of_a_service_points_its_vendor_alone_is_connected_to(
    recorded, address, vendor
):
    destination = Destination(channel="chat", address=Chat().accept(address), pk=1)
    with pytest.raises(NotDelivered) as error:
        await Chat().send(destination, Parcel("key", Message("s", "t", "m")))
    assert recorded and "evil" not in str(error.value)
    assert all(re.match(rf"CONNECT [\w.-]*\b{vendor}:443 ", line) for line in recorded), recorded


@pytest.mark.django_db
def test_a_vendors_own_spelling_is_an_address(ada):
    for address in (
        "https://discord.com/api/webhooks/1234/abcd",
        "tgram://123456789:abcdefg_hijklmnop/lead/",
    ):
        form = {"channel": "chat", "address": address, "wants": ["done"]}
        assert ada.post(PAGE, form).status_code == 302
    assert Destination.objects.count() == 2


# The pages


@pytest.mark.django_db
def test_another_persons_destinations_and_deliveries_are_not_there(editor, ada, chief, settings):
    mine = to_mail(editor)
    delivery = Delivery.to(mine)
    for path in (f"{PAGE}{mine.pk}/", f"{PAGE}{mine.pk}/test/", f"{PAGE}{mine.pk}/remove/"):
        assert chief.post(path).status_code == 404
    assert chief.post(f"{PAGE}deliveries/{delivery.pk}/").status_code == 404
    assert ADDRESS not in chief.get(PAGE).content.decode()
    assert ada.get(f"{PAGE}{mine.pk}/").status_code == 200
    assert ada.post(f"{PAGE}{mine.pk}/remove/").status_code == 302
    assert not Destination.objects.exists() and Delivery.objects.get().destination is None


@pytest.mark.django_db
def test_an_editor_is_offered_nobody_elses_jobs(editor, ada, chief, settings):
    settings.EMAIL_HOST = "mail.example.org"
    assert "Anybody’s" not in ada.get(PAGE).content.decode()
    assert "Anybody’s" in chief.get(PAGE).content.decode()
    form = {"channel": "mail", "address": ADDRESS, "wants": ["anybody"]}
    assert ada.post(PAGE, form).status_code == 400 and not Destination.objects.exists()


@pytest.mark.django_db
def test_tests_and_links_are_sent_a_few_times_an_hour_only(editor, ada, settings):
    settings.EMAIL_HOST = "mail.example.org"
    mine = to_mail(editor)
    for _ in range(9):
        ada.post(f"{PAGE}{mine.pk}/test/")
    assert Delivery.objects.filter(about="test").count() == 6
    form = {"channel": "mail", "address": "somebody@example.org", "wants": ["done"]}
    assert "asked for often" in ada.post(PAGE, form).content.decode()
    Delivery.objects.update(created_at=timezone.now() - timedelta(hours=2))
    assert ada.post(PAGE, form).status_code == 302


@pytest.mark.django_db
def test_an_address_that_is_none_is_said_and_without_a_server_there_is_no_form(ada, settings):
    settings.EMAIL_HOST = ""
    assert "sends no mail yet" in ada.get(PAGE).content.decode()
    settings.EMAIL_HOST = "mail.example.org"
    for wrong in ("ada", "ada@example.org\nBcc: eve@example.org"):
        answer = ada.post(PAGE, {"channel": "mail", "address": wrong, "wants": ["done"]})
        assert answer.status_code == 400 and "That isn’t a mail address" in answer.content.decode()
    assert ada.post(PAGE, {"channel": "pigeon"}).status_code == 404


@pytest.mark.django_db
def test_a_job_of_which_nobody_was_told_says_where_to_choose(editor, ada):
    job = submitted(editor)
    page = ada.get(f"/jobs/{job.pk}/").content.decode()
    assert "Nobody has been told of this job" in page and PAGE in page
    assert ada.get(f"/jobs/{job.pk}/deliveries/").status_code == 200
    assert Stage.objects.filter(job=job).exists() and Notice.objects.count() == 0
