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
from kombu import Queue
from tests.hosts.library.settings import *

CELERY_BROKER_URL = "amqp://guest@localhost//"
CELERY_TASK_SERIALIZER = "pickle"
CELERY_ACCEPT_CONTENT = ["pickle"]
CELERY_WORKER_MAX_TASKS_PER_CHILD = 1
CELERY_BEAT_SCHEDULE = {"nightly": {"task": "proj.nightly", "schedule": 86400}}
CELERY_TASK_QUEUES = [Queue("own")]
CELERY_TASK_ROUTES = {"proj.nightly": {"queue": "own"}}
""",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_files(tmp_path, PROJECT)
    return tmp_path


def test_its_checks_find_nothing(project: Path) -> None:
    code, output = manage("check", "--fail-level=WARNING", settings="proj.settings", directory=project)
    assert code == 0, output


def test_its_celery_app_has_both_its_own_and_ours(project: Path) -> None:
    show = """
from proj import app
app.loader.import_default_modules()
print(sorted(app.conf.beat_schedule), "workflows_tasks.tasks.flush" in app.tasks, app.conf.accept_content)
print([app.amqp.router.route({}, task)["queue"].name for task in ("proj.nightly", "workflows_tasks.tasks.flush")])
print(sorted(app.amqp.queues))
"""
    code, output = python("-c", show, directory=project, env={"DJANGO_SETTINGS_MODULE": "proj.settings"})
    assert code == 0, output
    assert "'nightly'" in output
    assert "'recent-workflows-tick'" in output
    assert "True ['pickle']" in output
    assert "['own', 'recent-workflows']\n['own', 'recent-workflows', 'recent-workflows-backfill']" in output


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
