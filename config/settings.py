"""Settings. Everything that differs between places comes from the environment; `config/env.py` reads it."""

import os
from importlib.util import find_spec
from pathlib import Path

import structlog

from config import env

DEBUG = False
WEB_WORKERS = int(os.environ.get("WEB_CONCURRENCY", "1"))
SECRET_KEY = env.secret_key(workers=WEB_WORKERS)
ALLOWED_HOSTS = os.environ.get("ANSWERABLE_HOSTS", "localhost,127.0.0.1,[::1]").split(",")
CSRF_TRUSTED_ORIGINS = [o for o in os.environ.get("ANSWERABLE_ORIGINS", "").split(",") if o]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "dashboard",  # before allauth, whose templates ours replace
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "auditlog",
    "disputes",
    "config",
]
MIDDLEWARE = [
    "config.door.ingest_first",  # the hot path needs no session, no user, no cookie
    "django.middleware.security.SecurityMiddleware",
    "config.headers.security_headers",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "config.door.watch_the_door",
    "config.signin.sessions.keep_sessions_short",
    "config.signin.gate.ask_for_proof",
    "config.door.act_as_person",
    "config.door.tell_errors",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "dashboard.context.desk",
            ]
        },
    }
]

DATABASES = {
    "default": env.database(env.address("DATABASE_URL", "database_url")),
    # Owns the tables: migrations and grants only. No request ever runs as it.
    "owner": env.database(env.address("DATABASE_OWNER_URL", "database_owner_url")),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-gb"
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.ScryptPasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "auditlog.people.passwords.LongestPassword"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "auditlog.people.passwords.NoWordsOfThisPlace"},
]

# Sign-in: allauth's flows behind our own pages and throttle (config/signin/, dashboard/pages/account/).
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
ACCOUNT_ADAPTER = "config.signin.adapters.AccountAdapter"
MFA_ADAPTER = "config.signin.adapters.FactorAdapter"
SOCIALACCOUNT_ADAPTER = "config.signin.adapters.ProviderAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_UNIQUE_EMAIL = False  # two accounts of one address are one person: access.person_of
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_EMAIL_NOTIFICATIONS = False  # the security log tells
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
ACCOUNT_RATE_LIMITS = False  # ours is database/throttle.py, counted for all processes together
MFA_RATE_LIMITS = False
ACCOUNT_SESSION_REMEMBER = True  # how long a session lasts is said below, not by whoever signs in
PROOF_SECONDS = 15 * 60  # since somebody proved who they are, for what matters most
ACCOUNT_REAUTHENTICATION_TIMEOUT = PROOF_SECONDS
ACCOUNT_LOGOUT_REDIRECT_URL = "/login/"

MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_FORMS = {
    "authenticate": "config.signin.forms.CodeForm",
    "authenticate_webauthn": "config.signin.forms.PasskeyForm",
    "login_webauthn": "config.signin.forms.PasskeyAloneForm",
    "activate_totp": "config.signin.forms.ActivateForm",
}
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_TOTP_ISSUER = "Answerable"
MFA_TOTP_TOLERANCE = 1
MFA_RECOVERY_CODES_SHOW_ONCE = True
# The service itself trusts http://localhost alone beside https, as browsers do.
SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": env.oidc_apps()}}
SOCIALACCOUNT_OPENID_CONNECT_URL_PREFIX = "oidc"
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
# Addresses of identity providers may be private ones only where an operator says so.
OIDC_ALLOW_PRIVATE = os.environ.get("ANSWERABLE_OIDC_PRIVATE") == "1"
# Admins, and whoever may decide, have a second factor. Names that need none: quickstart's demo users.
SECOND_FACTOR_REQUIRED = True
SECOND_FACTOR_SPARES = frozenset(name for name in os.environ.get("ANSWERABLE_DEMO_USERS", "").split(",") if name)
SESSION_IDLE_SECONDS = env.seconds("ANSWERABLE_SESSION_IDLE", 60 * 60)
SESSION_LONGEST_SECONDS = env.seconds("ANSWERABLE_SESSION_LONGEST", 12 * 60 * 60)
SESSION_COOKIE_AGE = SESSION_LONGEST_SECONDS
# Codes that were used, by all processes: a code is good once.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "answerable_cache",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}
PASSWORD_RESET_TIMEOUT = 60 * 60
vars().update(env.mail())  # EMAIL_*, where a mail server is given

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = os.environ.get("ANSWERABLE_HTTPS") == "1"
CSRF_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if os.environ.get("ANSWERABLE_HTTPS") == "1":
    # No other host of the domain, and nothing without TLS, can set or read a cookie of this name.
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

STATIC_URL = "/static/"
# Finders serve straight from the installed packages: nothing is copied, nothing third-party is committed.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
WHITENOISE_MAX_AGE = 3600
WHITENOISE_ALLOW_ALL_ORIGINS = False
# plotly.js from the installed package: /static/plotly/plotly.min.js.
STATICFILES_DIRS = [("plotly", str(Path(find_spec("plotly").origin).parent / "package_data"))]

DATA_UPLOAD_MAX_MEMORY_SIZE = 17 * 1024 * 1024

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "auditlog.reads.access.BearerToken",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["auditlog.reads.access.IsMember"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.parsers.BoundedJSON"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "config.errors.problem_of",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Answerable",
    "DESCRIPTION": "Who answers for what an agent did.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PUBLIC": True,
    "SERVE_PERMISSIONS": ["auditlog.reads.access.IsMember"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "auditlog.api.problems.describe"],
    "ENUM_NAME_OVERRIDES": {
        "CaseState": "disputes.core.status.STATES",
        "CaseKind": "disputes.models.Case.Kind",
        "StopKind": "auditlog.core.wire.signal.KINDS",
        "FindingState": "auditlog.api.serializers.TRIAGED",
        "IncidentOutcome": "auditlog.models.incidents.Incident.Outcome",
        "OutcomeEnum": "disputes.models.Proposal.Outcome",
    },
}

# What a SIEM is told beside events and findings: streams of packages that the record itself knows nothing of.
SIEM_STREAMS = ("auditlog.custody.security.SECURITY", "disputes.tell.CASES")

CELERY_BROKER_URL = env.address("CELERY_BROKER_URL", "broker_url")
# The name a log signs under (C2SP checkpoint origin), never taken from host or port.
STATE_DIR = env.state_dir()
LOG_KEY_FILE = env.log_key_file()
HEADS_DIR = env.heads_dir()
CASE_ZONE = env.zone("ANSWERABLE_CASE_ZONE", "UTC")  # business days of cases are counted there
# `iss` of our signals, and where receivers find this service (SSF 1.0 section 6). Never taken from a request.
ISSUER = os.environ.get("ANSWERABLE_ISSUER", "http://localhost:8000").rstrip("/")
LOG_ORIGIN = os.environ.get("ANSWERABLE_LOG_ORIGIN", "answerable.example/log")

structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ],
    logger_factory=structlog.PrintLoggerFactory(file=__import__("sys").stderr),
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": "structlog.stdlib.ProcessorFormatter",
            "processor": structlog.processors.JSONRenderer(),
            "foreign_pre_chain": [
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
            ],
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
