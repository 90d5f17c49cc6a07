"""Programs run as an operator runs them: in a process of their own, with a project written for the occasion."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def python(
    *arguments: str, directory: Path = ROOT, env: Mapping[str, str] | None = None, within_s: float = 50.0
) -> tuple[int, str]:
    """Run Python, warnings as errors, in ``directory``, which is importable; returns its exit code and output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=directory, env={**os.environ, "PYTHONPATH": f"{directory}:{ROOT}", **(env or {})},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=within_s, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def manage(
    *arguments: str, settings: str, directory: Path = ROOT, env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """``manage.py`` of a project with these settings."""
    return python("-m", "django", *arguments, f"--settings={settings}", directory=directory, env=env)


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write a project; packages get their ``__init__.py``."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.parent != directory:
            (path.parent / "__init__.py").touch()
