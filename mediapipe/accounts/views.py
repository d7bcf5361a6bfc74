"""Signing in, one's password, and where one is signed in: Django's views, with tries that are limited."""

from __future__ import annotations

from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth import views as auth
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from mediapipe.accounts import audit, limits, magic_link, sessions
from mediapipe.accounts.audit import Act
from mediapipe.accounts.login_required import PageRequest
from mediapipe.accounts.new_password import NewPassword
from mediapipe.accounts.provider import ways

NO_PASSWORDS = "You don’t sign in with a password here."


def too_many(request: HttpRequest, error: limits.TooMany) -> HttpResponse:
    """The page for who has to wait."""
    answer = render(request, "registration/locked.html", {"minutes": error.minutes}, status=429)
    answer["Retry-After"] = str(error.minutes * 60 or 5)
    return answer


def without_passwords(request: HttpRequest, page: str) -> HttpResponse:
    """Back to a page whose form isn't there."""
    messages.error(request, NO_PASSWORDS)
    return redirect(page)


class SignInForm(AuthenticationForm):
    """Name and password."""

    error_messages = {
        **AuthenticationForm.error_messages,
        "invalid_login": "Wrong username or password. Capital letters matter.",
    }

    def clean(self) -> dict[str, Any]:
        """Checks both, as one try. Raises ValidationError, TooMany."""
        name = self.cleaned_data.get("username")
        if self.request is None or not name or not self.cleaned_data.get("password"):
            return super().clean()
        with limits.attempt(self.request, name) as attempt:
            found = super().clean()
            attempt.succeeded = True
        return found


class SignIn(auth.LoginView):
    """The sign-in page."""

    form_class = SignInForm
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """With the ways in."""
        return super().get_context_data(**kwargs) | ways()

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Signs in, or says how long to wait."""
        if not settings.PASSWORD_SIGN_IN:
            return without_passwords(request, settings.LOGIN_URL)
        try:
            return super().post(request, *args, **kwargs)
        except limits.TooMany as error:
            return too_many(request, error)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Signs in; from now on this browser is known."""
        answer = super().form_valid(form)
        limits.remember_browser(self.request, answer, form.get_user().get_username())
        return answer


class ChangeForm(NewPassword, PasswordChangeForm):
    """The current password and a new one; the current one is guessed no faster than at sign-in."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request
        self.fields["old_password"].label = "Current password"

    def clean_old_password(self) -> str:
        """Checks it, as one try. Raises ValidationError, TooMany."""
        with limits.attempt(self.request, self.user.get_username()) as attempt:
            given = super().clean_old_password()
            attempt.succeeded = True
        return given


class ChangePassword(auth.PasswordChangeView):
    """The page on which one changes one's own password."""

    form_class = ChangeForm
    success_url = "/"

    def get_form_kwargs(self) -> dict[str, Any]:
        """With the request, by whose browser and network a try counts."""
        return {**super().get_form_kwargs(), "request": self.request}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """With the ways in, and a token by which one's account elsewhere is connected."""
        own = {"passwords": self.has_password(), "token": magic_link.connect(self.person)}
        return super().get_context_data(**kwargs) | ways() | own

    @property
    def person(self) -> User:
        """Whose password it is."""
        return cast(User, self.request.user)

    def has_password(self) -> bool:
        """Whether there is one to change: who came by the company's provider has none."""
        return settings.PASSWORD_SIGN_IN and self.person.has_usable_password()

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Changes it, or says how long to wait."""
        if not self.has_password():
            return without_passwords(request, "password_change")
        try:
            return super().post(request, *args, **kwargs)
        except limits.TooMany as error:
            return too_many(request, error)

    def form_valid(self, form: Any) -> HttpResponse:
        """Changes it, and says so."""
        answer = super().form_valid(form)
        name = self.request.user.get_username()
        audit.record(Act.CHANGE_PASSWORD, name, key=self.request.user.pk)
        messages.success(self.request, "Password changed. Other devices were signed out.")
        return answer


@never_cache
@require_GET
def signed_in(request: PageRequest) -> HttpResponse:
    """Where one is signed in: every session of one's own, the last used first."""
    mine = sessions.of(request.user)
    hours = int(settings.SESSION_IDLE.total_seconds() // 3600)
    context = {"sessions": mine, "this_one": request.session.session_key, "hours": hours}
    return render(request, "registration/sessions.html", context)


@require_POST
def end_session(request: PageRequest, mark: str) -> HttpResponse:
    """Ends a session of one's own; this one is signed out."""
    found = [row for row in sessions.of(request.user) if row.mark == mark]
    if not found:
        raise Http404
    if found[0].session_key == request.session.session_key:
        logout(request)
        return redirect(settings.LOGIN_URL)
    sessions.end(found)
    audit.record(Act.END_SESSION, request.user.get_username(), key=request.user.pk, text=found[0].browser)
    messages.success(request, "This session was ended. That browser has to sign in again.")
    return redirect("sessions")


@require_POST
def end_others(request: PageRequest) -> HttpResponse:
    """Ends every session of one's own but this one."""
    ended = sessions.end(
        row for row in sessions.of(request.user) if row.session_key != request.session.session_key
    )
    audit.record(Act.END_SESSION, request.user.get_username(), key=request.user.pk, text=f"{ended} others")
    count = "1 other session was" if ended == 1 else f"{ended} other sessions were"
    messages.success(request, f"{count} ended." if ended else "There was no other session.")
    return redirect("sessions")
