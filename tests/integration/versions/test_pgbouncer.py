"""The live path through PgBouncer in transaction pooling, with statements prepared on the server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from demo.servers import UNPRIVILEGED, Process, free_port
from tests.integration.versions.project import Project
from tests.programs import of_the_system

PGBOUNCER = os.environ.get("TEST_PGBOUNCER_BINARY", "pgbouncer")
SETTINGS = """
[databases]
* = host={host} port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_prepared_statements = 200
admin_users = postgres
ignore_startup_parameters = extra_float_digits
"""


@pytest.fixture(scope="module")
def pgbouncer(servers: dict[str, str], room: Path) -> Iterator[int]:
    """The port of a pooler with few connections, so that each serves many clients."""
    version = subprocess.run([of_the_system(PGBOUNCER), "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < (1, 21):
        pytest.skip("PgBouncer knows prepared statements since 1.21")
    if find_spec("psycopg") is None:
        pytest.skip("psycopg2 prepares no statements")
    directory, database, port = room / "pgbouncer", urlsplit(servers["DATABASE_URL"]), free_port()
    directory.mkdir()
    directory.chmod(0o777)
    settings = SETTINGS.format(host=database.hostname, port=database.port, listen=port)
    if os.geteuid() == 0:  # it refuses to stay root
        settings += f"user = {UNPRIVILEGED}\n"
    (directory / "pgbouncer.ini").write_text(settings)
    pooler = Process([of_the_system(PGBOUNCER), "pgbouncer.ini"], directory / "pgbouncer.log")
    try:
        pooler.start(lambda: "process up" in (directory / "pgbouncer.log").read_text())
        yield port
    finally:
        pooler.stop()


def test_a_save_is_visible(
    pgbouncer: int, servers: dict[str, str], tmp_path: Path, started: Callable[[Process], Process]
) -> None:
    pooled = {
        "PORT": pgbouncer,
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {"prepare_threshold": 0, "server_side_binding": True},
    }
    project = Project(tmp_path, {**servers, "VERSIONS_DATABASE": json.dumps(pooled)})
    started(project.worker())
    for _ in range(2):
        project.show(project.save(50)["workspace"])
    project.verify()
    assert prepared(pgbouncer) > 10


def prepared(port: int) -> int:
    """How many statements clients have prepared, by the pooler's own count."""
    import psycopg
    from psycopg.rows import dict_row

    url = f"postgresql://postgres@127.0.0.1:{port}/pgbouncer"
    # Its console knows the simple protocol only.
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor, row_factory=dict_row) as console:
        return sum(int(row["total_client_parse_count"]) for row in console.execute("SHOW STATS"))
