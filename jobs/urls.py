"""The application's URLs, by subject. Fragments that a page polls have URLs of their own."""

from __future__ import annotations

from django.urls import path

from jobs import monitoring
from jobs.api import tokens
from jobs.batches import views as batches
from jobs.dashboard import (
    audit_page,
    bulk_page,
    downloads,
    fleet,
    handed_over,
    history,
    people,
    pipeline_pages,
    sharing,
    source_page,
    stage_page,
    trash_page,
    views,
)
from jobs.notifications import views as notifications
from jobs.uploads import views as uploads
from jobs.workflow import webhook

app_name = "jobs"
urlpatterns = [
    # The list, its rows as a fragment, and what is done from it
    path("", views.job_list, name="list"),
    path("jobs/rows/", views.rows, name="rows"),
    path("jobs/bulk/", bulk_page.bulk_action, name="bulk"),
    path("jobs/views/", views.save_view, name="save_view"),
    path("jobs/news/", views.news, name="news"),
    # New jobs
    path("jobs/new/", views.new, name="new"),
    path("jobs/pipeline/", views.choose, name="choose"),
    path("jobs/sample/", views.sample, name="sample"),
    # One job, its status as a fragment, and its verbs (POST)
    path("jobs/<uuid:pk>/", views.detail, name="detail"),
    path("jobs/<uuid:pk>/newer/", views.beside, {"side": "newer"}, name="newer"),
    path("jobs/<uuid:pk>/older/", views.beside, {"side": "older"}, name="older"),
    path("jobs/<uuid:pk>/status/", views.status, name="status"),
    path("jobs/<uuid:pk>/json/", views.as_json, name="json"),
    path("jobs/<uuid:pk>/deliveries/", notifications.deliveries, name="deliveries"),
    path("jobs/<uuid:pk>/outputs.zip", downloads.outputs, name="outputs"),
    path("jobs/<uuid:pk>/retry/", views.retry, name="retry_all"),
    path("jobs/<uuid:pk>/stages/<slug:name>/retry/", views.retry, name="retry"),
    path("jobs/<uuid:pk>/cancel/", views.cancel, name="cancel"),
    path("jobs/<uuid:pk>/rename/", views.rename, name="rename"),
    path("jobs/<uuid:pk>/source/", source_page.index, name="source"),
    path("jobs/<uuid:pk>/force-restart/", views.force_restart, name="force_restart"),
    # One stage of it: its versions, and how it is made again
    path("jobs/<uuid:pk>/stages/<slug:name>/", stage_page.index, name="stage"),
    path("jobs/<uuid:pk>/stages/<slug:name>/add/", stage_page.add, name="add_stage"),
    path("jobs/<uuid:pk>/thumbnail/", stage_page.use_frame, name="use_frame"),
    path("jobs/<uuid:pk>/versions/<int:number>/use/", stage_page.go_back, name="go_back"),
    path("jobs/<uuid:pk>/versions/<int:number>/remove/", stage_page.remove, name="remove_version"),
    # Links to its outputs for people without an account: making and ending them, and what they show
    path("jobs/<uuid:pk>/share/", sharing.index, name="share"),
    path("jobs/<uuid:pk>/shares/<int:number>/revoke/", sharing.revoke, name="revoke_share"),
    path("s/<str:token>/", handed_over.index, name="shared"),
    path("s/<str:token>/embed/", handed_over.embedded, name="embedded"),
    path("s/<str:token>/all.zip", handed_over.archive, name="shared_zip"),
    path("s/<str:token>/files/<path:name>", handed_over.file, name="shared_file"),
    # Many at once: the list, one batch, its bar as a fragment, its verbs (POST), its manifest
    path("batches/", batches.index, name="batches"),
    path("batches/new/", batches.new, name="new_batch"),
    path("batches/<uuid:pk>/", batches.detail, name="batch"),
    path("batches/<uuid:pk>/status/", batches.status, name="batch_status"),
    path("batches/<uuid:pk>/retry/", batches.retry, name="retry_batch"),
    path("batches/<uuid:pk>/cancel/", batches.cancel, name="cancel_batch"),
    path("batches/<uuid:pk>/manifest.csv", batches.as_csv, name="batch_csv"),
    path("batches/<uuid:pk>/manifest.json", batches.as_json, name="batch_json"),
    # Every job, for staff
    path("history/", history.index, name="history"),
    path("history/jobs.csv", history.export_csv, name="csv"),
    # Who works, and what waits, for admins; the part that changes as a fragment
    path("fleet/", fleet.index, name="fleet"),
    path("fleet/status/", fleet.status, name="fleet_status"),
    path("fleet/jobs/<uuid:pk>/first/", fleet.move_first, name="move_first"),
    path("fleet/workers/<int:worker>/pause/", fleet.pause_worker, name="pause_worker"),
    path("fleet/workers/<int:worker>/resume/", fleet.resume_worker, name="resume_worker"),
    path("fleet/pause/", fleet.pause, name="pause_line"),
    path("fleet/resume/", fleet.resume, name="resume_line"),
    # A person's API tokens
    path("account/tokens/", tokens.index, name="tokens"),
    path("account/tokens/<int:number>/revoke/", tokens.revoke, name="revoke_token"),
    # A person's notifications
    path("account/notifications/", notifications.index, name="notifications"),
    path("push-worker.js", notifications.push_worker, name="push_worker"),  # here, to be of every page
    path("account/notifications/<int:number>/", notifications.destination, name="destination"),
    path("account/notifications/<int:number>/remove/", notifications.remove, name="remove_destination"),
    path("account/notifications/<int:number>/test/", notifications.send_test, name="test_destination"),
    path("account/notifications/<int:number>/secret/", notifications.new_secret_of, name="new_secret"),
    path("account/notifications/<int:number>/replay/", notifications.replay, name="replay"),
    path("account/notifications/confirm/<str:token>/", notifications.confirm, name="confirm_destination"),
    path("account/notifications/deliveries/<uuid:pk>/", notifications.send_again, name="send_again"),
    # What was deleted
    path("trash/", trash_page.index, name="trash"),
    path("trash/undo/", trash_page.undo, name="undo"),
    path("trash/<uuid:pk>/restore/", trash_page.restore, name="restore"),
    path("trash/<uuid:pk>/delete/", trash_page.delete_for_good, name="delete_for_good"),
    # Who may come in, for admins
    path("people/", people.index, name="people"),
    path("people/<int:person>/role/", people.set_role, name="set_role"),
    path("people/<int:person>/active/", people.set_active, name="set_active"),
    path("people/<int:person>/link/", people.new_link, name="new_link"),
    # Who did what, for admins
    path("audit/", audit_page.index, name="audit"),
    path("audit/audit.csv", audit_page.export_csv, name="audit_csv"),
    path("audit/audit.jsonl", audit_page.export_json, name="audit_json"),
    # What can be requested, for admins
    path("pipelines/", pipeline_pages.index, name="pipelines"),
    path("pipelines/<slug:name>/", pipeline_pages.detail, name="pipeline"),
    path("pipelines/<slug:name>/edit/", pipeline_pages.edit, name="edit_pipeline"),
    path("pipelines/<slug:name>/try/", pipeline_pages.try_out, name="try_pipeline"),
    path("pipelines/<slug:name>/access/", pipeline_pages.set_access, name="pipeline_access"),
    path("pipelines/<slug:name>/keeping/", pipeline_pages.set_keeping, name="pipeline_keeping"),
    path("pipelines/<slug:name>/retire/", pipeline_pages.retire, name="retire_pipeline"),
    path("pipelines/<slug:name>/copy/", pipeline_pages.copy, name="copy_pipeline"),
    path("pipelines/<slug:name>/versions/<int:number>/use/", pipeline_pages.use, name="use_pipeline_version"),
    # tus
    path("uploads/", uploads.collection, name="uploads"),
    path("uploads/known/", uploads.known, name="upload_known"),
    path("uploads/<uuid:pk>/", uploads.resource, name="upload"),
    path("uploads/<uuid:pk>/run/", uploads.run_again, name="upload_again"),
    # Other programs
    path("hooks/ittybit/<str:token>", webhook.receive, name="webhook"),
    path("healthz", monitoring.healthz, name="healthz"),
    path("readyz", monitoring.readyz, name="readyz"),
    path("metrics", monitoring.metrics, name="metrics"),
]
