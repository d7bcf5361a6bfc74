"""The activities of a delivery: a try, and giving up. They read the row, and give Temporal only sentences."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from temporalio import activity
from temporalio.exceptions import ApplicationError

from jobs.models.batch import Batch
from jobs.models.delivery import CONFIRMATION, DROPPED, FAILED, SENT, TEST, WAITING, Delivery
from jobs.models.destination import Destination
from jobs.models.notice import Notice
from jobs.models.stage import Stage
from jobs.notifications import confirming, events, payload, wording
from jobs.notifications.channels import BY_NAME
from jobs.notifications.channels.channel import NotDelivered, Parcel
from jobs.notifications.delivery_workflow import DELIVER, GIVE_UP
from jobs.notifications.wording import BatchNews, Message, News
from jobs.state import ACTIVE, JobState, StageState
from mediapipe.database import in_thread, persistently
from mediapipe.own_address import absolute

REMOVED = "This destination has been removed."
MENDED = "There was nothing left to tell: it was settled before the message went."


def still_true(notice: Notice) -> bool:
    """Whether a person must still be notified: a job that was retried needs nobody any more."""
    if notice.type in (events.HELD, events.STILL_HELD):
        return notice.job.state == JobState.ATTENTION
    return notice.type != events.SLOW or notice.job.state in ACTIVE


def closes_at(notice: Notice) -> datetime | None:
    """When a held job is closed by itself."""
    if notice.type not in (events.HELD, events.STILL_HELD) or not settings.HOLD_DAYS:
        return None
    held = notice.job.stages.filter(state=StageState.FAILED).order_by("-finished_at").first()
    since = held.finished_at if held and held.finished_at else notice.at
    return timezone.localtime(since + timedelta(days=settings.HOLD_DAYS))


def news_of(batch: Batch, person_id: int) -> BatchNews:
    """What there is to tell *person_id* of a batch that is over, as it is now."""
    counts = batch.counts()
    why = [(reason.sentence or reason.kind, reason.jobs) for reason in Stage.reasons(batch.failed())]
    owner = "" if batch.owner_id == person_id else batch.owner.get_username()
    url = absolute(batch.get_absolute_url())
    needy = counts.attention + counts.rejected
    return BatchNews(batch.title, url, counts.total, counts.done, needy, [*why, *batch.rejected()], owner)


def compose(delivery: Delivery, destination: Destination) -> Message | None:
    """The message; None where nothing is left to tell."""
    manage = absolute(reverse("jobs:notifications"))
    home = absolute(reverse("jobs:list"))
    if delivery.about == CONFIRMATION:
        return wording.confirmation(delivery.owner.get_username(), absolute(confirming.path(destination)))
    if delivery.about == TEST:
        return wording.test_message(home, manage)
    if delivery.batch:
        return wording.batch_message(news_of(delivery.batch, delivery.owner_id), manage)
    notices = [n for n in delivery.notices.select_related("job__owner") if still_true(n)]
    latest = {n.job_id: n for n in notices}  # of a job the last word is enough
    news = [
        News(
            n.type,
            n.job.title,
            absolute(n.job.get_absolute_url()),
            n.text,
            "" if n.job.owner_id == delivery.owner_id else n.job.owner.get_username(),
            closes_at(n),
        )
        for n in latest.values()
    ]
    return wording.message(news, home, manage) if news else None


def pack(delivery: Delivery, destination: Destination) -> Parcel | None:
    """What the channel delivers; None where nothing is left to tell."""
    if not BY_NAME[delivery.channel].for_programs:
        message = compose(delivery, destination)
        return Parcel(str(delivery.pk), message) if message else None
    if delivery.about == TEST:
        return Parcel(str(delivery.pk), event=payload.test_event(delivery.created_at.isoformat()))
    notice = delivery.notices.select_related("job__owner").first()
    return Parcel(str(delivery.pk), event=payload.event_of(notice)) if notice else None


@activity.defn(name=DELIVER)
async def deliver(delivery_id: str) -> str:
    """One try; the state of the row after it. Raises ApplicationError where another try may help."""
    delivery = await in_thread(Delivery.take, UUID(delivery_id))
    if delivery is None:
        return "nothing to do"
    destination = delivery.destination
    if destination is None or not delivery.owner.is_active:
        return await _settle(delivery, FAILED, REMOVED)
    parcel = await in_thread(pack, delivery, destination)
    if parcel is None:
        return await _settle(delivery, DROPPED, MENDED)
    try:
        await BY_NAME[delivery.channel].send(destination, parcel)
    except NotDelivered as error:
        if error.ends:
            await persistently(destination.end, str(error))
        if error.permanent:
            return await _settle(delivery, FAILED, str(error))
        await _settle(delivery, WAITING, str(error))
        raise ApplicationError(str(error), next_retry_delay=error.again_in) from None
    return await _settle(delivery, SENT)


async def _settle(delivery: Delivery, state: str, error: str = "") -> str:
    """Records it however long the database is away: a message that has gone must not go twice."""
    await persistently(delivery.settle, state, error)
    return state


@activity.defn(name=GIVE_UP)
async def give_up(delivery_id: str) -> str:
    """Ends a delivery that three days of tries haven't brought there."""
    delivery = await in_thread(Delivery.objects.filter(pk=delivery_id).first)
    if delivery is None or delivery.state != WAITING:
        return "nothing to do"
    return await _settle(delivery, FAILED, f"Given up after three days. {delivery.error}".strip())


ALL = [deliver, give_up]
