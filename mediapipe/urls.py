"""Every URL of the installation: the dashboard, the engine, signing in, the back office."""

from __future__ import annotations

import sys

from django.contrib import admin
from django.contrib.auth import views as auth
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import include, path

from mediapipe.accounts import magic_link
from mediapipe.storage import views as media


def server_error(request: HttpRequest) -> HttpResponse:
    """What a person sees of a mistake of ours; a database that is away is told apart."""
    away = isinstance(sys.exc_info()[1], OperationalError)
    return render(request, "503.html" if away else "500.html", status=503 if away else 500)


handler500 = server_error
urlpatterns = [
    path("", include("jobs.urls")),
    path("ittybit/", include("mediapipe.engine.urls")),
    path("media/<path:name>", media.serve, name="media"),
    path("welcome/<str:token>/", magic_link.sign_in, name="magic_link"),
    path("login/", auth.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("password/", auth.PasswordChangeView.as_view(success_url="/"), name="password_change"),
    path("admin/", admin.site.urls),
]
