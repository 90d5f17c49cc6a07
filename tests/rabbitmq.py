"""RabbitMQ from Debian's package. It is in no wheel: who has none on a laptop skips, continuous integration fails.

``TEST_RABBITMQ_BINARY`` and ``TEST_EPMD_BINARY`` name the programs of another one.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

from demo.servers import STARTED_WITHIN_S, Process, free_port

PROGRAM: Final = os.environ.get("TEST_RABBITMQ_BINARY", "/usr/lib/rabbitmq/bin/rabbitmq-server")
EPMD: Final = os.environ.get("TEST_EPMD_BINARY", "/usr/bin/epmd")


class RabbitMQ:
    """A node with a name, ports, files and a port mapper of its own, on loopback."""

    def __init__(self, directory: Path, program: str = PROGRAM, epmd: str = EPMD) -> None:
        directory.mkdir(parents=True)
        self.port, self._epmd_port, distribution_port = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        (directory / "enabled_plugins").write_text("[].\n")
        env = {
            "HOME": str(directory),
            "RUNNING_UNDER_SYSTEMD": "yes",  # the script becomes the node, so that it is the node that dies with us
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
        self._epmd = Process([epmd, "-address", "127.0.0.1", "-port", str(self._epmd_port)], directory / "epmd.log")
        self._node = Process([program], directory / "rabbitmq.log", env=env)

    def start(self) -> None:
        self._epmd.start(lambda: _listens(self._epmd_port))
        self._node.start(lambda: _listens(self.port))

    def stop(self) -> None:
        self._node.stop()
        self._epmd.stop()

    def restart(self) -> None:
        """Told to stop, and started again at the same address with what it kept on disk."""
        self._node.stop(within_s=STARTED_WITHIN_S)
        self._node.start(lambda: _listens(self.port))

    def signal(self, sig: int) -> None:
        self._node.send(sig)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
