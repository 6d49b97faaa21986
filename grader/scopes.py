"""Which names a piece of Python looks up outside itself, and which it binds: pyflakes reads it, nothing is run."""

import ast
from collections.abc import Iterable
from typing import NamedTuple

from pyflakes.checker import Checker, ModuleScope
from pyflakes.messages import UndefinedLocal, UndefinedName

ALWAYS = {"display", "get_ipython"}     # IPython gives every notebook these two


class Lookup(NamedTuple):
    """A name that is looked up, and on which line."""

    name: str
    line: int


def missing(tree: ast.Module, earlier: Iterable[str]) -> list[Lookup]:
    """The names that code looks up and nobody has bound, each once, in order.

    earlier  names bound by what runs before; builtins need not be named
    """
    found: dict[str, Lookup] = {}
    for message in sorted(_read(tree, earlier).messages, key=lambda message: message.lineno):
        if isinstance(message, UndefinedName | UndefinedLocal):
            name = message.message_args[0]
            found.setdefault(name, Lookup(name, message.lineno))
    return list(found.values())


def bound(tree: ast.Module) -> set[str]:
    """The names that code binds in its own scope: not inside its functions and classes."""
    scope = next(scope for scope in _read(tree, ()).deadScopes if isinstance(scope, ModuleScope))
    own = {name for name, binding in scope.items() if binding.source is not None}
    return {name.partition(".")[0] for name in own}


def _read(tree: ast.Module, earlier: Iterable[str]) -> Checker:
    return Checker(tree, builtins=ALWAYS.union(earlier))
