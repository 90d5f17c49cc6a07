"""``python -m tests.upgrade.freeze``: write down what this release leaves behind, on servers started for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from demo.host import migrate, set_up_django
from demo.servers import servers
from tests.programs import postgresql


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="recent-workflows-freeze-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # PostgreSQL may run as another user
        with servers(directory) as environment:
            set_up_django(environment)
            migrate()
            _freeze()
    return 0


def _freeze() -> None:
    import redis

    from celeryconfig import app
    from tests import broker
    from tests.upgrade import scene
    from workflows_tasks import __version__, announce, conf, flush, inbox, repair
    from workflows_tasks.announcements import gather_scope
    from workflows_tasks.ids import ROWS, Scope

    repair.sweep()
    repair.audit()
    scene.make_runs()
    announce([scene.WRITTEN])
    inbox.add({"no number": inbox.shard_of(1)})
    flush.flush(inbox.shard_of(1))
    announce([scene.CLAIMED])
    inbox.claim(inbox.shard_of(1))
    announce([scene.PENDING])
    gather_scope(Scope(ROWS, "workspace", 1), using="default")

    to = scene.HERE / __version__
    to.mkdir(exist_ok=True)
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        _write(to / "inbox.json", scene.read(client, conf.settings().key_prefix))
    messages = broker.take_all(app, conf.settings().queue)
    told = [{"task": m.headers["task"], "args": m.payload[0], "kwargs": m.payload[1]} for m in messages]
    _write(to / "messages.json", told)
    (to / "schema.sql").write_text(_dump(scene.tables()))
    print(f"wrote {to}")  # noqa: T201


def _write(path: Path, found: object) -> None:
    path.write_text(json.dumps(found, indent=1) + "\n")


def _dump(tables: list[str]) -> str:
    """What makes the tables and their rows, without what depends on pg_dump's version."""
    only = [f"--table={table}" for table in tables]
    command = [
        str(postgresql("pg_dump")),
        "--inserts",
        "--no-owner",
        "--no-privileges",
        *only,
        os.environ["DATABASE_URL"],
    ]
    dumped = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line for line in dumped.splitlines() if line and not line.startswith(("--", "SET ", "\\"))]
    return "\n".join(line for line in lines if "set_config" not in line) + "\n"


if __name__ == "__main__":
    sys.exit(main())
