"""``python -m tests.chaos.kill_matrix``: the kill matrix, at every statement."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    os.environ["KILL_ALL"] = "1"
    sys.exit(pytest.main([str(Path(__file__).with_name("test_kill_matrix.py")), "-q", "-n", "0"]))
