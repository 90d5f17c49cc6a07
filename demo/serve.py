"""``python -m demo serve``: the home page in a browser, while workflows execute."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import click
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

from demo.executions import Executions, executing
from demo.home.pages import listed_workspaces
from demo.host import Workers
from demo.narration import heading, line
from demo.shape import WorkspaceShape
from demo.starting import fill

ADDRESS = "127.0.0.1"
USUAL_PORT = 8000
ADMIN = "admin"


def run(shapes: Sequence[WorkspaceShape], workers: Workers, *, saves_per_s: float, port: int) -> None:
    """Serve the home page of a loaded host until Ctrl-C.

    Raises:
        click.ClickException: the port asked for cannot be had.
    """
    password = _admin()
    with _serving(_server(port)) as address, suppress(KeyboardInterrupt):
        heading("History into the table")
        line(f"{address} shows already what is in.")
        fill(shapes, workers)
        listed = {workspace.pk for workspace in listed_workspaces()}
        watched = [shape for shape in shapes if shape.id in listed and shape.runs]
        with executing(Executions(shapes, watched=watched, watched_share=1 / 2), saves_per_s):
            heading(f"The home page: {address}")
            line(f"Workflows execute meanwhile, {saves_per_s:g} saves a second. Ctrl-C ends it all.")
            line(f"Django's admin: {address}admin/, as {ADMIN} with the password {password}")
            line(f"To see what visitors see when the workers hang: kill -STOP {workers.worker_pid} (and -CONT).")
            threading.Event().wait()


@contextmanager
def _serving(server: ThreadedWSGIServer) -> Iterator[str]:
    """Answer requests in threads; yields the address of the home page."""
    thread = threading.Thread(target=server.serve_forever, name="server", daemon=True)
    thread.start()
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


def _server(port: int) -> ThreadedWSGIServer:
    try:
        server = ThreadedWSGIServer((ADDRESS, _port(port)), WSGIRequestHandler)
    except OSError as error:
        raise click.ClickException(
            f"Port {port} cannot be had ({error.strerror}). Without --port a free one is taken."
        ) from error
    server.set_app(get_wsgi_application())
    return server


def _port(asked: int) -> int:
    """The port asked for; else the usual one, if nobody has it; else 0, for any that is free."""
    if asked:
        return asked
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, USUAL_PORT))
        except OSError:
            return 0
    return USUAL_PORT
