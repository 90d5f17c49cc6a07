"""A directive whose content is written by the code, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


class Written(SphinxDirective):
    """Parses ``markdown()`` in the directive's place, as if it stood in the page."""

    def markdown(self) -> Iterable[str]:
        """The lines."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        found = nodes.Element()
        source = f"<{type(self).__name__}>"
        self.state.nested_parse(StringList(list(self.markdown()), source=source), self.content_offset, found)
        return list(found.children)


def entry(kind: str, name: str, title: str, *paragraphs: str) -> list[str]:
    """One entry of a reference: a term that can be linked to as ``{kind}-{name}``, and what it means."""
    first, *others = [" ".join(text.split()) for text in paragraphs if text]
    further = [line for text in others for line in ("", f"  {text}")]
    return [f"({anchor(kind, name)})=", title, f": {first}", *further, ""]


def anchor(kind: str, name: str) -> str:
    return f"{kind}-{name}".lower().replace("_", "-")
