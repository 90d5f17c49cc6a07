"""Run a command against PostgreSQL 15, Redis 7 and RabbitMQ from Debian's packages, started here and ended after it.

python .ci/debian.py -- python -m tests
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo.servers import PostgreSQL, Valkey
from tests.rabbitmq import EPMD, PROGRAM, RabbitMQ

POSTGRESQL = "/usr/lib/postgresql/15/bin"
REDIS = "/usr/bin/redis-server"


def main(command: list[str]) -> int:
    missing = [path for path in (f"{POSTGRESQL}/postgres", REDIS, PROGRAM, EPMD) if not Path(path).exists()]
    if missing:
        print(f"Not installed: {', '.join(missing)}", file=sys.stderr)
        return 1
    directory = Path(tempfile.mkdtemp(prefix="debian-servers-"))
    directory.chmod(0o755)  # PostgreSQL runs as another user
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        postgresql = PostgreSQL(directory / "postgresql", bin_directory=POSTGRESQL)
        redis = Valkey(directory / "redis", binary=REDIS)
        rabbitmq = RabbitMQ(directory / "rabbitmq")
        for server in (postgresql, redis, rabbitmq):
            stack.callback(server.stop)
            server.start()
        urls = {"DATABASE": postgresql.url, "REDIS": redis.url, "BROKER": rabbitmq.url}
        programs = {"TEST_POSTGRESQL_BIN": POSTGRESQL, "TEST_REDIS_BINARY": REDIS}  # for tests that kill theirs
        env = {**os.environ, **{f"TEST_{name}_URL": url for name, url in urls.items()}, **programs}
        return subprocess.run(command, env=env, check=False).returncode


if __name__ == "__main__":
    if sys.argv[1:2] != ["--"] or len(sys.argv) < 3:
        sys.exit("usage: python .ci/debian.py -- COMMAND [ARGUMENT ...]")
    sys.exit(main(sys.argv[2:]))
