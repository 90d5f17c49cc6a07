"""A project that installs the package as its documentation says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import manage, python, write_files

pytestmark = pytest.mark.host_independent

PROJECT = {
    "proj/__init__.py": "from proj.celery import app\n\n__all__ = ['app']\n",
    "proj/celery.py": """
import os
from celery import Celery
from workflows_tasks.queues import configure

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
app = Celery("proj")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
configure(app)
""",
    "proj/settings.py": """
from tests.hosts.library.settings import *

CELERY_BROKER_URL = "amqp://guest@localhost//"
""",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_files(tmp_path, PROJECT)
    return tmp_path


def test_its_threads_send_to_its_own_broker(project: Path) -> None:
    """Celery's current app is a thread's own; a web server's threads must not send to the default one."""
    show = """
import django, threading
django.setup()
from celery import current_app
threading.Thread(target=lambda: print(current_app.main)).start()
"""
    code, output = python("-c", show, directory=project, env={"DJANGO_SETTINGS_MODULE": "proj.settings"})
    assert (code, output) == (0, "proj\n")


def test_without_the_helper_its_checks_say_what_is_missing(project: Path) -> None:
    (project / "proj/__init__.py").write_text("")
    code, output = manage("check", "--fail-level=WARNING", settings="proj.settings", directory=project)
    assert code == 1
    assert "recent_workflows.W002" in output


def test_models_may_import_the_public_names(project: Path) -> None:
    """They are imported before Django's apps are ready."""
    write_files(project, {"early/models.py": "from workflows_tasks import recent_workflows, recheck\n"})
    with (project / "proj/settings.py").open("a") as settings:
        settings.write("INSTALLED_APPS = ['early', *INSTALLED_APPS]\n")
    code, output = manage("check", "--fail-level=WARNING", settings="proj.settings", directory=project)
    assert code == 0, output
