"""One action on many jobs, as pages ask for it: which jobs are meant, the question, and what came of it.

What an action does is decided in bulk.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from jobs import remaking
from jobs.dashboard import bulk
from jobs.dashboard.counting import Count, count
from jobs.dashboard.searching import count_found, in_tab, newest_for, parse_or_none, search
from jobs.dashboard.trash_page import offer_undo
from jobs.models import Job, JobQuerySet, Pipeline
from jobs.pipelines import StageDefinition
from mediapipe.accounts.login_required import PageRequest


class Offer(NamedTuple):
    """A pipeline of which something may be added to jobs, and what it *makes*, in words."""

    name: str
    label: str
    makes: str


class Selected:
    """The ticked jobs, or all that the list's search matches, as far as the user may see them."""

    def __init__(self, user: User, asked: QueryDict) -> None:
        self.user = user
        self.query = QueryDict(str(asked["matching"])) if asked.get("matching") else None
        if self.query is None:
            ids = [pk for text in asked.getlist("job") if (pk := parse_or_none(UUID, text))]
            self.jobs = Job.objects.visible_to(user).filter(pk__in=ids)
        else:
            self.jobs = in_tab(search(user, self.query), self.query.get("tab", ""))

    def count(self) -> Count:
        """How many they are, as far as it is said."""
        return count(self.jobs) if self.query is None else count_found(self.user, self.query)

    def ask_of(self, action: str) -> list[bulk.Asked]:
        """Those that the action would take; where the newest alone are enough, no others are looked at."""
        newest = None if self.query is None else newest_for(self.user, self.query, bulk.MAX_JOBS)
        if self.query is not None and newest is not None:
            found = bulk.ask_of(action, in_tab(newest, self.query.get("tab", "")))
            if len(found) == bulk.MAX_JOBS and found[-1].state in bulk.ACTIONS[action].first:
                return found
        return bulk.ask_of(action, self.jobs)


def _shown_jobs(request: PageRequest) -> JobQuerySet | None:
    """Those that the question named, which is answered for no others: what matches may be more by now."""
    ids = [pk for text in request.POST.get("shown", "").split(",") if (pk := parse_or_none(UUID, text))]
    return Job.objects.visible_to(request.user).filter(pk__in=ids) if ids else None


def _offers(user: User, jobs: list[bulk.Asked]) -> list[Offer]:
    """The pipelines of which something may be added; for one job those that have what it lacks."""
    usable = Pipeline.usable_by(user).values()
    if len(jobs) > 1:
        return [Offer(each.name, each.label, _labels(each.stages)) for each in usable]
    job = Job.objects.get(pk=jobs[0].pk)
    offers = [Offer(each.name, each.label, _labels(remaking.lacking(job, each))) for each in usable]
    return [offer for offer in offers if offer.makes]


def _labels(stages: Iterable[StageDefinition]) -> str:
    return ", ".join(stage.label for stage in stages)


@require_http_methods(["GET", "POST"])
def bulk_action(request: PageRequest) -> HttpResponse:
    """Asks what is to be done to many jobs, once more; POST does what was confirmed."""
    asked = request.POST or request.GET
    action = asked.get("action", "")
    back = reverse("jobs:history" if asked.get("from") == "history" else "jobs:list")
    back += f"?{asked.get('query', '')}"
    if action not in bulk.ACTIONS:
        *first, last = bulk.ACTIONS
        messages.error(request, f"Choose an action: {', '.join(first)} or {last}.")
        return redirect(back)
    selected = Selected(request.user, asked)
    if request.POST.get("confirmed"):
        return _perform(request, action, selected, back)
    jobs = selected.ask_of(action)
    if not jobs:
        return _nothing(request, back)
    context = {
        **bulk.question(action, jobs),
        "matching": selected.count() if len(jobs) == bulk.MAX_JOBS else Count(len(jobs)),
        "back": back,
        "posted": asked,
        "offers": _offers(request.user, jobs) if action == "add" else [],
    }
    return render(request, "jobs/confirm.html", context)


def _nothing(request: PageRequest, back: str) -> HttpResponse:
    messages.error(request, "Select at least one job first.")
    return redirect(back)


def _perform(request: PageRequest, action: str, selected: Selected, back: str) -> HttpResponse:
    """Does it, and says on the page it was asked on what was done and what was not."""
    shown = _shown_jobs(request)
    jobs = bulk.select_jobs(action, selected.jobs if shown is None else shown)
    if not jobs:
        return _nothing(request, back)
    matching = selected.count()  # as many as there are before it is done
    pipeline = request.POST.get("pipeline", "")
    with_cancel = request.POST.get("cancel") == "1"
    result = bulk.apply(action, jobs, request.user.get_username(), pipeline, with_cancel=with_cancel)
    if result.database_away:  # nothing else would come to its end either, the next page last
        return render(request, "503.html", {"sentence": str(result)}, status=503)
    did = result.done or result.cancelling
    level = messages.WARNING if result.unanswered else messages.SUCCESS if did else messages.INFO
    rest = matching.without(len(jobs))
    many = f"{rest} more match" if rest.many else "More match" if rest.more else ""
    more = f" {many}; repeat to include them." if many else ""
    if action == "delete":
        offer_undo(request, f"{result}{more}", level, jobs)
    else:
        messages.add_message(request, level, f"{result}{more}")
    return redirect(back)
