"""The web application. A batch makes thousands of short-lived objects and no cycles: the collector waits longer here."""

import gc
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()
gc.freeze()
gc.set_threshold(100_000, 20, 20)
