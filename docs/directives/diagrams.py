"""``{diagram}``: drawn from the code's own tables when the site is built, by Graphviz, as SVG inside the page.

``modules``   who imports whom, from the imports themselves
``inbox``     the places an id can be in, from what the Lua scripts do with their keys
``backfill``  the statuses of a backfill, and ``chunk`` those of a chunk, from the tables that their models enforce
"""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.resources import files
from typing import Final

import grimp
import pygraphviz
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import workflows_tasks
from docs.directives import states

Edge = tuple[str, str, str]
"""(from, to, label)."""

STYLE: Final = """
    graph [bgcolor=transparent, nodesep=0.25, ranksep=0.45]
    node [shape=box, style=rounded, fontname="sans-serif", fontsize=11, height=0.35, margin="0.14,0.06"]
    edge [fontname="sans-serif", fontsize=10, arrowsize=0.7]
"""

ID_PLACES: Final = {"pending", "claim", "aside"}
"""Keys of the inbox that hold ids; the others hold markers and numbers."""

GAINS: Final = {"ZADD", "HSET", "ZUNIONSTORE"}
LOSES: Final = {"ZREM", "DEL", "UNLINK"}


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


def graph(edges: Iterable[Edge], notes: Mapping[str, str], *, direction: str) -> str:
    """DOT source; ``notes`` are the tooltips of the boxes."""
    boxes = [f"{_quoted(name)} [tooltip={_quoted(note)}]" for name, note in notes.items()]
    arrows = [f"{_quoted(start)} -> {_quoted(end)} [label={_quoted(label)}]" for start, end, label in edges]
    return "\n".join(["strict digraph {", f"rankdir={direction}", STYLE, *boxes, *arrows, "}"])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', r"\"")
    return f'"{escaped}"'


def modules() -> str:
    """The modules that the package's docstring lists, and those that ``tasks`` runs, with their imports."""
    pipeline = re.findall(r"^    (\w+) ", inspect.cleandoc(workflows_tasks.__doc__ or ""), re.MULTILINE)
    shown = [*pipeline, "repair", "truth", "sql"]
    imports = grimp.build_graph("workflows_tasks", cache_dir=None)
    edges = [
        (module, imported, "")
        for module in shown
        for imported in shown
        if module != imported
        and imports.direct_import_exists(importer=_full(module), imported=_full(imported), as_packages=True)
    ]
    return graph(edges, {name: _first_line(_full(name)) for name in shown}, direction="TB")


def _full(module: str) -> str:
    return f"workflows_tasks.{module}"


def _first_line(module: str) -> str:
    return inspect.cleandoc(import_module(module).__doc__ or "").splitlines()[0]


def inbox() -> str:
    """Where an id can be, and the script that takes it from one place to the next."""
    edges = [edge for script in scripts() for edge in moves(script)]
    return graph(edges, {}, direction="LR")


def scripts() -> dict[str, str]:
    """Name -> text of each Lua script."""
    found = (files("workflows_tasks.inbox") / "scripts").iterdir()
    return {each.name.removesuffix(".lua"): each.read_text() for each in found if each.name.endswith(".lua")}


def moves(script: str) -> Iterator[Edge]:
    """What one script does with ids. Taken from nowhere they are announced; put nowhere they are written."""
    gained: list[str] = []
    lost: list[str] = []
    text = scripts()[script]
    for command, rest in re.findall(r"redis\.call\('(\w+)', ([^)]*)", text):
        places = [place for key in _keys(rest) if (place := _key_names(text).get(key)) in ID_PLACES]
        if command == "RENAME":
            lost, gained = [*lost, places[0]], [*gained, places[1]]
        elif command in GAINS:
            gained += places[:1]
        elif command in LOSES:
            lost += places[:1]
    for start, end in zip(lost, gained, strict=False):
        yield start, end, script
    for end in gained[len(lost) :]:
        yield "announced", end, script
    for start in lost[len(gained) :]:
        yield start, "written", script


def _keys(arguments: str) -> list[str]:
    return re.findall(r"KEYS\[\d\]|\bclaim\b", arguments)


def _key_names(text: str) -> dict[str, str]:
    """``KEYS[1]`` -> its name, from the comment that opens each script."""
    named = re.findall(r"^-- (KEYS\[\d)(?:\.\.\.)?\] (\w+)", text, re.MULTILINE)
    return {**{f"{key}]": name for key, name in named}, "claim": "claim"}


def machine(name: str) -> str:
    """A state machine; what a status means is its tooltip."""
    means, edges = states.MACHINES[name]
    return graph([(edge.source, edge.target, "") for edge in edges], dict(means), direction="LR")


DIAGRAMS: Final[dict[str, Callable[[], str]]] = {
    "modules": modules,
    "inbox": inbox,
    **{name: partial(machine, name) for name in states.MACHINES},
}
