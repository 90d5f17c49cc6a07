"""``python -m tests.endurance.kill_matrix``: run the kill matrix and print it with its times."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main([str(Path(__file__).with_name("test_kill_matrix.py")), "-q", "-p", "no:randomly"]))
