"""What is built is complete, and has nothing that would do harm where it is installed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.commands import ROOT

pytestmark = pytest.mark.host_independent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that is built from it."""
    directory = tmp_path_factory.mktemp("dist")
    here = ["--no-isolation"] if find_spec("hatchling") else []  # otherwise it is fetched
    subprocess.run(
        [sys.executable, "-m", "build", *here, "--outdir", directory, ROOT],
        check=True, capture_output=True, timeout=110,
    )  # fmt: skip
    return directory


def source_files(package: str) -> set[str]:
    found = (path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(ROOT)) for path in found}


@pytest.mark.timeout(120)
def test_the_wheel(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(n).decode() for n in names if n.endswith("METADATA"))
    packages = {name for name in names if ".dist-info/" not in name}
    assert packages == source_files("workflows_tasks") | source_files("backfill")
    assert {"workflows_tasks/py.typed", "workflows_tasks/migrations/0001_initial.py"} <= packages
    assert "workflows_tasks/templates/admin/workflows_tasks/by_key.html" in packages
    assert "celeryconfig.py" not in names, "it would become the default configuration of every Celery program"
    assert "Requires-Python: >=3.10" in metadata
    assert any("licenses/LICENSE" in name for name in names)


@pytest.mark.timeout(120)
def test_the_source_distribution(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert source_files("workflows_tasks") <= names
    assert {"celeryconfig.py", "pyproject.toml", "README.md", "LICENSE", "Makefile"} <= names
    assert {"tests/conftest.py", "tests/__main__.py", "demo/servers.py", "requirements/dev.txt"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", ".demo"))]
