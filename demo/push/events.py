"""Server-sent events of one workspace. Each open page has a thread and a connection, which a demo may; the recipe has
one connection for all of them."""

from __future__ import annotations

from collections.abc import Generator

from django.db import connection

LOOK_S = 1.0
"""After so long a page that has gone is noticed."""


def events(workspace: int) -> Generator[str, None, None]:
    """One at once, for what changed since the page was made; then one for each flush that changes the workspace."""
    import psycopg

    with psycopg.connect(**connection.get_connection_params() | {"autocommit": True}) as postgresql:
        postgresql.execute("LISTEN recent_workflows")
        connection.close()  # a page that stays open needs no second one
        yield "data: changed\n\n"
        while True:
            heard = {notice.payload for notice in postgresql.notifies(timeout=LOOK_S, stop_after=1)}
            yield "data: changed\n\n" if str(workspace) in heard else ":\n\n"
