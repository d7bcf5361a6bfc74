"""One action on many jobs, as pages ask for it: which jobs are meant, the question, and what came of it.

What an action does is decided in bulk.
"""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from jobs.dashboard import bulk
from jobs.dashboard.counting import Count, count
from jobs.dashboard.searching import in_tab, parse_or_none, search
from jobs.dashboard.trash_page import offer_undo
from jobs.models import Job, JobQuerySet
from mediapipe.accounts.login_required import PageRequest


def _selected_jobs(request: PageRequest, asked: QueryDict) -> JobQuerySet:
    """The ticked jobs, or all that the list's search matches, as far as the user may see them."""
    if asked.get("matching"):
        query = QueryDict(str(asked["matching"]))
        return in_tab(search(request.user, query), query.get("tab", ""))
    ids = [pk for text in asked.getlist("job") if (pk := parse_or_none(UUID, text))]
    return Job.objects.visible_to(request.user).filter(pk__in=ids)


def _shown_jobs(request: PageRequest) -> JobQuerySet | None:
    """Those that the question named, which is answered for no others: what matches may be more by now."""
    ids = [pk for text in request.POST.get("shown", "").split(",") if (pk := parse_or_none(UUID, text))]
    return Job.objects.visible_to(request.user).filter(pk__in=ids) if ids else None


@require_http_methods(["GET", "POST"])
def bulk_action(request: PageRequest) -> HttpResponse:
    """Asks whether many jobs are to be retried, cancelled or deleted; POST does what was confirmed."""
    asked = request.POST or request.GET
    action = asked.get("action", "")
    back = reverse("jobs:history" if asked.get("from") == "history" else "jobs:list")
    back += f"?{asked.get('query', '')}"
    if action not in bulk.ACTIONS:
        messages.error(request, "Choose an action: retry, cancel or delete.")
        return redirect(back)
    selected = _selected_jobs(request, asked)
    jobs = bulk.select_jobs(action, _shown_jobs(request) or selected)
    matching = count(selected)
    if not jobs:
        messages.error(request, "Select at least one job first.")
        return redirect(back)
    if request.POST.get("confirmed"):
        return _perform(request, action, jobs, matching, back)
    context = {
        "action": action,
        "jobs": jobs,
        "matching": matching,
        "back": back,
        "posted": asked,
        "days": settings.TRASH_DAYS,
    }
    return render(request, "jobs/confirm.html", context)


def _perform(request: PageRequest, action: str, jobs: list[Job], matching: Count, back: str) -> HttpResponse:
    """Does it, and says on the page it was asked on what was done and what was not."""
    result = bulk.apply(action, jobs, request.user.get_username())
    if result.database_away:  # nothing else would come to its end either, the next page last
        return render(request, "503.html", {"sentence": str(result)}, status=503)
    level = messages.WARNING if result.unanswered else messages.SUCCESS if result.done else messages.INFO
    rest = matching.without(len(jobs))
    more = f" {rest} more match; repeat to include them." if rest.many else ""
    if action == "delete":
        offer_undo(request, f"{result}{more}", level, jobs)
    else:
        messages.add_message(request, level, f"{result}{more}")
    return redirect(back)
