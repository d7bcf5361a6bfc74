"""Web Push: what goes to a browser's push service, who can read it, and what ends it."""

from __future__ import annotations

import json

import pytest
from asgiref.sync import sync_to_async
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.test import Client
from django.utils import timezone

from jobs.models import Delivery, Destination, Job
from jobs.models.delivery import TEST
from jobs.notifications import activities, outbox
from jobs.notifications import push_message as push
from jobs.notifications.channels.browser import Browser
from jobs.notifications.channels.channel import NotAccepted
from tests.support.product import ROOT
from tests.support.receiving import Receiver
from tests.test_notifications import PAGE, report, submitted

PUBLIC = "https://93.184.215.14/push/a-secret"


class Subscribed:
    """A browser that has subscribed: what it hands over, and what it reads of a message."""

    def __init__(self, endpoint: str) -> None:
        self.key = ec.generate_private_key(push.CURVE)
        self.auth = b"0123456789abcdef"
        self.public = push.public(self.key)
        keys = {"p256dh": push.encode(self.public), "auth": push.encode(self.auth)}
        self.told = json.dumps({"endpoint": endpoint, "expirationTime": None, "keys": keys})

    def read(self, body: bytes) -> dict:
        """As RFC 8188 and 8291 have it."""
        salt, theirs = body[:16], body[21 : 21 + body[20]]
        shared = self.key.exchange(
            ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(push.CURVE, theirs)
        )
        secret = HKDF(SHA256(), 32, self.auth, b"WebPush: info\0" + self.public + theirs).derive(shared)
        key = HKDF(SHA256(), 16, salt, b"Content-Encoding: aes128gcm\0").derive(secret)
        nonce = HKDF(SHA256(), 12, salt, b"Content-Encoding: nonce\0").derive(secret)
        text = AESGCM(key).decrypt(nonce, body[21 + body[20] :], None)
        assert text.endswith(b"\2")
        return json.loads(text[:-1])


def test_a_message_is_encrypted_as_others_do_it():
    """The body that http_ece 1.2.1 makes of the same keys and salt."""
    once = ec.derive_private_key(
        int.from_bytes(push.decode("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")), push.CURVE
    )
    receiver = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
    body = push.encrypt(
        b"When I grow up, I want to be a watermelon",
        push.decode(receiver),
        push.decode("BTBZMqHH6r4Tts7J_aSIgg"),
        once,
        push.decode("DGv6ra1nlYgDCS1FRnzzlw"),
    )
    assert push.encode(body) == (
        "DGv6ra1nlYgDCS1FRnzzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6Tlz"
        "AC8wEqKK6PBru3jl7A-FKLzWHPOydar597v0VY4NBCqyjM7hQKnLLTKkjAypQiaBOycLOEbLarzeWtReNmwJ6AJnPJuGGEBm"
    )


def test_an_installation_signs_by_the_same_key_each_time_and_another_by_another():
    key, again, other = (push.key_of(secret) for secret in ("a" * 40, "a" * 40, "b" * 40))
    assert push.public(key) == push.public(again) != push.public(other)
    header = push.authorization(key, "https://push.example.net", "mailto:a@example.org", 1000)
    token, public = header.removeprefix("vapid t=").split(", k=")
    signed, _, signature = token.rpartition(".")
    raw = push.decode(signature)
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    key.public_key().verify(der, signed.encode(), ec.ECDSA(SHA256()))
    claims = json.loads(push.decode(signed.split(".")[1]))
    assert claims["aud"] == "https://push.example.net" and 1000 < claims["exp"] <= 1000 + 24 * 3600
    assert push.decode(public) == push.public(key)


@pytest.mark.parametrize(
    "told",
    [
        "",
        "{}",
        "[]",
        "null",
        Subscribed("https://127.0.0.1/x").told,
        Subscribed("https://10.0.0.7/x").told,
        Subscribed("http://93.184.215.14/x").told,
        Subscribed("ftp://93.184.215.14/x").told,
        Subscribed(PUBLIC + "x" * 1000).told,
        Subscribed(PUBLIC).told.replace('"p256dh": "B', '"p256dh": "A'),
    ],
)
def test_what_is_no_push_service_on_the_internet_is_not_taken(told):
    with pytest.raises(NotAccepted):
        Browser().accept(told)


