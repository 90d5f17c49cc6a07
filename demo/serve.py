"""``python -m demo serve``: the home page in a browser, while workflows execute."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import click
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.db import connections

from demo import history
from demo.executions import Executions
from demo.home.pages import listed_workspaces
from demo.host import Workers
from demo.narration import heading, line, step
from demo.shape import WorkspaceShape
from demo.starting import fill

ADDRESS = "127.0.0.1"
USUAL_PORT = 8000


def run(shapes: Sequence[WorkspaceShape], workers: Workers, *, saves_per_s: float, port: int) -> None:
    """Serve the home page of a loaded host until Ctrl-C.

    Raises:
        click.ClickException: the port asked for cannot be had.
    """
    server = _server(port)
    heading("History into the table")
    fill()
    with step("VACUUM ANALYZE, as autovacuum does on a live server"):
        history.vacuum()
    with step("Waiting for the Celery worker and beat"):
        workers.wait()
    listed = {workspace.pk for workspace in listed_workspaces()}
    watched = [shape for shape in shapes if shape.id in listed and shape.runs]
    executions = Executions(shapes, watched=watched, watched_share=1 / 2)
    with _executing(executions, saves_per_s), suppress(KeyboardInterrupt):
        heading(f"The home page: http://localhost:{server.server_port}/")
        line(f"Workflows execute meanwhile, {saves_per_s:g} saves a second. Ctrl-C ends it all.")
        line(f"To see what visitors see when the workers hang: kill -STOP {workers.worker_pid} (and -CONT).")
        server.serve_forever()
    server.server_close()


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


@contextmanager
def _executing(executions: Executions, saves_per_s: float) -> Iterator[None]:
    """Workflows execute in a thread."""
    ended = threading.Event()

    def execute() -> None:
        try:
            for _ in executions.paced(saves_per_s):
                if ended.is_set():
                    break
        finally:
            connections.close_all()

    thread = threading.Thread(target=execute, name="executions", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=2)
