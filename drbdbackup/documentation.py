"""Where the documentation is on this node: the wheel carries it, and hints name its pages. Nothing here reads it."""

from __future__ import annotations

import os

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_CHECKOUT = os.path.dirname(_PACKAGE)
_SHARED = os.path.join("share", "doc", "drbdbackup")
_PLACES = (
    os.path.join(
        os.path.dirname(os.path.dirname(os.path.dirname(_CHECKOUT))), _SHARED
    ),  # PREFIX/lib/python3/*-packages
    os.path.join(_CHECKOUT, _SHARED),  # pip install --target
    _CHECKOUT,  # a checkout
)


def page(name: str) -> str:
    """The path of a page that is on this node; `name` as in the repository: README.md, docs/config.md."""
    paths = [os.path.join(place, name) for place in _PLACES]
    return next((path for path in paths if os.path.exists(path)), name)
