"""A person's notifications: the page on which they choose what, and where; and who heard of a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.contrib.staticfiles import finders
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from jobs.models import Job
from jobs.models.delivery import CONFIRMATION, FAILED, TEST, Delivery
from jobs.models.destination import Destination
from jobs.notifications import confirming
from jobs.notifications.channels import ALL, BY_NAME
from jobs.notifications.channels.channel import Channel, NotAccepted
from jobs.notifications.channels.webhook import new_secret
from jobs.notifications.events import FOR_ADMINS, FOR_PROGRAMS, WANTS
from mediapipe.accounts.login_required import PageRequest

MAX_DESTINATIONS = 20  # destinations of one person
TOO_MANY = f"You have {MAX_DESTINATIONS} destinations already. Remove one first."
TOO_OFTEN = "That was asked for often in the last hour. Wait a while before the next one."
ALREADY_ADDED = "You have this one already."
MAX_SHOWN = 50  # deliveries on a destination's page


def choices(person: Any, channel: Channel) -> list[tuple[str, str]]:
    """What *person* may choose."""
    return [
        (name, label)
        for name, label in WANTS.items()
        if (person.is_staff or name not in FOR_ADMINS) and (channel.for_programs or name not in FOR_PROGRAMS)
    ]


class Wants(forms.Form):
    """What a destination hears of."""

    wants = forms.MultipleChoiceField(
        label="Tell me when",
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one."},
    )

    def __init__(self, person: Any, channel: Channel, *args: Any, **kwargs: Any) -> None:
        kwargs["auto_id"] = f"{channel.name}_%s"
        super().__init__(*args, **kwargs)
        field = self.fields["wants"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = choices(person, channel)

    @classmethod
    def of(cls, person: Any, row: Destination, data: Any = None) -> Wants:
        """The form of a destination that there is."""
        return cls(person, BY_NAME[row.channel], data, initial={"wants": row.wants.split()})

    def chosen(self) -> str:
        """As it is kept."""
        return " ".join(self.cleaned_data["wants"])


class NewDestination(Wants):
    """An address of one channel, and what is sent there."""

    address = forms.CharField(max_length=1000)

    def __init__(self, person: Any, channel: Channel, *args: Any, **kwargs: Any) -> None:
        super().__init__(person, channel, *args, **kwargs)
        self.channel = channel
        self.person = person
        self.fields["wants"].initial = ["every"] if channel.for_programs else ["done", "needs_me"]
        self.fields["address"].label = channel.address_label
        self.fields["address"].help_text = channel.hint
        if channel.by_script:
            self.fields["address"].widget = forms.HiddenInput()

    def clean_address(self) -> str:
        """As the channel keeps it."""
        try:
            return self.channel.accept(self.cleaned_data["address"].strip())
        except NotAccepted as error:
            raise forms.ValidationError(str(error)) from None

    def save(self) -> Destination | None:
        """The new destination, asked to confirm where it must; None where it can't be, with the error."""
        mine = Destination.objects.filter(owner=self.person)
        address = self.cleaned_data["address"]
        if mine.filter(channel=self.channel.name, address=address).exists():
            self.add_error("address", ALREADY_ADDED)
        elif mine.count() >= MAX_DESTINATIONS:
            self.add_error(None, TOO_MANY)
        elif self.channel.confirmed and not Delivery.may_ask(self.person):
            self.add_error(None, TOO_OFTEN)
        else:
            return self._create(address)
        return None

    @transaction.atomic
    def _create(self, address: str) -> Destination:
        destination = Destination.objects.create(
            owner=self.person,
            channel=self.channel.name,
            address=address,
            wants=self.chosen(),
            confirmed_at=None if self.channel.confirmed else timezone.now(),
        )
        if self.channel.confirmed:
            Delivery.to(destination, CONFIRMATION)
        return destination


@login_not_required
@require_GET
def push_worker(request: HttpRequest) -> HttpResponse:
    """The service worker, which browsers ask for anew by themselves, and whose pages are those below it."""
    text = finders.find("push-worker.js")
    assert text
    script = Path(text).read_bytes()
    return HttpResponse(
        script, content_type="text/javascript; charset=utf-8", headers={"Cache-Control": "no-cache"}
    )


def _mine(request: PageRequest, number: int) -> Destination:
    """A destination of one's own. Raises Http404."""
    return get_object_or_404(Destination, pk=number, owner=request.user)


@never_cache
@require_http_methods(["GET", "POST"])
def index(request: PageRequest) -> HttpResponse:
    """Where a person is notified, and a form for each channel."""
    posted = BY_NAME.get(request.POST.get("channel", ""))
    if request.method == "POST" and posted is None:
        raise Http404
    blocks = []
    for channel in ALL:
        form = NewDestination(request.user, channel, request.POST if channel is posted else None)
        away = channel.unavailable()
        if channel is posted and not away and form.is_valid() and (row := form.save()):
            return _show_secret(request, row) if channel.for_programs else redirect("jobs:notifications")
        mine = Destination.objects.filter(owner=request.user, channel=channel.name)
        shown = [(each, channel.shown(each), _labels(each)) for each in mine]
        blocks.append({"channel": channel, "form": form, "away": away, "destinations": shown})
    status = 400 if posted else 200
    return render(request, "jobs/notifications.html", {"blocks": blocks}, status=status)


