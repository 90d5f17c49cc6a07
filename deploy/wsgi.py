"""The web process of compose.yaml: the demo host, behind any WSGI server."""

from __future__ import annotations

from django.core.wsgi import get_wsgi_application

import celeryconfig  # noqa: F401  # the host's Celery app: a save sends its flush message through it

application = get_wsgi_application()
