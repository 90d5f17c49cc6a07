"""The live path through PgBouncer, which gives each transaction a connection that others have used."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from django.db import connection
from pytest_celery import CeleryTestSetup

from demo.servers import UNPRIVILEGED, Process, free_port
from tests.hosts.adapter import Host
from tests.hosts.environment import DATABASE
from tests.oracle import expected, stored
from tests.programs import of_the_system
from tests.waiting import until

PGBOUNCER = os.environ.get("TEST_PGBOUNCER_BINARY", "pgbouncer")
SETTINGS = """
[databases]
* = host={HOST} port={PORT} user={USER}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_prepared_statements = 200
admin_users = {USER}
ignore_startup_parameters = extra_float_digits
"""

pytestmark = pytest.mark.host_independent


@pytest.fixture
def pgbouncer(live: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a pooler with few connections, through which this process and those it starts reach the database."""
    version = subprocess.run([of_the_system(PGBOUNCER), "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < (1, 21):
        pytest.skip("PgBouncer knows prepared statements since 1.21")
    if find_spec("psycopg") is None:
        pytest.skip("psycopg2 prepares no statements")
    given, port = connection.settings_dict, free_port()
    with TemporaryDirectory(prefix="pgbouncer-") as name:
        directory = Path(name)
        directory.chmod(0o777)
        settings = SETTINGS.format(listen=port, **given)
        if os.geteuid() == 0:  # it refuses to stay root
            settings += f"user = {UNPRIVILEGED}\n"
        (directory / "pgbouncer.ini").write_text(settings)
        pooler = Process([of_the_system(PGBOUNCER), "pgbouncer.ini"], directory / "pgbouncer.log")
        try:
            pooler.start(lambda: "process up" in (directory / "pgbouncer.log").read_text())
            pooled = {
                "HOST": "127.0.0.1", "PORT": port, "DISABLE_SERVER_SIDE_CURSORS": True,
                "OPTIONS": {"prepare_threshold": 0, "server_side_binding": True},
            }  # fmt: skip
            connection.close()
            monkeypatch.setenv(DATABASE, json.dumps(pooled))
            with monkeypatch.context() as patched:
                for key, value in pooled.items():
                    patched.setitem(given, key, value)
                yield port
                connection.close()
        finally:
            pooler.stop()


@pytest.fixture
def node_env(pgbouncer: int, node_env: dict[str, str]) -> dict[str, str]:
    return node_env


def test_a_save_is_visible(pgbouncer: int, celery_setup: CeleryTestSetup, live: Host) -> None:
    workspace, workflow, user = live.make_workspace(), live.make_workflow(), live.make_user()
    for _ in range(2):
        for _ in range(50):
            live.make_run(workspace=workspace, workflow=workflow, user=user)
        until(lambda: set(stored()) == set(expected(live)))
    assert prepared(pgbouncer) > 10


def prepared(port: int) -> int:
    """How many statements clients have prepared, by the pooler's own count."""
    import psycopg
    from psycopg.rows import dict_row

    url = f"postgresql://{connection.settings_dict['USER']}@127.0.0.1:{port}/pgbouncer"
    # Its console knows the simple protocol only.
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor, row_factory=dict_row) as console:
        return sum(int(row["total_client_parse_count"]) for row in console.execute("SHOW STATS"))
