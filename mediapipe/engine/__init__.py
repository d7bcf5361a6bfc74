"""The embedded engine: Ittybit's HTTP API over FFmpeg.

It knows FFmpeg and Temporal, and nothing of jobs: only HTTP joins the two, so that the cloud can
take its place. A task is a row (what the API reports), a short workflow (the queue) and an activity
(FFmpeg in its sandbox).
"""
