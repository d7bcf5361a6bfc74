"""The engine that the settings name: a client for it, and what is known of it. It knows no jobs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from django.conf import settings

from jobs.ittybit.client import IttybitClient, open_http
from jobs.ittybit.replies import IttybitError, Rejected
from jobs.ittybit.resource import Resource

NO_KEY = "Key not accepted: set a valid ITTYBIT_API_KEY."
OTHER_KEY = "Key not accepted: MEDIAPIPE_ENGINE_KEY must be the same on every machine."
ANOTHER = "Another program answers there."


def resource() -> Resource:
    """Its resource, as this installation knows it."""
    return Resource(
        settings.ITTYBIT_RESOURCE, settings.HOME / "ittybit_resource.json", settings.ITTYBIT_API_URL
    )


@contextlib.asynccontextmanager
async def open_client() -> AsyncIterator[IttybitClient]:
    """A client for it, around an HTTP client that is closed with the context."""
    async with open_http(settings.ITTYBIT_API_URL, settings.ITTYBIT_API_KEY) as http:
        client = IttybitClient(http, resource())
        if settings.EMBEDDED_ENGINE:
            yield client
            return
        async with open_http(settings.OWN_ENGINE_URL, settings.ENGINE_KEY) as own:
            client.own = IttybitClient(own)
            yield client


async def check() -> tuple[bool, str]:
    """Whether it answers and takes our key, and what was found, in a line for admins. Creates nothing."""
    what = "the embedded engine" if settings.EMBEDDED_ENGINE else "the cloud"
    line = f"Engine: {what} at {settings.ITTYBIT_API_URL}."
    async with open_client() as client:
        try:
            found = await client.find_resource(own=settings.EMBEDDED_ENGINE)
        except IttybitError as error:
            about_key = isinstance(error, Rejected) and error.kind != "payment_required"
            no_key = OTHER_KEY if settings.EMBEDDED_ENGINE else NO_KEY
            return False, f"{line} {no_key if about_key else error}"
        if settings.EMBEDDED_ENGINE and not found:
            return False, f"{line} {ANOTHER}"
        line += " Key accepted."
        if fixed := client.resource.fixed:
            if found and found != fixed and not settings.EMBEDDED_ENGINE:
                return (
                    False,
                    f"{line} ITTYBIT_RESOURCE is {fixed}, but this API takes {found}: unset it.",
                )
            return True, f"{line} Resource: {fixed}{'' if settings.EMBEDDED_ENGINE else ' (set)'}."
        if not found:
            return True, f"{line} Resource: not known yet; the first task finds it out."
        client.resource.remember(found)
        return True, f"{line} Resource: {found} (found out)."
