"""The installation: what a Django project needs around its application, and the embedded engine.

settings, urls, asgi · web/ (middleware, ASGI handler, request bodies) · storage/ (media on disk or in a
bucket, signed URLs) · accounts/ (roles, sign-in links) · temporal, supervisor, management/commands/
(processes) · download, url_safety, addresses, disk, threads, recent (helpers) ·
engine/ (an Ittybit-compatible API over FFmpeg).
It knows nothing of jobs but their URLs.
"""
