"""The engine's URLs: the same under `tasks` (the older name) and `jobs` (the current one)."""

from __future__ import annotations

from django.urls import path, re_path

from mediapipe.engine import views

urlpatterns = [
    path("openapi.json", views.openapi),
    path("probe", views.probe),
    path("<resource:resource>", views.collection),
    path("<resource:resource>/keys/<path:key>", views.by_key),
    path("<resource:resource>/<str:task_id>", views.item),
    re_path(r"^.*$", views.not_found),
]
