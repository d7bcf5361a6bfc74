"""What a person may do about a stage that has failed, by the kind of its error. Pure.

Who can't help by retrying isn't asked to, and nobody is sent to their file for what isn't its fault.
"""

from __future__ import annotations

# The file's fault, or its link's: only another file or link helps.
SOURCE = {
    "damaged": "Export it again from your editing software and upload the new file.",
    "invalid_input": "Upload a video or audio file.",
    "no_audio": "Upload a file with sound.",
    "no_video": "Upload a file with a picture.",
    "protected": "Upload an unprotected copy.",
    "source_not_found": "Check the link, or upload the file.",
    "source_refused": "Use another link, or upload the file instead.",
    "too_large": "Upload a smaller file, or ask an admin about the limit.",
    "too_long": "Cut it into shorter parts, or ask an admin about the limit.",
    "unsupported": "Convert it to H.264 and upload that.",
}
# Settings and money: until an admin acts, every try ends the same.
ADMIN = {
    "format_unsupported": "Ask an admin: the engine can’t make the format that this pipeline asks for.",
    "payment_required": "Ask an admin to add credits at the engine. The job waits until then.",
    "project_required": "Ask an admin: the engine’s API key belongs to no project.",
    "refused": "Ask an admin to check the engine’s settings.",
    "request_invalid": "Ask an admin: the engine doesn’t take what this pipeline asks for.",
    "storage_refused": "Ask an admin to put the storage right. The job waits until then.",
    "token_invalid": "Ask an admin to check the engine’s API key.",
    "token_missing": "Ask an admin to check the engine’s API key.",
    "url_required": "Ask an admin: the engine doesn’t take what this pipeline asks for.",
    "cancelled": "It was stopped at the engine. Start it again if that was a mistake.",
}
# What another try may get past.
RETRY_ADVICE = {
    "api_error": "Retry it; finished stages are kept.",
    "broken_answer": "Retry it in a few minutes. If the engine still answers like this, tell an admin.",
    "busy": "Retry it in a few minutes: the engine has too much to do.",
    "completed_by_hand": "Retry it; finished stages are kept.",
    "database_unavailable": "Retry it when the database is back, or tell an admin.",
    "handed_over": "Retry it; finished stages are kept.",
    "internal_error": "Retry it; if it fails again, tell an admin.",
    "job_not_found": "Retry it: the engine has lost its task.",
    "killed": "Retry it; if it fails again, tell an admin.",
    "no_output": "Retry it; if there is no file again, tell an admin.",
    "no_space": "Ask an admin to free disk space, then retry.",
    "queue_unavailable": "Retry it when the workflow service is back, or tell an admin.",
    "source_unreachable": "Check the link and retry, or upload the file instead.",
    "stalled": "Retry it; if it stops again, tell an admin.",
    "storage": "Retry it when the storage is back, or tell an admin.",
    "storage_unavailable": "Retry it when the storage is back, or tell an admin.",
    "task_failed": "Retry it; finished stages are kept.",
    "task_not_found": "Retry it: the engine has lost its task.",
    "timeout": "Retry it; if it takes as long again, tell an admin.",
    "unavailable": "Retry it when the engine is back, or tell an admin.",
    "unreachable": "Retry it when the engine is back, or tell an admin.",
    "worker_lost": "Retry it; if its worker is lost again, tell an admin.",
}
CHECK = "Run “python3 manage.py check-engine”: it says whether address, key and resource are right."
KEY = (
    "Set a valid ITTYBIT_API_KEY, or, for the embedded engine, the same MEDIAPIPE_ENGINE_KEY on every"
    " machine; restart, and start this job again."
)
OPTIONS = "Compare the stage’s options with the engine’s reference, and run “python3 manage.py check-engine”."
# For admins, where there is more to do than to retry: it may name commands and settings.
FOR_ADMINS = {
    "format_unsupported": "Choose another format for this stage: the engine can’t make this one.",
    "payment_required": "Add credits to the Ittybit account or raise its limit, then start this job again.",
    "project_required": "Make an API key within a project, set it as ITTYBIT_API_KEY, and restart.",
    "refused": CHECK,
    "request_invalid": OPTIONS,
    "storage_refused": "Put right what the error names, then start this job again.",
    "token_invalid": KEY,
    "token_missing": KEY,
    "too_large": "Upload a smaller file, or raise MEDIAPIPE_MAX_UPLOAD_MB.",
    "too_long": "Cut it into shorter parts, or raise MEDIAPIPE_MAX_ENCODE_HOURS.",
    "url_required": OPTIONS,
    "broken_answer": f"{CHECK} Then retry it.",
    "database_unavailable": "Bring the database back, then retry.",
    "queue_unavailable": "Bring Temporal back, then retry.",
    "storage": "Bring the storage back, then retry.",
    "storage_unavailable": "Bring the storage back, then retry.",
    "unavailable": f"{CHECK} Then retry it.",
    "busy": "Retry it later, or raise the account’s rate limit at the engine.",
    "internal_error": "Retry it; the technical details and the log of the worker say more.",
    "killed": "Retry it on a machine with more memory.",
    "no_output": "Retry it; if it stays so, ask the engine’s makers about this task.",
    "no_space": "Free disk space, then retry.",
    "stalled": "Retry it; if it stops again, look at the engine’s own status and load.",
    "timeout": "Retry it; if it takes as long again, look at the engine’s own status and load.",
    "unreachable": f"{CHECK} Then retry it.",
    "worker_lost": "Retry it; the log of the worker says why it was lost.",
}


def next_step(kind: str, *, admin: bool = False) -> str:
    """What to do about an error of this *kind*; an unknown one of the API's own may pass."""
    for_all = {**SOURCE, **ADMIN, **RETRY_ADVICE}.get(kind, RETRY_ADVICE["task_failed"])
    return FOR_ADMINS.get(kind, for_all) if admin else for_all


def helped_by_another_source(kind: str) -> bool:
    """Whether another file or link is likely to help where a retry is not, or only by luck."""
    return kind in SOURCE or kind == "source_unreachable"
