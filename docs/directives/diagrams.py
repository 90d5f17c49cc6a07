"""``{diagram}``: drawn from the code's own tables when the site is built, by Graphviz, as SVG inside the page.

``flow``      how the data flows
``modules``   who imports whom, from the imports themselves
``backfill``  the statuses of a backfill, and ``chunk`` those of a chunk, from the tables that their models enforce
"""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final

import grimp
import pygraphviz
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import workflows_tasks
from docs.directives import states
from workflows_tasks import recent_workflows, tasks
from workflows_tasks.capture import nudge
from workflows_tasks.conf import Settings
from workflows_tasks.models import CHANGES, WorkspaceRecentWorkflow

Edge = tuple[str, str, str]
"""(from, to, label)."""

STYLE: Final = """
    graph [bgcolor=transparent, nodesep=0.25, ranksep=0.45]
    node [shape=box, style=rounded, fontname="sans-serif", fontsize=11, height=0.35, margin="0.14,0.06"]
    edge [fontname="sans-serif", fontsize=10, arrowsize=0.7]
"""

ROOT: Final = Path(workflows_tasks.__file__).parent


class Diagram(SphinxDirective):
    """Its argument is the diagram's name; its content a sentence for whoever cannot see it."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        title = " ".join(self.content)
        drawn = draw(DIAGRAMS[self.arguments[0]]())
        figure = f'<figure class="diagram" role="img" aria-label="{html.escape(title)}">{drawn}</figure>'
        return [nodes.raw("", figure, format="html")]


def draw(dot: str) -> str:
    """SVG in the page's own colour, dark or light."""
    svg = pygraphviz.AGraph(string=dot).draw(format="svg", prog="dot").decode()
    svg = svg[svg.index("<svg") :]
    for colour, role in (("black", "currentColor"), ("white", "none")):
        svg = svg.replace(f'stroke="{colour}"', f'stroke="{role}"').replace(f'fill="{colour}"', f'fill="{role}"')
    svg = svg.replace("<text ", '<text fill="currentColor" ')
    svg = re.sub(r'<a xlink:title="(.*?)">', r"<g><title>\1</title>", svg).replace("</a>", "</g>")  # they lead nowhere
    return re.sub(r'<svg width="(\d+)pt" height="\d+pt"', r'<svg style="width:100%;max-width:\1pt;height:auto"', svg)


def graph(edges: Iterable[Edge], notes: Mapping[str, str], *, direction: str, straight: Iterable[str] = ()) -> str:
    """DOT source; ``notes`` are the tooltips of the boxes, ``straight`` are boxes in one line."""
    boxes = [f"{_quoted(name)} [tooltip={_quoted(note)}]" for name, note in notes.items()]
    in_line = [f"{_quoted(name)} [group=straight]" for name in straight]
    arrows = [f"{_quoted(start)} -> {_quoted(end)} [label={_label(text)}]" for start, end, text in edges]
    return "\n".join(["strict digraph {", f"rankdir={direction}", STYLE, *boxes, *in_line, *arrows, "}"])


def _label(text: str) -> str:
    """Lines that begin beside their arrow, not across it."""
    return '"' + "".join(rf"  {line}\l" for line in text.splitlines()) + '"'


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', r"\"")
    return f'"{escaped}"'


def modules() -> str:
    """The modules of capture, projection, comparison and reading, with their imports."""
    shown = [*_under("capture"), *_under("projection"), *_under("comparison"), "reads", "tick", "tasks", "history"]
    imports = grimp.build_graph("workflows_tasks", cache_dir=None)
    edges = [
        (module, imported, "")
        for module in shown
        for imported in shown
        if module != imported
        and imports.direct_import_exists(importer=_full(module), imported=_full(imported), as_packages=True)
    ]
    return graph(edges, {name: _first_line(_full(name)) for name in shown}, direction="TB")


def _under(folder: str) -> list[str]:
    names = sorted(each.stem for each in (ROOT / folder).glob("*.py") if each.stem != "__init__")
    return [f"{folder}.{name}" for name in names]


def _full(module: str) -> str:
    return f"workflows_tasks.{module}"


def _first_line(module: str) -> str:
    return inspect.cleandoc(import_module(module).__doc__ or "").splitlines()[0]


def flow() -> str:
    """The way of the data: names come from the code's own tables and tasks, so that none can be outdated."""
    table, page = WorkspaceRecentWorkflow.__name__, f"{recent_workflows.__name__}()"
    flush, tick = (task.name.rpartition(".")[2] for task in (tasks.flush, tasks.tick))
    period_s = Settings.__dataclass_fields__["tick_period_s"].default
    way = ["any write", "change log", flush, table, page]
    steps = ["triggers, in the same\ntransaction", "takes changes,\nthen forgets them", "advances or\nrecomputes rows",
             "one range\nof an index"]  # fmt: skip
    asides = [
        (f"{Path(nudge.__file__).stem}, after a save\n{tick}, every {period_s:g} s", flush),
        ("backfill,\nonce, for history", table),
    ]
    edges = [*zip(way, way[1:], steps, strict=False), *((start, end, "") for start, end in asides)]
    notes = {"change log": f"The table {CHANGES}", table: inspect.cleandoc(WorkspaceRecentWorkflow.__doc__ or "")}
    return graph(edges, {name: note.splitlines()[0] for name, note in notes.items()}, direction="TB", straight=way)


def machine(name: str) -> str:
    """A state machine; what a status means is its tooltip."""
    means, edges = states.MACHINES[name]
    return graph([(edge.source, edge.target, "") for edge in edges], dict(means), direction="LR")


DIAGRAMS: Final[dict[str, Callable[[], str]]] = {
    "modules": modules,
    "flow": flow,
    **{name: partial(machine, name) for name in states.MACHINES},
}