@pytest.mark.django_db
def test_a_person_asks_in_a_browser_and_sees_whose_it_is(ada, editor):
    page = ada.get(PAGE).content.decode()
    assert f'data-push="{Browser().key}"' in page and "/push." in page
    chrome = Subscribed("https://fcm.googleapis.com/fcm/send/secret").told
    row = Destination.objects.create(owner=editor, channel="browser", address=chrome, wants="done")
    assert "Chrome" in (page := ada.get(PAGE).content.decode()) and "secret" not in page
    row.delete()
    assert ada.post(PAGE, {"channel": "browser", "address": "{}", "wants": "done"}).status_code == 400
    asked = {"channel": "browser", "address": Subscribed(PUBLIC).told, "wants": ["done", "needs_me"]}
    assert ada.post(PAGE, asked).status_code == 302
    assert Destination.objects.get().confirmed_at
    worker = Client().get("/push-worker.js")  # browsers ask for it without a session too
    assert worker.status_code == 200 and worker["Content-Type"].startswith("text/javascript")


@pytest.fixture
def service(settings):
    """A push service, on this machine."""
    settings.ALLOW_PRIVATE_SOURCES = True
    settings.PUBLIC_URL = "https://media.example.org"
    server = Receiver()
    server.start()
    yield server
    server.stop()


async def tried(delivery: Delivery) -> Delivery:
    """The message after a try."""
    await activities.deliver(str(delivery.pk))
    return await Delivery.objects.aget(pk=delivery.pk)


@pytest.mark.anyio
@pytest.mark.django_db(transaction=True)
async def test_a_closed_browser_hears_of_a_job_and_one_that_is_gone_ends(editor, service):
    browser = Subscribed(service.url)
    asked = {"channel": "browser", "address": Browser().accept(browser.told), "wants": "done"}
    row = await Destination.objects.acreate(owner=editor, confirmed_at=timezone.now(), **asked)
    job: Job = await sync_to_async(submitted)(editor, "x" * 300)
    await sync_to_async(report)(job, "succeeded", ingest="succeeded")
    await sync_to_async(outbox.hand_out)()
    sent = await tried(await Delivery.objects.aget())
    assert sent.state == "sent", sent.error
    headers, body = service.came.pop()
    told = browser.read(body)
    assert told["title"].endswith("is done") and told["url"] == f"https://media.example.org/jobs/{job.pk}/"
    assert told["tag"] == str(sent.pk) and headers["Topic"] == sent.pk.hex and headers["TTL"] == "259200"
    assert headers["Content-Encoding"] == "aes128gcm" and headers["Authorization"].startswith("vapid t=")
    assert b"is done" not in body
    service.answers.append((410, {}))
    gone = await tried(await sync_to_async(Delivery.to)(row, TEST))
    assert gone.state == "failed" and "Ask for them again" in gone.error
    await row.arefresh_from_db()
    assert row.ended == gone.error.removeprefix("Not delivered. ")
    await sync_to_async(report)(await sync_to_async(submitted)(editor), "succeeded")
    await sync_to_async(outbox.hand_out)()
    assert await Delivery.objects.acount() == 2, "nothing goes there any more"


# Its listeners in a page, since a headless browser shows no notifications.
AS_WORKER = """
    async ([text, told, at]) => {
        const listeners = {}, done = [], waiting = [];
        const self = {
            location: {origin: at},
            addEventListener: (name, listener) => { listeners[name] = listener; },
            registration: {showNotification: async (...all) => { done.push(all); }},
            clients: {
                matchAll: async () => [{url: `${at}/jobs/open/`, focus: async () => { done.push("focus"); }}],
                openWindow: async (url) => { done.push(url); },
            },
        };
        new Function("self", text)(self);
        const waitUntil = (promise) => waiting.push(promise);
        listeners.push({waitUntil, data: {json: () => told}});
        for (const path of ["/jobs/open/", "/jobs/other/?a=1"]) {
            const notification = {close: () => {}, data: {url: `https://media.example.org${path}`}};
            listeners.notificationclick({waitUntil, notification});
        }
        await Promise.all(waiting);
        return done;
    }
"""


@pytest.mark.browser
def test_a_service_worker_shows_a_message_and_leads_to_its_page_at_this_very_address(context):
    told = {"title": "“a” is done", "body": "b", "tag": "k", "url": "https://media.example.org/jobs/open/"}
    script = (ROOT / "static" / "push-worker.js").read_text()
    done = context.new_page().evaluate(AS_WORKER, [script, told, "http://127.0.0.1:8000"])
    shown = {"body": "b", "tag": "k", "data": {"url": told["url"]}}
    assert sorted(done, key=str) == sorted(
        [["“a” is done", shown], "focus", "http://127.0.0.1:8000/jobs/other/?a=1"], key=str
    )
