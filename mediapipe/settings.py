"""Django's settings: one file, every value from the environment with a safe default.

Every variable read here is described in .env.example. State lives under MEDIAPIPE_HOME alone.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from mediapipe import environment, home
from mediapipe.environment import comma_list, days, flag, number, other_keys, pem_file, time_zone, url

BASE_DIR = Path(__file__).resolve().parent.parent

HOME = home.HOME
# A prefix that nginx serves MEDIA_ROOT under, internally: it sends the bytes, we decide who gets them.
ACCEL_PREFIX = environment.location("MEDIAPIPE_ACCEL_PREFIX")
home.prepare(passable=bool(ACCEL_PREFIX))


def stored_secret(name: str) -> str:
    """The secret called *name*: from the environment, else made once and stored under HOME."""
    return os.environ.get(name) or home.stored_secret(HOME / name.removeprefix("MEDIAPIPE_").lower())


def local_url() -> str:
    """Where this installation listens: by the variable, else as `up` wrote it down for other commands."""
    if not os.environ.get("MEDIAPIPE_PORT"):
        with suppress(OSError, ValueError, KeyError):
            return str(json.loads((HOME / "addresses.json").read_text())["web"])
    return f"http://127.0.0.1:{PORT}"


DEBUG = flag("MEDIAPIPE_DEBUG")
SECRET_KEY = stored_secret("MEDIAPIPE_SECRET_KEY")
# Keys that still count, or count already, while one is replaced: docs/machines.md.
SECRET_KEY_FALLBACKS = other_keys("MEDIAPIPE_SECRET_KEY_FALLBACKS")
# Signs what is sent to browsers; replaced, they must be asked for again.
PUSH_KEY = stored_secret("MEDIAPIPE_PUSH_KEY")
PORT = environment.port("MEDIAPIPE_PORT", 8000)
PUBLIC_URL = url("MEDIAPIPE_PUBLIC_URL")
# Where this installation answers itself; links for people use PUBLIC_URL where it is set.
LOCAL_URL = url("MEDIAPIPE_LOCAL_URL", local_url())
ALLOWED_HOSTS = environment.hosts("MEDIAPIPE_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
ALLOWED_HOSTS += [host for url in (PUBLIC_URL, LOCAL_URL) if (host := environment.host_of(url))]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL else []
PROXIES = environment.proxies()  # X-Forwarded-For and -Proto are believed from these alone (`web`)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC_URL.startswith("https://")
# A browser that has seen https once asks for nothing else; a year, as the preload list wants it.
SECURE_HSTS_SECONDS = int(timedelta(days=365).total_seconds()) if SESSION_COOKIE_SECURE else 0
# Where the proxy redirects http to https, and whether the whole domain has https, is not ours to say.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W008", "security.W021"]
SESSION_ENGINE = "mediapipe.accounts.sessions"
SESSION_IDLE = timedelta(hours=number("MEDIAPIPE_SESSION_IDLE_HOURS", 12, 1, 8760))
SESSION_COOKIE_AGE = int(timedelta(days=30).total_seconds())
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

INSTALLED_APPS = [
    "mediapipe",
    "mediapipe.accounts",
    "jobs",
    "mediapipe.engine",
    "django.contrib.admin.apps.SimpleAdminConfig",  # registers nothing by itself: jobs.admin does
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
]
MIDDLEWARE = [
    "mediapipe.web.requests.followed",
    "mediapipe.web.middleware.ContentSecurityPolicy",
    "jobs.uploads.tus.version",
    "django.middleware.security.SecurityMiddleware",
    "mediapipe.web.middleware.StaticFiles",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "mediapipe.web.middleware.KnownHosts",
    "mediapipe.web.middleware.plain_text",
    "jobs.api.bearer.BearerTokens",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "mediapipe.accounts.login_required.LoginRequired",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "mediapipe.urls"
CSRF_FAILURE_VIEW = "mediapipe.urls.expired"
ASGI_APPLICATION = "mediapipe.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "builtins": [
                "django.contrib.humanize.templatetags.humanize",
                "jobs.templatetags.films",
                "jobs.templatetags.icons",
                "jobs.templatetags.moments",
                "jobs.templatetags.titles",
            ],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# WAL with IMMEDIATE transactions: four writers at once and no "database is locked".
SQLITE = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=134217728;"
    " PRAGMA cache_size=-20000; PRAGMA temp_store=MEMORY",
}
DATABASES = {"default": environment.database(f"sqlite:///{HOME / 'mediapipe.sqlite3'}")}
DATABASE = DATABASES["default"]
size = number("MEDIAPIPE_DATABASE_CONNECTIONS", 16, 1, 1000)
if "sqlite3" in DATABASE["ENGINE"]:
    DATABASE["OPTIONS"] = SQLITE
    DATABASE["TEST"] = {"NAME": HOME / "test.sqlite3"}
elif "postgresql" in DATABASE["ENGINE"]:
    # Each request that awaits has a thread of its own: without a pool each such thread keeps a connection.
    DATABASE["CONN_MAX_AGE"] = 0
    from mediapipe.database import give_up

    # A lost one is tried for anew by who needs it: the pool's own tries come ever less often, and after an
    # outage of minutes it would be away for minutes more.
    lost = {"reconnect_timeout": 2, "reconnect_failed": give_up}
    pool = {"min_size": 1, "max_size": size, "timeout": 20, **lost}
    DATABASE.setdefault("OPTIONS", {})["pool"] = pool
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

PASSWORD_LENGTH = 12  # or more
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": PASSWORD_LENGTH},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
LOGIN_URL = "login"
# The company's own accounts, by OpenID Connect (docs/deploy/single-sign-on.md).
OIDC_ISSUER = environment.exact_url("MEDIAPIPE_OIDC_ISSUER")
OIDC_CLIENT_ID = os.environ.get("MEDIAPIPE_OIDC_CLIENT_ID", "")
OIDC_CLIENT_SECRET = os.environ.get("MEDIAPIPE_OIDC_CLIENT_SECRET", "")
OIDC_NAME = (os.environ.get("MEDIAPIPE_OIDC_NAME", "") or "your company account") if OIDC_ISSUER else ""
OIDC_SCOPES = os.environ.get("MEDIAPIPE_OIDC_SCOPES", "") or "openid profile email"
OIDC_GROUPS_CLAIM = os.environ.get("MEDIAPIPE_OIDC_GROUPS_CLAIM", "") or "groups"
OIDC_ADMIN_GROUPS = comma_list("MEDIAPIPE_OIDC_ADMIN_GROUPS", "")
OIDC_EDITOR_GROUPS = comma_list("MEDIAPIPE_OIDC_EDITOR_GROUPS", "")
PASSWORD_SIGN_IN = flag("MEDIAPIPE_PASSWORD_SIGN_IN", default=True)
if OIDC_ISSUER and not (OIDC_CLIENT_ID and OIDC_CLIENT_SECRET):
    raise ImproperlyConfigured(
        "MEDIAPIPE_OIDC_ISSUER needs MEDIAPIPE_OIDC_CLIENT_ID and MEDIAPIPE_OIDC_CLIENT_SECRET beside it."
    )
if not PASSWORD_SIGN_IN and not OIDC_ISSUER:
    raise ImproperlyConfigured(
        "MEDIAPIPE_PASSWORD_SIGN_IN is 0: set MEDIAPIPE_OIDC_ISSUER, or nobody comes in."
    )
LOGIN_REDIRECT_URL = "jobs:list"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en-ie"  # British English, with times as 14:30
TIME_ZONE = time_zone()
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STATIC_ROOT = HOME / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
# Sources and outputs: one tree, served by signed URLs only (mediapipe.storage).
MEDIA_URL = "/media/"
MEDIA_ROOT = HOME / "media"
WORK_ROOT = HOME / "work"
# The plain form's files arrive on the media's own disk, so that a rename finishes them.
FILE_UPLOAD_TEMP_DIR = MEDIA_ROOT / "incoming"
FILE_UPLOAD_PERMISSIONS = None  # as the umask says; static files, which Django writes so too, else are 0644
FILE_UPLOAD_TEMP_DIR.mkdir(parents=True, exist_ok=True)
# Or in an S3-compatible bucket; its keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
S3_BUCKET = os.environ.get("MEDIAPIPE_S3_BUCKET", "")
S3_ENDPOINT_URL = url("MEDIAPIPE_S3_ENDPOINT_URL") or None
S3_PUBLIC_URL = url("MEDIAPIPE_S3_PUBLIC_URL") or None  # where browsers reach the same endpoint
S3_REGION = os.environ.get("MEDIAPIPE_S3_REGION") or None
MAX_UPLOAD_BYTES = number("MEDIAPIPE_MAX_UPLOAD_MB", 100 * 1024, 1, 10**9) * 1024 * 1024
MAX_ENCODE_HOURS = number("MEDIAPIPE_MAX_ENCODE_HOURS", 24, 1, 8760)
MAX_BODY_BYTES = 10 * 1024 * 1024
ALLOW_PRIVATE_SOURCES = flag("MEDIAPIPE_ALLOW_PRIVATE_SOURCES")
# How downloads leave: authorities that count beside the public ones, and a proxy.
CA_FILE = pem_file("MEDIAPIPE_CA_FILE")
# Others read these themselves, and would say only that some file isn't there.
for name in ("SERVER_CA_CERT_PATH", "CLIENT_CERT_PATH", "CLIENT_KEY_PATH"):
    pem_file(f"TEMPORAL_TLS_{name}")
pem_file("AWS_CA_BUNDLE")
OUTGOING_PROXY = os.environ.get("MEDIAPIPE_PROXY", "")
if OUTGOING_PROXY and (urlsplit(OUTGOING_PROXY).scheme != "http" or not urlsplit(OUTGOING_PROXY).hostname):
    raise ImproperlyConfigured("MEDIAPIPE_PROXY: write http://host:port, with user:password@ where it asks.")
# Mail leaves by this server; where none is set, none is sent.
EMAIL_HOST = os.environ.get("MEDIAPIPE_EMAIL_HOST", "")
EMAIL_SECURITY = os.environ.get("MEDIAPIPE_EMAIL_SECURITY", "") or "starttls"
if EMAIL_SECURITY not in ("starttls", "tls", "none"):
    raise ImproperlyConfigured("MEDIAPIPE_EMAIL_SECURITY: write starttls, tls or none.")
EMAIL_USE_TLS = EMAIL_SECURITY == "starttls"
EMAIL_USE_SSL = EMAIL_SECURITY == "tls"
EMAIL_TIMEOUT = 20
EMAIL_PORT = environment.port(
    "MEDIAPIPE_EMAIL_PORT", {"starttls": 587, "tls": 465, "none": 25}[EMAIL_SECURITY]
)
EMAIL_HOST_USER = os.environ.get("MEDIAPIPE_EMAIL_USER", "")
EMAIL_HOST_PASSWORD = os.environ.get("MEDIAPIPE_EMAIL_PASSWORD", "")
CHAT_SERVICES = comma_list("MEDIAPIPE_CHAT_SERVICES", "")  # of Apprise, beside those with fixed hosts
DEFAULT_FROM_EMAIL = os.environ.get("MEDIAPIPE_EMAIL_FROM", "") or "mediapipe@localhost"

# The Ittybit API: the cloud where a key is set, else the engine in this very installation.
ENGINE_KEY = stored_secret("MEDIAPIPE_ENGINE_KEY")
if "sqlite3" in DATABASE["ENGINE"] and not (HOME / "mediapipe.sqlite3").exists():
    home.probe()  # SQLite that can't begin says so in riddles
ENGINE_KEY_FALLBACKS = other_keys("MEDIAPIPE_ENGINE_KEY_FALLBACKS")
EMBEDDED_ENGINE = not os.environ.get("ITTYBIT_API_KEY")
ITTYBIT_API_KEY = os.environ.get("ITTYBIT_API_KEY") or ENGINE_KEY
ITTYBIT_API_URL = url("ITTYBIT_API_URL") or (
    f"{LOCAL_URL}/ittybit" if EMBEDDED_ENGINE else "https://api.ittybit.com"
)
# Where the own engine answers for pipelines that ask for it although a cloud is set.
OWN_ENGINE_URL = url("MEDIAPIPE_ENGINE_URL", f"{LOCAL_URL}/ittybit")
# Unset: found out by asking the cloud (jobs.engine); the embedded engine answers on both.
ITTYBIT_RESOURCE = os.environ.get("ITTYBIT_RESOURCE") or ("tasks" if EMBEDDED_ENGINE else "")
if ITTYBIT_RESOURCE not in ("", "tasks", "jobs"):
    raise ImproperlyConfigured(f"ITTYBIT_RESOURCE is {ITTYBIT_RESOURCE!r}: write tasks or jobs.")

# Temporal: TEMPORAL_* are read by the SDK's own temporalio.envconfig (mediapipe.temporal).
environment.check_temporal()
HOLD_DAYS = days("MEDIAPIPE_HOLD_DAYS", 7)
TRASH_DAYS = days("MEDIAPIPE_TRASH_DAYS", 7)
# For how many days after its end something is kept; 0 is for ever (docs/retention.md).
KEEP_DAYS = {
    "sources": days("MEDIAPIPE_KEEP_SOURCES_DAYS", 0),
    "failed_sources": days("MEDIAPIPE_KEEP_FAILED_SOURCES_DAYS", 0),
    "outputs": days("MEDIAPIPE_KEEP_OUTPUTS_DAYS", 0),
    "timelines": days("MEDIAPIPE_KEEP_TIMELINES_DAYS", 0),
    "tasks": days("MEDIAPIPE_KEEP_TASKS_DAYS", 90),
    "audit": days("MEDIAPIPE_KEEP_AUDIT_DAYS", 0),
}
RETENTION = [
    "jobs.removal.retention.KINDS",
    "mediapipe.engine.retention.KINDS",
    "mediapipe.accounts.retention.KINDS",
]
HEARTBEAT_SECONDS = number("MEDIAPIPE_HEARTBEAT_SECONDS", 30, 3, 3600)
ENGINE_HEARTBEAT_SECONDS = max(3.0, HEARTBEAT_SECONDS / 3)
# Workers of different ids run side by side (docs/machines.md); empty: any worker continues any job.
BUILD_ID = os.environ.get("MEDIAPIPE_BUILD_ID", "")
VERSION = BUILD_ID or next(iter(re.findall(r"^## (\S+)", (BASE_DIR / "CHANGELOG.md").read_text(), re.M)), "")
WORKER_NAME = os.environ.get("MEDIAPIPE_WORKER_NAME", "")  # else the machine's
# Where a `worker` shows its metrics and whether it is ready.
METRICS_ADDRESS = environment.address("MEDIAPIPE_METRICS_ADDRESS")
# What the `worker` command runs: a task queue and who builds its workers.
WORKERS = {
    "media-pipeline": "jobs.worker.workers",
    "media-engine": "mediapipe.engine.worker.workers",
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "mediapipe.log.formatter", "as_json": flag("MEDIAPIPE_LOG_JSON")}},
    "filters": {"limits": {"()": "mediapipe.log.Limits"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["limits"]}},
    # An activity's failure stands on the job's page; its traceback would only drown the log.
    # A job that was deleted has no timeline any more: the log says who did it.
    "loggers": {
        "temporalio.activity": {"level": "ERROR"},
        "httpx": {"level": "WARNING"},
        "jobs.removal.deleting": {"level": "INFO"},
        "jobs.uploads": {"level": "INFO"},  # which uploads were refused, and why
        "mediapipe.accounts": {"level": "INFO"},  # who added, promoted or deactivated whom
        "mediapipe.web.requests": {"level": "INFO" if flag("MEDIAPIPE_ACCESS_LOG") else "WARNING"},
        "uvicorn": {"handlers": []},  # its lines go the way of all others
    },
    "root": {"handlers": ["stderr"], "level": environment.log_level("MEDIAPIPE_LOG_LEVEL", "WARNING")},
}
