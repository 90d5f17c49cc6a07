"""Run a command against PostgreSQL 15, Redis 7 and RabbitMQ from Debian's packages, started here and ended after it.

python .ci/debian.py -- python -m tests
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo.servers import PostgreSQL, Process, Valkey, free_port

POSTGRESQL = "/usr/lib/postgresql/15/bin"
REDIS = "/usr/bin/redis-server"
RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"
EPMD = "/usr/bin/epmd"


class RabbitMQ:
    """A node with a name, ports, files and a port mapper of its own, on loopback."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.port, self._epmd_port, distribution_port = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        (directory / "enabled_plugins").write_text("[].\n")
        env = {
            "HOME": str(directory),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"ci{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(directory / "none"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false",
        }
        self._epmd = Process([EPMD, "-address", "127.0.0.1", "-port", str(self._epmd_port)], directory / "epmd.log")
        self._node = Process([RABBITMQ], directory / "rabbitmq.log", env=env)

    def start(self) -> None:
        self._epmd.start(lambda: _listens(self._epmd_port))
        self._node.start(lambda: _listens(self.port))

    def stop(self) -> None:
        self._node.stop()
        self._epmd.stop()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main(command: list[str]) -> int:
    missing = [path for path in (f"{POSTGRESQL}/postgres", REDIS, RABBITMQ, EPMD) if not Path(path).exists()]
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
        env = {**os.environ, **{f"TEST_{name}_URL": url for name, url in urls.items()}}
        return subprocess.run(command, env=env, check=False).returncode


if __name__ == "__main__":
    if sys.argv[1:2] != ["--"] or len(sys.argv) < 3:
        sys.exit("usage: python .ci/debian.py -- COMMAND [ARGUMENT ...]")
    sys.exit(main(sys.argv[2:]))
