"""Each page and poll of the product, asked of very many jobs: a line of a table each. It makes no rows."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from urllib.parse import quote

from tests.bench.measured import PAGE, POLL, Table


class Pages(Table):
    """What a browser, a program and Prometheus ask for."""

    def polls(self) -> None:
        """What pages ask by themselves."""
        from django.utils import timezone

        since = (timezone.now() - timedelta(seconds=6)).isoformat().replace("+", "%2B")
        for who in ("chief", "ada"):
            self.get(f"list poll, {who}", POLL, "/jobs/rows/", who)
            self.get(f"news poll, {who}", POLL, f"/jobs/news/?since={since}", who)
        for query in ("q=harbour", "why=damaged", "tab=done", "pipeline=previews", "owner=ada"):
            self.get(f"list poll ?{query}, chief", POLL, f"/jobs/rows/?{query}", "chief")

    def lists(self) -> None:
        """The list with each filter, order and kind of search."""
        from django.utils import timezone

        day = timezone.localdate() - timedelta(days=40)
        some = f"from={day - timedelta(days=7)}&to={day}"
        queries = [
            "",
            "tab=running",
            "tab=attention",
            "tab=done",
            "tab=cancelled",
            "sort=oldest",
            "sort=title",
        ]
        queries += ["state=failed", "pipeline=previews", "owner=ada", "owner=person7", some, f"from={day}"]
        queries += ["why=damaged", "why=task_failed", "q=harbour", "q=zurich", "q=0017", "q=nothing-like-it"]
        queries += ["q=person7", "q=z", "q=harbour&sort=title", "q=nothing-like-it&sort=title"]
        queries += ["owner=person7&sort=title", f"owner=ada&tab=done&{some}", "pipeline=streaming&sort=title"]
        queries += ["page=400", "page=999999"]
        for query in queries:
            self.get(f"list ?{query}", PAGE, f"/?{query}")
        for query in (
            "",
            "sort=title",
            "tab=done",
            "q=harbour",
            "q=nothing-like-it",
            "q=0017",
            f"from={day}",
        ):
            self.get(f"list of ada ?{query}", PAGE, f"/?{query}", "ada")

    def history(self) -> None:
        """The history with each filter."""
        from django.utils import timezone

        day = timezone.localdate() - timedelta(days=40)
        queries = [
            "",
            "tab=attention",
            "tab=done",
            "owner=ada",
            "owner=person7",
            "pipeline=previews",
            "pipeline=standard",
            "state=failed",
            f"from={day}",
        ]
        queries += ["q=harbour", "q=0017", "q=nothing-like-it", "why=damaged", "why=damaged&tab=attention"]
        queries += ["why=task_failed", "why=damaged&owner=ada", "q=harbour&owner=ada&sort=title", "page=150"]
        queries += ["why=damaged&pipeline=previews", f"why=damaged&from={day}", "q=harbour&pipeline=standard"]
        queries += ["why=damaged&q=harbour", f"owner=ada&pipeline=standard&to={day}", "q=z&sort=title"]
        queries += ["sort=title&page=150", "sort=oldest&page=150", "tab=done&page=190", "owner=ada&page=150"]
        for query in queries:
            self.get(f"history ?{query}", PAGE, f"/history/?{query}")

    def pages(self) -> None:
        """The others."""
        from jobs.models import Job

        job = Job.objects.filter(state="succeeded").order_by("-created_at").first()
        self.get("job page", PAGE, f"/jobs/{job.pk}/")
        self.get("job poll", POLL, f"/jobs/{job.pk}/status/")
        search = "q=harbour&tab=done"
        self.get("job page of a search", PAGE, f"/jobs/{job.pk}/?{search}")
        for side in ("newer", "older"):
            for query in (search, "why=damaged", "owner=ada&sort=title"):
                self.get(f"{side} job ?{query}", PAGE, f"/jobs/{job.pk}/{side}/?{query}", status=302)
        for path in ("/jobs/new/", "/pipelines/", "/pipelines/standard/", "/pipelines/standard/edit/"):
            self.get(path, PAGE, path)
        for path in ("/account/tokens/", "/account/notifications/", "/account/sessions/"):
            self.get(path, PAGE, path)
        for path in ("/metrics", "/people/", "/fleet/", "/trash/", "/trash/?page=150"):
            self.get(path, PAGE, path)
        self.get("fleet poll", POLL, "/fleet/status/")
        self.get("trash of ada", PAGE, "/trash/", "ada")
        for action, query in (("delete", "tab=done"), ("retry", "why=damaged&tab=attention"), ("cancel", "")):
            self.get(
                f"bulk {action} asked of all ?{query}",
                PAGE,
                f"/jobs/bulk/?action={action}&matching={quote(query) or '%26'}",
            )

    def batches(self) -> None:
        """Batches: their list, one of them, its jobs."""
        from jobs.models import Batch

        batch = Batch.objects.first()
        for who in ("chief", "ada"):
            self.get(f"batches, {who}", PAGE, "/batches/", who)
        self.get("batches ?page=300", PAGE, "/batches/?page=300")
        self.get("a batch", PAGE, f"/batches/{batch.pk}/")
        self.get("its poll", POLL, f"/batches/{batch.pk}/status/")
        for query in ("", "&tab=done", "&sort=title", "&q=z"):
            self.get(f"list ?batch=…{query}", PAGE, f"/?batch={batch.pk}{query}")

    def audit(self) -> None:
        """The audit log by each filter."""
        from django.utils import timezone

        from mediapipe.accounts.models import AuditEntry

        day = timezone.localdate() - timedelta(days=300)
        some = f"from={day}&to={day + timedelta(days=1)}"
        middle = AuditEntry.objects.order_by("-pk").values_list("pk", flat=True)[1000]
        key = AuditEntry.objects.filter(act="job.retry").values_list("key", flat=True)[0]
        queries = ["", "actor=ada", "actor=nobody", "act=line.pause", "act=job.submit", f"to={day}", some]
        queries += [
            f"actor=chief&{some}",
            f"act=line.pause&{some}",
            "actor=ada&act=line.pause",
            f"about={key}",
        ]
        queries += ["about=harbour", "about=0017", "about=nothing-like-it", "about=nothing-like-it&actor=ada"]
        queries += [f"about=harbour&{some}", f"before={middle // 2}", f"before={middle // 2}&act=job.cancel"]
        for query in queries:
            self.get(f"audit ?{query}", PAGE, f"/audit/?{query}")

    def api(self) -> None:
        """The API's list: its first page, one of the middle, and one of each order."""
        from django.contrib.auth import get_user_model
        from django.utils import timezone

        from jobs.models import ApiToken

        owner = get_user_model().objects.get(username="chief")
        _, token = ApiToken.issue(owner, "bench", ["read"])
        bearer = {"HTTP_AUTHORIZATION": f"Bearer {token}"}
        middle = (timezone.now() - timedelta(days=180)).isoformat()
        cursors = {
            "": [middle, "0" * 32],
            "oldest": [middle, "0" * 32],
            "title": ["harbour", middle, "0" * 32],
        }
        for sort, values in cursors.items():
            cursor = base64.urlsafe_b64encode(json.dumps(values).encode()).decode()
            self.get(f"API list, sort={sort}", PAGE, f"/api/v1/jobs?sort={sort}", **bearer)
            path = f"/api/v1/jobs?sort={sort}&cursor={cursor}"
            self.get(f"API list, sort={sort}, from the middle", PAGE, path, **bearer)
        for query in (
            "limit=100",
            "q=harbour",
            "q=nothing-like-it",
            "why=damaged",
            "why=damaged&sort=oldest",
        ):
            self.get(f"API list ?{query}", PAGE, f"/api/v1/jobs?{query}", **bearer)
        self.get("API batches", PAGE, "/api/v1/batches?page=100", **bearer)

    def records(self) -> None:
        """Django's admin."""
        for path in ("job/", "job/?q=harbour", "job/?q=nothing-like-it", "job/?state=failed", "job/?p=20"):
            self.get(f"admin {path}", PAGE, f"/admin/jobs/{path}")
        for table in ("stage", "event", "upload"):
            for query in ("", "?q=harbour", "?q=nothing-like-it"):
                self.get(f"admin {table}/{query}", PAGE, f"/admin/jobs/{table}/{query}")
        self.get("admin stage/?state=failed", PAGE, "/admin/jobs/stage/?state=failed")
