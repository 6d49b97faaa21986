"""One list of dependencies, one direction of imports, and nothing lying about."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from grader.bootstrap import ROOT

PACKAGES = ("solutions", "kernels", "grader")
TOP = {"lessons", *PACKAGES, "environment.yml", "pyproject.toml", "README.md", "LICENSE", "CITATION.cff"}
# what runs on a bare GPU machine, and inside the sandbox
BARE = ("solutions", "kernels", "grader/checks", "grader/judge", "grader/sandbox")
LIBRARIES = {"torch", "numpy", "scipy", "sklearn", "matplotlib", "numba"}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


# dependencies -----------------------------------------------------------------------------------------------------

def test_conda_wraps_pyproject_and_lists_nothing_itself():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment == {"name": "systematic", "channels": ["conda-forge"],
                           "dependencies": [f"python {PROJECT['requires-python']}", "pip", {"pip": ["-e ."]}]}


def test_torch_is_one_known_build():
    [torch] = [need for need in PROJECT["dependencies"] if re.match(r"torch\b", need)]
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", torch)


def test_numba_cuda_is_not_asked_of_macs():
    everywhere = [*PROJECT["dependencies"], *(need for extra in PROJECT["optional-dependencies"].values()
                                              for need in extra)]
    needs = [need for need in everywhere if need.startswith("numba-cuda")]
    assert needs
    assert all(need.endswith("; sys_platform != 'darwin'") for need in needs)


def test_citation_and_licences_agree_with_pyproject():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == [PROJECT["license"], "CC-BY-4.0"]
    assert citation["authors"] == PROJECT["authors"]
    for name, words in {"LICENSE": "MIT License", "lessons/LICENSE": "creativecommons.org/licenses/by/4.0"}.items():
        assert name in PROJECT["license-files"]
        assert words in (ROOT / name).read_text()
        assert f"Copyright (c) 2026 {PROJECT['authors'][0]['name']}" in (ROOT / name).read_text()


def test_continuous_integration_runs_the_readme_s_command():
    run = (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert run.splitlines()[-2:] == ["export COURSE_REQUIRE=sandbox,browser", "python3 -m grader test"]
    [job] = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}


@pytest.mark.parametrize("code", [0, 3])
def test_continuous_integration_fails_when_the_tests_do(tmp_path, code):
    # everything that .ci/run could want to install is there, so that this test installs nothing
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("chromium", "bwrap", "dpkg", "apt-get", "sudo"):
        (tools / name).write_text(f"#!/bin/sh\n[ {name} != apt-get ]\n")
    (tools / "python3").write_text(f'#!/bin/sh\necho "$COURSE_REQUIRE: $*"\nexit {code}\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    done = subprocess.run([tmp_path / ".ci" / "run"], env={"PATH": f"{tools}:/usr/bin:/bin", "CI": "true"},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, "sandbox,browser: -m grader test\n", "")


# the house --------------------------------------------------------------------------------------------------------

def strangers(paths: list[str]) -> set[str]:
    """The names at the top of the repository that have no place there."""
    return {name for name in (path.split("/")[0] for path in paths) if name not in TOP and not name.startswith(".")}


def test_the_top_holds_only_what_belongs_there():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files are the repository's is not known")
    paths = _listed("--cached") or _listed("--others", "--exclude-standard")
    assert "pyproject.toml" in paths
    assert strangers(paths) == set()


def test_a_stranger_at_the_top_is_seen():
    assert strangers(["grader/cli.py", ".ci/run", "notes.txt", "work/x.ipynb"]) == {"notes.txt", "work"}


def _listed(*which: str) -> list[str]:
    listing = subprocess.run(["git", "ls-files", "-z", *which], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in listing.stdout.split("\0") if path]


# imports ----------------------------------------------------------------------------------------------------------

def modules(root: Path, place: str) -> Iterator[Path]:
    """The Python files of a package or module, without its tests."""
    if (root / f"{place}.py").is_file():
        yield root / f"{place}.py"
    for path in sorted((root / place).rglob("*.py")):
        if "tests" not in path.relative_to(root).parts:
            yield path


def imports(path: Path, root: Path, everywhere: bool = False) -> Iterator[str]:
    """The dotted names a file imports when it is imported itself, or anywhere in it."""
    package = path.relative_to(root).parent.parts
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else ()
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield source
            # `from grader import judge` imports a module too
            yield from (f"{source}.{alias.name}" for alias in node.names
                        if modules_of(root, f"{source}.{alias.name}"))
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def modules_of(root: Path, dotted: str) -> list[Path]:
    """The files that importing one of our own dotted names runs last: the module, or its package's __init__."""
    place = root.joinpath(*dotted.split("."))
    return [path for path in (place.with_name(f"{place.name}.py"), place / "__init__.py") if path.is_file()]


def too_heavy(root: Path) -> set[str]:
    """Imports, direct or through our own modules, that the bare parts of the course may not have."""
    waiting = [path for place in BARE for path in modules(root, place)]
    seen, found = set(waiting), set()
    while waiting:
        path = waiting.pop()
        for name in imports(path, root):
            first = name.split(".")[0]
            if first in PACKAGES:
                parts = name.split(".")
                own = {file for depth in range(1, len(parts) + 1) for file in modules_of(root, ".".join(parts[:depth]))}
                waiting.extend(own - seen)
                seen |= own
            elif first not in LIBRARIES and first not in sys.stdlib_module_names:
                found.add(f"{path.relative_to(root).as_posix()} imports {name}")
    return found


def backwards(root: Path) -> set[str]:
    """Imports against the direction grader -> solutions -> kernels, wherever in a file they stand."""
    against = {"solutions": {"grader"}, "kernels": {"grader", "solutions"}}
    return {f"{path.relative_to(root).as_posix()} imports {name}" for place, forbidden in against.items()
            for path in modules(root, place) for name in imports(path, root, everywhere=True)
            if name.split(".")[0] in forbidden}


def test_what_runs_anywhere_imports_only_what_is_everywhere():
    for place in BARE:
        assert list(modules(ROOT, place)), place
    assert too_heavy(ROOT) == set()


def test_imports_point_one_way():
    assert backwards(ROOT) == set()


@pytest.fixture
def house(tmp_path) -> Path:
    """A small house in which each kind of wrong import is made once."""
    for name, text in {
        "solutions/__init__.py": "",
        "solutions/dnc.py": "import math, torch.nn\nfrom solutions.tools import put\ndef f():\n    import safetensors",
        "solutions/tools.py": "try:\n    import typer\nfinally:\n    pass\nclass A:\n    from rich import print",
        "solutions/tests/test_it.py": "import pytest, grader",
        "kernels/__init__.py": "def f():\n    from solutions import dnc",
        "solutions/back.py": "def f():\n    import grader.judge",
        "grader/__init__.py": "",
        "grader/judge.py": "from . import report",
        "grader/report.py": "from grader.weave import weave",
        "grader/weave.py": "import jupytext",
        "grader/cli.py": "import typer",
        "grader/checks/dnc.py": "from ..judge import x\nimport numpy as np",
        "grader/sandbox/worker.py": "import nbformat.v4",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_heavy_import_is_found_at_any_distance(house):
    assert too_heavy(house) == {"solutions/tools.py imports typer", "solutions/tools.py imports rich",
                                "grader/weave.py imports jupytext", "grader/sandbox/worker.py imports nbformat.v4"}


def test_an_import_against_the_direction_is_found_inside_functions(house):
    assert backwards(house) == {"solutions/back.py imports grader.judge", "kernels/__init__.py imports solutions",
                                "kernels/__init__.py imports solutions.dnc"}
