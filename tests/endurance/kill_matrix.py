"""``python -m tests.endurance.kill_matrix``: run the kill matrix and print it with its times."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FILES = ("test_kill_matrix.py", "test_kill_as_shipped.py", "test_redis_emptied.py")

if __name__ == "__main__":
    here = Path(__file__).parent
    sys.exit(pytest.main([*(str(here / name) for name in FILES), "-q", "-p", "no:randomly"]))
