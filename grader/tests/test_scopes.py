"""Names that code looks up and nobody binds: told as Python itself would find out."""

import ast
import textwrap

import pytest

from grader import scopes

MISSING = [
    # code, names bound earlier, what is missing
    ("x", "", "x"),
    ("x", "x", ""),
    ("len([])", "", ""),
    ("x = x + 1", "", "x"),
    ("x += 1", "", "x"),
    ("x = 1\ny = x", "", ""),
    ("y = x\nx = 1", "", "x"),
    ("import a.b, c.d as e\na, e, c", "", "c"),
    ("from a import b as c\nb, c", "", "b"),
    ("def f(a, /, b, *c, d, **e): return a, b, c, d, e, g", "", "g"),
    ("def f(): return g\ndef g(): return f", "", ""),
    ("def f(a: A = B, *, c: C = D) -> E: ...", "", "A B C D E"),
    ("def f() -> f: ...", "", "f"),
    ("@d(z)\ndef f(): ...", "d", "z"),
    ("lambda a, b=c: a + b + e", "", "c e"),
    ("class A(B, metaclass=M):\n    x: T = V\n    y = x", "", "B M T V"),
    ("class A:\n    x = 1\n    def f(self): return x", "", "x"),
    ("class A:\n    def f(self) -> A: return A", "", "A"),
    ("class A:\n    def f(self): return A, super(), __class__", "", ""),
    ("[a for a in b if c]", "b", "c"),
    ("[a for a in [1]]\na", "", "a"),
    ("{k: v for k, v in w}", "w", ""),
    ("[last := a for a in b]\nlast", "b", ""),
    ("for i, (j, *k) in w: i, j, k, l", "w", "l"),
    ("with a as b: b", "a", ""),
    ("try: ...\nexcept E as e: e, f", "E", "f"),
    ("def f():\n    global g\n    g = 1", "", ""),
    ("def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n    return n, g", "", ""),
    ("def f():\n    def g(): return h\n    return g", "", "h"),
    ("match a:\n    case {'b': b, **c}: b, c\n    case [d, *e]: d, e\n    case F(g=1) as h: h, i", "a", "F i"),
    ("f'{a:{b}} {c!r}'", "a", "b c"),
    ("a.b = a.c", "", "a"),
    ("x: int = 1\nx", "", ""),
    ("display(get_ipython(), __name__)", "", ""),
]


@pytest.mark.parametrize(("code", "earlier", "expected"), MISSING)
def test_missing_names(code, earlier, expected):
    assert {lookup.name for lookup in scopes.missing(ast.parse(code), earlier.split())} == set(expected.split())


@pytest.mark.parametrize(("code", "earlier", "expected"), [case for case in MISSING if "match" not in case[0]])
def test_python_agrees(code, earlier, expected):
    """What is missing is a global that the compiled code asks for; with all of them bound, nothing is."""
    names = set(expected.split())
    assert names <= asked_for(compile(code, "cell", "exec"))
    assert scopes.missing(ast.parse(code), [*earlier.split(), *names]) == []


def asked_for(code) -> set[str]:
    return set(code.co_names).union(*(asked_for(inner) for inner in code.co_consts if hasattr(inner, "co_names")))


def test_each_name_once_with_its_first_line():
    tree = ast.parse(textwrap.dedent("""
        y = 1
        def f():
            return later
        later(y)
        early
    """))
    assert scopes.missing(tree, []) == [("later", 4), ("early", 6)]


def test_a_name_that_a_function_uses_may_be_bound_after_it_but_not_one_that_is_used_at_once():
    assert scopes.missing(ast.parse("def f(): return x\nx = 1"), []) == []
    assert scopes.missing(ast.parse("y = [x]\nx = 1"), []) == [("x", 1)]


def test_bound_names():
    code = "import a.b\nfrom c import d as e\nf, (g, *h) = 1, (2, 3)\nclass i:\n    j = 1\ndef k(l): m = 1\no: int = 1"
    assert scopes.bound(ast.parse(code)) == {"a", "e", "f", "g", "h", "i", "k", "o"}
