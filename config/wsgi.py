"""The web application."""

import os

from django.core.wsgi import get_wsgi_application

from config.start import refuse_foreign_schema

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()
refuse_foreign_schema()
