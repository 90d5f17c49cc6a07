"""``python -m demo serve``: the home page in a browser, while workflows execute."""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

from demo.executions import Executions, executing
from demo.host import Workers
from demo.narration import heading, line
from demo.shape import WorkspaceShape
from demo.starting import fill, install
from demo.views import listed_workspaces

ADDRESS = "127.0.0.1"
USUAL_PORT = 8000
ADMIN = "admin"


def run(shapes: Sequence[WorkspaceShape], workers: Workers, *, saves_per_s: float) -> None:
    """Serve the home page of a loaded host until Ctrl-C."""
    heading("Installing: migrate, then history into the table while runs are written")
    install(workers)
    with _serving() as address, suppress(KeyboardInterrupt):
        line(f"{address} shows already what is in.")
        fill(shapes)
        listed = {workspace.pk for workspace in listed_workspaces()}
        with executing(Executions([shape for shape in shapes if shape.id in listed]), saves_per_s):
            heading(f"The home page: {address}")
            line(
                f"Workflows execute meanwhile, {saves_per_s:g} saves a second, and raw SQL beside. Ctrl-C ends it all."
            )
            line(f"Django's admin: {address}admin/, as {ADMIN} with the password {_admin()}")
            line("An operator's commands, in another terminal:")
            needed = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "DJANGO_SETTINGS_MODULE")
            where = " ".join(f"{name}={os.environ[name]}" for name in needed)
            line(f"  {where} {sys.executable} -m django recent_workflows health")
            line(f"To see what visitors see when the workers hang: kill -STOP {workers.worker_pid} (and -CONT).")
            threading.Event().wait()


@contextmanager
def _serving() -> Iterator[str]:
    """Answer requests in threads, on the usual port if it is free; yields the address of the home page."""
    try:
        server = ThreadedWSGIServer((ADDRESS, USUAL_PORT), WSGIRequestHandler)
    except OSError:
        server = ThreadedWSGIServer((ADDRESS, 0), WSGIRequestHandler)
    server.set_app(get_wsgi_application())
    threading.Thread(target=server.serve_forever, name="server", daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def _admin() -> str:
    """Somebody who may log in to Django's admin; returns their password, of this demo only."""
    from django.contrib.auth.models import User

    password = secrets.token_urlsafe(6)
    User.objects.create_superuser(ADMIN, password=password)
    return password
