"""The People page, for admins: who may come in, as what, and when they were last seen.

What an admin may do is decided in mediapipe.accounts.people.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import NamedTuple

from django.contrib import messages
from django.contrib.auth.models import User
from django.db.models import Max
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from jobs.dashboard.formatting import ago
from jobs.dashboard.history import staff_only
from jobs.models import Job
from mediapipe.accounts import people
from mediapipe.accounts.login_required import PageRequest
from mediapipe.accounts.people import Role
from mediapipe.own_address import absolute_for

ROLES = {Role.EDITOR: "Editor", Role.ADMIN: "Admin", Role.SUPERUSER: "Superuser"}


class Person(NamedTuple):
    """Somebody in the list; *other_role* is what they could become, its value and its label."""

    user: User
    role: str
    seen: str
    active_jobs: int
    editable: bool
    other_role: tuple[str, str]


class Link(NamedTuple):
    """A one-time link, to be shown this once."""

    name: str
    url: str


@never_cache
@require_http_methods(["GET", "POST"])
@staff_only
def index(request: PageRequest) -> HttpResponse:
    """The list. POST adds somebody, and shows the link that lets them in."""
    if request.method == "GET":
        return _page(request)
    name = request.POST.get("name", "")
    role = request.POST.get("role", "")
    try:
        person, path = people.add(request.user, name, role)
    except people.NotAllowed as error:
        return _page(request, problem=str(error), status=400)
    return _page(request, Link(person.get_username(), absolute_for(request, path)))


@never_cache
@require_POST
@staff_only
def new_link(request: PageRequest, person: int) -> HttpResponse:
    """Voids a person's password, and shows a link by which they choose another."""
    try:
        user, path = people.renew(request.user, person)
    except people.NotAllowed as error:
        return _refused(request, error)
    return _page(request, Link(user.get_username(), absolute_for(request, path)))


@require_POST
@staff_only
def set_role(request: PageRequest, person: int) -> HttpResponse:
    """Makes a person an editor or an admin."""
    try:
        user = people.set_role(request.user, person, request.POST.get("role", ""))
    except people.NotAllowed as error:
        return _refused(request, error)
    article = "an admin" if people.role_of(user) is Role.ADMIN else "an editor"
    messages.success(request, f"{user.get_username()} is {article} now.")
    return redirect("jobs:people")


@require_POST
@staff_only
def set_active(request: PageRequest, person: int) -> HttpResponse:
    """Deactivates a person (`active` is empty), or lets them in again."""
    active = bool(request.POST.get("active"))
    try:
        user = people.set_active(request.user, person, active)
    except people.NotAllowed as error:
        return _refused(request, error)
    now = "can sign in again" if active else "is signed out and can’t sign in any more. Their jobs go on"
    messages.success(request, f"{user.get_username()} {now}.")
    return redirect("jobs:people")


def _refused(request: PageRequest, error: people.NotAllowed) -> HttpResponse:
    return _page(request, problem=str(error), status=403)


def _page(
    request: PageRequest, link: Link | None = None, problem: str = "", status: int = 200
) -> HttpResponse:
    context = {"people": _people(request.user), "link": link, "problem": problem, "posted": request.POST}
    return render(request, "jobs/people.html", context, status=status)


def _people(viewer: User) -> list[Person]:
    """Everybody: who can come in first, then by name."""
    # counted here: SQLite, asked to, goes through all jobs by their owners
    active = Counter(Job.objects.active().order_by().values_list("owner", flat=True))
    return [
        Person(
            user=user,
            role=ROLES[people.role_of(user)],
            seen=ago(seen) if (seen := _last_seen(user)) else "",
            active_jobs=active[user.pk],
            editable=people.may_manage(viewer, user),
            other_role=(Role.EDITOR, "an editor") if user.is_staff else (Role.ADMIN, "an admin"),
        )
        for user in User.objects.annotate(used=Max("sessions__last_seen")).order_by("-is_active", "username")
    ]


def _last_seen(user: User) -> datetime | None:
    """When the person last did something here, else when they signed in: a session that has ended is gone."""
    used: datetime | None = getattr(user, "used", None)
    return max((each for each in (used, user.last_login) if each), default=None)
