"""The audit log for admins: who did what, filtered, a page at a time, and all of it as CSV or JSON.

What an entry is, and who writes it, is in mediapipe.accounts.audit.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from jobs.dashboard.history import Echo, spreadsheet_cell, staff_only, stream
from jobs.dashboard.searching import days_of, parse_or_none
from mediapipe.accounts import audit
from mediapipe.accounts.audit import Act, Query
from mediapipe.accounts.login_required import PageRequest
from mediapipe.accounts.models import AuditEntry
from mediapipe.web.handler import streams

PER_PAGE = 50
FILTERS = ("actor", "act", "about", "from", "to")
OF_JOBS = ("job.", "share.")  # acts whose key is a job's


class Line(NamedTuple):
    """An entry on the page: *url* leads to what it is about, where that has a page."""

    entry: AuditEntry
    words: str
    url: str


def query_of(given: QueryDict) -> Query:
    """What the page's address asks for."""
    since, until = days_of(given)
    return Query(
        actor=given.get("actor", "").strip()[:200],
        act=given.get("act", "")[:40],
        about=given.get("about", "").strip()[:300],
        since=since,
        until=until,
    )


def _line(entry: AuditEntry) -> Line:
    key = parse_or_none(UUID, entry.key) if entry.act.startswith(OF_JOBS) else None
    return Line(entry, audit.words(entry.act), reverse("jobs:detail", args=[key]) if key else "")


@require_GET
@staff_only
def index(request: PageRequest) -> HttpResponse:
    """A page of entries, the newest first."""
    filters = {name: request.GET[name] for name in FILTERS if request.GET.get(name)}
    before = request.GET.get("before", "")
    entries = query_of(request.GET).entries()
    if before.isdecimal() and len(before) < 19:
        entries = entries.filter(pk__lt=int(before))
    found = list(entries[: PER_PAGE + 1])
    more = len(found) > PER_PAGE
    context = {
        "lines": [_line(entry) for entry in found[:PER_PAGE]],
        "filters": filters,
        "query": urlencode(filters),
        "acts": Act.choices,
        "newest": f"?{urlencode(filters)}" if before else "",
        "older": f"?{urlencode({**filters, 'before': found[PER_PAGE - 1].pk})}" if more else "",
    }
    return render(request, "jobs/audit.html", context)


@streams
@require_GET
@staff_only
def export_csv(request: PageRequest) -> StreamingHttpResponse:
    """The filtered entries as CSV, the oldest first: a row for each, under the names of its JSON."""
    entries = query_of(request.GET).entries().order_by("pk")
    writer = csv.writer(Echo())

    def lines() -> Iterator[str]:
        yield writer.writerow(audit.FIELDS)
        for entry in entries.iterator(chunk_size=500):
            yield writer.writerow([spreadsheet_cell(value) for value in audit.as_json(entry).values()])

    return stream(lines(), "text/csv; charset=utf-8", "audit.csv")


@streams
@require_GET
@staff_only
def export_json(request: PageRequest) -> StreamingHttpResponse:
    """The filtered entries as JSON, the oldest first: a line for each."""
    lines = audit.as_lines(query_of(request.GET).entries())
    return stream(lines, "application/x-ndjson", "audit.jsonl")
