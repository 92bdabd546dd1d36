"""Commands whose texts are taken as they are: typer would import pydantic, as slow as all of typer, to look at them."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption


class _Text(TyperOption):
    """An option that is a text, or was not given."""

    def process_value(self, ctx: Any, value: Any) -> Any:
        """There is nothing to convert, unless it is a list or a number."""
        plain = value is None or isinstance(value, str) or (self.multiple and not value)
        return value if plain and not self.required else super().process_value(ctx, value)


class Command(TyperCommand):
    """A command with such options."""

    def get_params(self, ctx: Any) -> Any:
        """Its options, and --help."""
        return _as_they_are(super().get_params(ctx))


class Group(TyperGroup):
    """A group with such options."""

    def get_params(self, ctx: Any) -> Any:
        """Its options, and --help."""
        return _as_they_are(super().get_params(ctx))


def _as_they_are(params: Any) -> Any:
    """typer makes its options itself and can be given no other class for them."""
    for param in params:
        if type(param) is TyperOption:
            param.__class__ = _Text
    return params
