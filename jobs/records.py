"""The records: the admin's site, and what its lists have in common, however many rows they have.

A site of its own: Django's own registers users, groups and permissions, by which an admin could make
themselves anything. People are managed on the page of that name. It knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, wraps
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from jobs.dashboard import counting


class Records(admin.AdminSite):
    """The back office, in the dashboard's words and behind its sign-in page."""

    site_title = "mediapipe"
    site_header = index_title = "Records"
    enable_nav_sidebar = False

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The dashboard's sign-in page; who has signed in and is no admin reads so there."""
        if request.user.is_authenticated and not self.has_permission(request):
            raise PermissionDenied
        return redirect_to_login(request.GET.get("next", request.path), settings.LOGIN_URL)

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        """The view, for admins; the 403 page for anybody else who has signed in."""
        inner = super().admin_view(view, cacheable)

        @wraps(inner)
        def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if request.user.is_authenticated and not self.has_permission(request):
                raise PermissionDenied
            answer: HttpResponseBase = inner(request, *args, **kwargs)
            return answer

        return wrapped


site = Records()


def by_state(labels: Mapping[Any, str]) -> type[admin.SimpleListFilter]:
    """A filter by state, in the dashboard's words."""

    class ByState(admin.SimpleListFilter):
        title = "state"
        parameter_name = "state"

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return [(str(state), label) for state, label in labels.items()]

        def queryset(self, request: HttpRequest, queryset: Any) -> Any:
            return queryset.filter(state=self.value()) if self.value() in labels else queryset

    return ByState


class Bounded(Paginator):  # type: ignore[type-arg]
    """Pages of the newest rows: to count all of them would take longer than to show a page."""

    most = 0  # that are counted, where they are other than usual

    @cached_property
    def count(self) -> int:
        """How many rows there are, as far as they are counted."""
        return counting.count(self.object_list, self.most).many  # type: ignore[arg-type]


class ReadOnly:
    """Rows that only workflows and the dashboard write."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No: jobs are submitted in the dashboard."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No: a history is not edited."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No: it would leave the workflow and the files. A job has an action that takes all of it."""
        return False


class Many(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """A list of very many rows."""

    paginator = Bounded
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # it would count all rows for each choice
    list_select_related = ()  # by a join the database may begin at the people, and sort all their rows
    ordering: ClassVar[tuple[str, ...]] = ("-id",)
    sortable_by: ClassVar[tuple[str, ...]] = ()  # each column would want an index of its own

    def get_paginator(self, request: HttpRequest, *args: Any, **more: Any) -> Paginator:  # type: ignore[type-arg]
        """As Django's; what a search finds is counted as far as in the list of jobs."""
        pages = super().get_paginator(request, *args, **more)
        if isinstance(pages, Bounded) and request.GET.get("q"):
            pages.most = counting.RECENT
        return pages
