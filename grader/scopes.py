"""Which names a piece of Python looks up outside itself, and which it binds: found from its text, nothing is run."""

import ast
import builtins
from collections.abc import Iterable, Iterator
from typing import NamedTuple

ALWAYS = frozenset(dir(builtins)) | {"display", "get_ipython"}      # IPython gives every notebook these two

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Lookup(NamedTuple):
    """A name that is looked up, on which line, and whether at once or only when a function is called."""

    name: str
    line: int
    at_once: bool


def missing(tree: ast.Module, earlier: Iterable[str]) -> list[Lookup]:
    """The names that code looks up and nobody has bound, each once, in order.

    earlier  names bound by what runs before; builtins need not be named

    Annotations, default values, decorators and class bodies are looked up where they stand, so a name must be bound
    above them. What a function's body looks up may be bound anywhere in this code, as it runs later.
    """
    before = ALWAYS.union(earlier)
    after = before | bound(tree.body)
    found: dict[str, Lookup] = {}
    for lookup in _unbound(tree.body, before):
        if lookup.at_once or lookup.name not in after:
            found.setdefault(lookup.name, lookup)
    return sorted(found.values(), key=lambda lookup: lookup.line)


def bound(statements: Iterable[ast.AST]) -> set[str]:
    """The names that statements bind in the scope they stand in: not inside their functions and classes."""
    names: set[str] = set()
    for node in _same_scope(statements):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {alias.asname or alias.name.partition(".")[0] for alias in aliases}
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.add(name)
            case ast.MatchMapping(rest=str(name)):
                names.add(name)
        if isinstance(node, _COMPREHENSIONS):           # its targets are its own, but := in it binds outside
            names |= {inner.target.id for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr)}
    return names


def _same_scope(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Nodes and all they hold, without entering what has a scope of its own."""
    for node in nodes:
        yield node
        if not isinstance(node, (*_FUNCTIONS, *_COMPREHENSIONS, ast.ClassDef)):
            yield from _same_scope(ast.iter_child_nodes(node))


def _unbound(statements: Iterable[ast.stmt], before: Iterable[str]) -> Iterator[Lookup]:
    """What statements that run one after the other look up, less what was bound by then."""
    known = set(before)
    for statement in statements:
        own = bound([statement])
        # inside a loop or a with statement the order is its own affair; a definition or an assignment needs its
        # right side first
        simple = isinstance(statement, (*_DEFINITIONS, ast.Assign, ast.AnnAssign, ast.AugAssign))
        visible = known if simple else known | own
        for lookup in _lookups(statement):
            if not (lookup.at_once and lookup.name in visible):
                yield lookup
        known |= own


def _lookups(node: ast.AST) -> Iterator[Lookup]:
    """Every name that a node looks up in the scope it stands in or further out."""
    match node:
        case ast.Name(id=name, ctx=ast.Load()):
            yield Lookup(name, node.lineno, True)
        case ast.AugAssign(target=ast.Name(id=name)):
            yield Lookup(name, node.lineno, True)
            yield from _lookups(node.value)
        case ast.ClassDef():
            for outer in (*node.decorator_list, *node.bases, *node.keywords):
                yield from _lookups(outer)
            yield from _unbound(node.body, {"__module__", "__qualname__"})
        case _ if isinstance(node, _FUNCTIONS):
            yield from _lookups_of_function(node)
        case _ if isinstance(node, _COMPREHENSIONS):
            own = bound(generator.target for generator in node.generators)
            for child in ast.iter_child_nodes(node):
                yield from (lookup for lookup in _lookups(child) if lookup.name not in own)
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _lookups(child)


def _lookups_of_function(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Iterator[Lookup]:
    arguments = node.args
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs,
                  *filter(None, (arguments.vararg, arguments.kwarg))]
    outer = [*arguments.defaults, *filter(None, arguments.kw_defaults)]
    body = [node.body]
    if not isinstance(node, ast.Lambda):
        body = node.body
        outer += node.decorator_list + [each.annotation for each in parameters if each.annotation]
        outer += [node.returns] if node.returns else []
    for each in outer:
        yield from _lookups(each)
    elsewhere = {name for each in _same_scope(body) if isinstance(each, ast.Global | ast.Nonlocal)
                 for name in each.names}
    own = {parameter.arg for parameter in parameters} | bound(body) - elsewhere | {"__class__"}
    for inner in body:
        for lookup in _lookups(inner):
            if lookup.name not in own:
                yield lookup._replace(at_once=False)
