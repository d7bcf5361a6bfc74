"""The installation: settings, URLs, the ASGI application and the embedded engine."""
