"""The dashboard's URLs: nouns, then verbs; each fragment has its own.

/                                  the list, and where uploads begin
/jobs/rows/                        its rows, as a fragment
/jobs/new/                         the form          /jobs/sample/   a clip to try it with
/jobs/ID/                          a job             /jobs/ID/status/  its stages, as a fragment
/jobs/ID/stages/NAME/retry/        POST              /jobs/ID/retry/ /jobs/ID/cancel/  POST
/uploads/                          tus
/history/                          every job, for staff
/hooks/ittybit/TOKEN               a task is over    /healthz /readyz /metrics
"""

from __future__ import annotations

from django.urls import path

from jobs import monitoring
from jobs.dashboard import history, views
from jobs.uploads import views as uploads
from jobs.workflow import webhook

app_name = "jobs"
urlpatterns = [
    path("", views.job_list, name="list"),
    path("jobs/rows/", views.rows, name="rows"),
    path("jobs/new/", views.new, name="new"),
    path("jobs/sample/", views.sample, name="sample"),
    path("jobs/views/", views.save_view, name="save_view"),
    path("jobs/news/", views.news, name="news"),
    path("jobs/bulk/", views.bulk_action, name="bulk"),
    path("jobs/<uuid:pk>/", views.detail, name="detail"),
    path("jobs/<uuid:pk>/status/", views.status, name="status"),
    path("jobs/<uuid:pk>/json/", views.as_json, name="json"),
    path("jobs/<uuid:pk>/retry/", views.retry, name="retry_all"),
    path("jobs/<uuid:pk>/stages/<slug:name>/retry/", views.retry, name="retry"),
    path("jobs/<uuid:pk>/cancel/", views.cancel, name="cancel"),
    path("history/", history.index, name="history"),
    path("history/jobs.csv", history.export_csv, name="csv"),
    path("uploads/", uploads.collection, name="uploads"),
    path("uploads/<uuid:pk>/", uploads.resource, name="upload"),
    path("uploads/<uuid:pk>/run/", uploads.run_again, name="upload_again"),
    path("hooks/ittybit/<str:token>", webhook.receive, name="webhook"),
    path("healthz", monitoring.healthz, name="healthz"),
    path("readyz", monitoring.readyz, name="readyz"),
    path("metrics", monitoring.metrics, name="metrics"),
]
