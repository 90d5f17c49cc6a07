"""The web process of compose.yaml: the demo host, behind any WSGI server."""

from __future__ import annotations

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
