"""The site's links lead somewhere, and it says all that the code has."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import workflows_tasks
from docs.directives import commands, diagrams, metrics
from docs.directives.written import anchor
from tests.commands import ROOT
from tests.docs.pages import DOCS
from workflows_tasks import conf

pytestmark = pytest.mark.host_independent

CHECK_ID = re.compile(r"\b(?:recent_workflows|backfill)\.[EW]\d{3}\b")
NUMBERED = re.compile(r"\b(?:_error|_field|_foreign_key)\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*?\b(1\d),?\s*\)")
"""``host`` makes its ids of numbers."""

MOST_WORDS = 40


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


@pytest.fixture(scope="module")
def site() -> dict[str, Html]:
    """What ``make docs`` has just built, by the page's path."""
    built = ROOT / "build/docs"
    return {str(path.relative_to(built)): Html(path.read_text()) for path in built.rglob("*.html")}


def test_no_link_is_dead_and_nothing_is_loaded_from_another_site(site: dict[str, Html]) -> None:
    for name, page in site.items():
        assert not [url for url in page.loaded if urlsplit(url).netloc], name
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = str((Path("/") / name).parent.joinpath(unquote(parts.path)).resolve())[1:] if parts.path else name
            if target.endswith(".html"):
                assert target in site, f"{name}: {link}"
                assert not parts.fragment or unquote(parts.fragment) in site[target].ids, f"{name}: {link}"
            else:
                assert target.startswith(("_downloads/", "_sources/")), f"{name}: {link}"


def test_links_lead_somewhere_in_the_repository_too() -> None:
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose):
            assert urlsplit(target).scheme or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_setting_metric_and_alert_has_its_entry(site: dict[str, Html]) -> None:
    assert {anchor("setting", name) for name in conf.Settings.__dataclass_fields__} <= site[
        "reference/settings.html"
    ].ids
    ids = site["reference/metrics.html"].ids
    assert {anchor("metric", metric.name) for metric in metrics.exposed()} <= ids
    assert {anchor("alert", rule["alert"]) for rule in metrics.alerts()} <= ids


@pytest.mark.parametrize("command", ["recent_workflows", "backfill"])
def test_every_command_has_its_entry_and_says_what_it_does(site: dict[str, Html], command: str) -> None:
    actions = commands.actions(command)
    assert {anchor(command, action.name) for action in actions} <= site["reference/commands.html"].ids
    assert all(action.meaning and all(each.help for each in action.arguments) for action in actions)


def test_every_check_has_its_entry_and_every_entry_its_check() -> None:
    sources = [path.read_text() for app in ("workflows_tasks", "backfill") for path in (ROOT / app).rglob("*.py")]
    ids = {match for source in sources for match in CHECK_ID.findall(source)}
    ids |= {f"recent_workflows.E0{n}" for n in NUMBERED.findall((ROOT / "workflows_tasks/host.py").read_text())}
    assert set(CHECK_ID.findall((DOCS / "reference/checks.md").read_text())) == ids
    assert len(ids) > 20


def test_every_public_name_has_its_entry(site: dict[str, Html]) -> None:
    assert {f"workflows_tasks.{name}" for name in workflows_tasks.__all__} <= site["reference/api.html"].ids
    # A submodule of the same name would take the name's place as soon as somebody imports it.
    assert not [name for name in workflows_tasks.__all__ if (ROOT / "workflows_tasks" / f"{name}.py").exists()]


def test_the_diagrams_are_drawn() -> None:
    assert all("<svg" in diagrams.draw(make()) for make in diagrams.DIAGRAMS.values())


def test_the_glossary_is_short() -> None:
    words = re.findall(r"^(\w.*)\n  \w", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    assert 0 < len(words) <= MOST_WORDS
    assert words == sorted(words)