def _show_secret(request: PageRequest, row: Destination) -> HttpResponse:
    """Gives a program's destination a new secret: the answer shows it, and no other page does."""
    secret = new_secret()
    row.replace_secret(secret)
    return _show(request, row, Wants.of(request.user, row), secret=secret)


def _labels(destination: Destination) -> str:
    return " · ".join(label for name, label in WANTS.items() if destination.wants_any(name))


@never_cache
@require_http_methods(["GET", "POST"])
def destination(request: PageRequest, number: int) -> HttpResponse:
    """One destination: what is sent there, and what was delivered."""
    row = _mine(request, number)
    form = Wants.of(request.user, row, request.POST or None)
    if form.is_bound and form.is_valid():
        Destination.objects.filter(pk=row.pk).update(wants=form.chosen())
        messages.success(request, "Saved.")
        return redirect("jobs:destination", number)
    return _show(request, row, form)


def _show(request: PageRequest, row: Destination, form: Wants, secret: str = "") -> HttpResponse:
    channel = BY_NAME[row.channel]
    context = {
        "destination": row,
        "channel": channel,
        "shown": channel.shown(row),
        "form": form,
        "secret": secret,
        "failed": row.deliveries.filter(state=FAILED).count(),
        "deliveries": row.deliveries.select_related("batch").prefetch_related("notices__job")[:MAX_SHOWN],
    }
    return render(request, "jobs/destination.html", context, status=400 if form.is_bound else 200)


@never_cache
@require_POST
def new_secret_of(request: PageRequest, number: int) -> HttpResponse:
    """Replaces the secret of a program's destination; for a day both count."""
    row = _mine(request, number)
    if not BY_NAME[row.channel].for_programs:
        raise Http404
    return _show_secret(request, row)


@require_POST
def replay(request: PageRequest, number: int) -> HttpResponse:
    """Sends all again that didn't arrive."""
    failed = _mine(request, number).deliveries.filter(state=FAILED)
    many = sum(delivery.send_again() for delivery in failed)
    messages.info(request, f"{many} sent again." if many else "There’s nothing to send again.")
    return redirect("jobs:destination", number)


@require_POST
def remove(request: PageRequest, number: int) -> HttpResponse:
    """Nothing is sent there any more."""
    _mine(request, number).delete()
    messages.success(request, "Removed. Nothing is sent there any more.")
    return redirect("jobs:notifications")


@require_POST
def send_test(request: PageRequest, number: int) -> HttpResponse:
    """Sends a test, or the question again where the address isn't confirmed."""
    row = _mine(request, number)
    if not Delivery.may_ask(request.user):
        messages.error(request, TOO_OFTEN)
    else:
        Delivery.to(row, TEST if row.confirmed_at else CONFIRMATION)
        messages.info(request, f"The {'test' if row.confirmed_at else 'link'} is on its way.")
    return redirect("jobs:destination", number)


@never_cache
@require_http_methods(["GET", "POST"])
def confirm(request: PageRequest, token: str) -> HttpResponse:
    """Asks whether an address is the person's own, and takes their yes: opening the link does nothing."""
    row = confirming.find(token, request.user)
    if row is None:
        raise Http404
    if request.method == "POST":
        confirming.confirm(row)
        messages.success(request, "Confirmed. Your notifications go there from now on.")
        return redirect("jobs:notifications")
    shown = BY_NAME[row.channel].shown(row)
    return render(request, "jobs/confirm_destination.html", {"destination": row, "shown": shown})


@require_GET
def deliveries(request: PageRequest, pk: UUID) -> HttpResponse:
    """Who heard of a job, when, by what, or why not; as a fragment of its page."""
    job = get_object_or_404(Job.objects.visible_to(request.user), pk=pk)
    return render(request, "jobs/_deliveries.html", {"job": job, "deliveries": Delivery.of_job(job)})


@require_POST
def send_again(request: PageRequest, pk: UUID) -> HttpResponse:
    """Sends a message of one's own once more."""
    delivery = get_object_or_404(Delivery, pk=pk, owner=request.user)
    if delivery.send_again():
        messages.info(request, "It’s sent again.")
    else:
        messages.info(request, "It’s already on its way, or its destination is gone.")
    job = delivery.notices.values_list("job", flat=True).first()
    if request.POST.get("next") == "job" and job:
        return redirect("jobs:detail", job)
    if delivery.destination_id:
        return redirect("jobs:destination", delivery.destination_id)
    return redirect("jobs:notifications")
