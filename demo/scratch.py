"""A directory for one demo's servers, gone when the demo is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.servers import reachable

PREFIX = "recent-workflows-demo-"


@contextmanager
def directory() -> Iterator[Path]:
    """A new temporary directory that any user of this machine can pass through, removed at the end.

    What demos left behind that were killed before they could remove theirs is removed first.
    """
    configured = Path(tempfile.gettempdir()).resolve()
    base = configured if os.geteuid() != 0 or reachable(configured) else Path("/tmp")
    _remove_orphans(base)
    made = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=base))
    try:
        made.chmod(0o711)  # as root, PostgreSQL runs as another user
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _remove_orphans(base: Path) -> None:
    for left in base.glob(f"{PREFIX}*-*"):
        owner = left.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdecimal() and not _runs(int(owner)) and left.lstat().st_uid == os.geteuid():
            shutil.rmtree(left, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
