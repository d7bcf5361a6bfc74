"""The form of a new password, in our words: for who changes theirs, and for who is invited. No page."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.forms import SetPasswordForm


class NewPassword(SetPasswordForm):  # type: ignore[type-arg]
    """A new password, twice."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rules = f"At least {settings.PASSWORD_LENGTH} characters, not a common password, not your name."
        self.fields["new_password1"].help_text = rules
        self.fields["new_password2"].label = "Repeat new password"
        self.fields["new_password2"].help_text = ""
