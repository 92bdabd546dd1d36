"""Plots of what was measured, as SVG for a page: pygal draws, and what the page does not want is taken out.

No script, no style and no font comes with a plot: its colours are those of the page's own style sheet, for both
schemes. Each has a text alternative; the page has the figures as a table beside it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence

from msgspec import Struct
from pygal import Bar
from pygal.etree import etree

_WIDTH, _HEIGHT = 380, 210
_LABELS = 4
etree.to_etree()  # the same elements, whether or not lxml is installed


class Point(Struct, frozen=True):
    """What was measured at a time; None where it was not."""

    label: str
    value: float | None


def bars(title: str, points: Sequence[Point], shown: Callable[[float], str], ident: str) -> str:
    """An `<svg>` element: a bar for each point, from zero. `ident` is its name in the page."""
    chart = Bar(
        width=_WIDTH, height=_HEIGHT, margin=6, margin_right=34, spacing=4, js=[], css=[], disable_xml_declaration=True,
        show_legend=False, value_formatter=shown, x_labels=[one.label for one in points], show_minor_x_labels=False,
        x_labels_major_count=min(_LABELS, len(points)) or None, truncate_label=-1, min_scale=3, max_scale=5,
    )  # fmt: skip
    chart.add("", [one.value for one in points])
    return _bare(chart.render_tree(), title, ident)


def _bare(root: ET.Element, title: str, ident: str) -> str:
    """Without scripts, styles, comments and what only pygal's script looks at; with a name, and a word at each bar."""
    for parent in list(root.iter()):
        for child in list(parent):
            if not isinstance(child.tag, str) or _is_needless(child):
                parent.remove(child)
        parent.attrib.pop("style", None)
    for bar in [one for one in root.iter() if one.get("class") == "bar"]:
        texts = {child.get("class"): child.text or "" for child in bar if child.tag == "desc"}
        for child in [one for one in bar if one.tag == "desc"]:
            bar.remove(child)
        ET.SubElement(bar, "title").text = f"{texts.get('x_label', '')}: {texts.get('value', '')}"
    for child in [one for one in root if one.tag == "title"]:
        root.remove(child)
    named = ET.Element("title", {"id": f"{ident}-title"})
    named.text = title
    root.insert(0, named)
    root.attrib.update({"id": ident, "role": "img", "aria-labelledby": f"{ident}-title"})
    return ET.tostring(root, encoding="unicode")


def _is_needless(element: ET.Element) -> bool:
    overlay = any(word in element.get("class", "") for word in ("overlay", "titles", "legends"))
    return overlay or element.tag in ("defs", "script", "style")
