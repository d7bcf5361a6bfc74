"""Every URL of the installation: the dashboard, the engine, signing in, the back office."""

from __future__ import annotations

import sys

from django.conf import settings
from django.contrib import admin
from django.contrib.auth import views as auth
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import include, path

from mediapipe.accounts import magic_link
from mediapipe.storage import views as media


def server_error(request: HttpRequest) -> HttpResponse:
    """The page for an error of ours; another one where it is the database that can't be reached."""
    status = 503 if isinstance(sys.exc_info()[1], OperationalError) else 500
    return render(request, f"{status}.html", status=status)


handler500 = server_error
urlpatterns = [
    path("", include("jobs.urls")),
    path("ittybit/", include("mediapipe.engine.urls")),
    path(f"{settings.MEDIA_URL[1:]}<path:name>", media.serve, name="media"),
    path("welcome/<str:token>/", magic_link.sign_in, name="magic_link"),
    path("login/", auth.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("password/", auth.PasswordChangeView.as_view(success_url="/"), name="password_change"),
    path("admin/", admin.site.urls),
]
