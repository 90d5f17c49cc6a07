"""The site builds without a warning, every link in it leads somewhere, and it loads nothing from anywhere else."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from django.core.management import get_commands

from docs.directives import commands, diagrams, metrics
from docs.directives.written import anchor
from tests.commands import ROOT
from tests.docs.pages import DOCS
from workflows_tasks import conf

CHECK_ID = re.compile(r"\b(?:recent_workflows|backfill)\.[EW]\d{3}\b")
NUMBERED = re.compile(r"_(?:error|field|foreign_key)\((?:[^()]|\([^()]*\))*?\b(1\d),?\s*\)")
"""``host`` makes its ids of numbers."""

COMMANDS = [name for name in ("recent_workflows", "backfill") if name in get_commands()]


class Html(HTMLParser):
    """The ids of a page, its links, and what a browser loads for it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.ids |= {value for name, value in given.items() if name in {"id", "name"}}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        elif tag in {"link", "script", "img", "iframe"}:
            self.loaded |= {value for name, value in given.items() if name in {"href", "src"}}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Html]:
    """What ``make docs`` builds: path below the site -> page."""
    built = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", DOCS, built],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {str(path.relative_to(built)): Html(path.read_text()) for path in built.rglob("*.html")}


pytestmark = pytest.mark.timeout(120)


def test_no_link_is_dead(site: dict[str, Html]) -> None:
    for name, page in site.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = str((Path("/") / name).parent.joinpath(unquote(parts.path)).resolve())[1:] if parts.path else name
            if not target.endswith(".html"):
                assert target.startswith(("_downloads/", "_sources/")), f"{name}: {link}"
                continue
            assert target in site, f"{name}: {link}"
            assert not parts.fragment or unquote(parts.fragment) in site[target].ids, f"{name}: {link}"


def test_nothing_is_loaded_from_elsewhere(site: dict[str, Html]) -> None:
    assert {url for page in site.values() for url in page.loaded if urlsplit(url).netloc} == set()


def test_links_between_the_pages_as_they_are_read_in_the_repository() -> None:
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        for target in re.findall(
            r"\]\(([^)#\s]+)(?:#[^)]*)?\)", re.sub(r"`[^`]*`|```.*?```", "", page.read_text(), flags=re.DOTALL)
        ):
            assert urlsplit(target).scheme or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_setting_has_its_entry(site: dict[str, Html]) -> None:
    wanted = {anchor("setting", name) for name in conf.Settings.__dataclass_fields__}
    assert wanted <= site["reference/settings.html"].ids


def test_every_metric_and_every_alert_has_its_entry(site: dict[str, Html]) -> None:
    ids = site["reference/metrics.html"].ids
    assert {anchor("metric", metric.name) for metric in metrics.exposed()} <= ids
    assert {anchor("alert", rule["alert"]) for rule in metrics.alerts()} <= ids


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_entry_and_says_what_it_does(site: dict[str, Html], command: str) -> None:
    actions = commands.actions(command)
    assert {anchor(command, action.name) for action in actions} <= site["reference/commands.html"].ids
    assert all(action.told and all(each.help for each in action.arguments) for action in actions)


def test_every_check_has_its_entry_and_every_entry_its_check() -> None:
    sources = [path for app in ("workflows_tasks", "backfill") for path in (ROOT / app).rglob("*.py")]
    found = {match for path in sources for match in CHECK_ID.findall(path.read_text())}
    found |= {f"recent_workflows.E0{n}" for n in NUMBERED.findall((ROOT / "workflows_tasks/host.py").read_text())}
    assert set(CHECK_ID.findall((DOCS / "reference/checks.md").read_text())) == found
    assert len(found) >= 19


def test_every_public_name_has_its_entry(site: dict[str, Html]) -> None:
    import backfill
    import workflows_tasks
    from backfill import runner, shadow
    from workflows_tasks import errors, health, operations, prometheus, querysets, queues, tasks

    ids = site["reference/api.html"].ids
    named = {f"{package.__name__}.{name}" for package in (workflows_tasks, backfill) for name in package.__all__}
    for module in (errors, health, operations, prometheus, querysets, queues, tasks, runner, shadow):
        for name, value in vars(module).items():
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__ and callable(value):
                named.add(f"{module.__name__}.{name}")
    assert named <= ids
    assert len(named) > 20


def test_the_diagrams_say_what_the_code_does() -> None:
    moves = {edge for script in diagrams.scripts() for edge in diagrams.moves(script)}
    assert moves == {
        ("announced", "pending", "add"),
        ("announced", "claim", "extend"),
        ("pending", "claim", "claim"),
        ("claim", "written", "acknowledge"),
        ("claim", "aside", "acknowledge"),
        ("claim", "pending", "release"),
        ("aside", "pending", "retry_aside"),
    }
    assert '"signals" -> "announcements"' in diagrams.modules()
    assert all("<svg" in diagrams.draw(make()) for make in diagrams.DIAGRAMS.values())
