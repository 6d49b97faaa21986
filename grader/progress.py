"""What a learner has done, one small file per exercise under work/.course: no file has two writers at once."""

import ast
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grader.lessons import ROOT
from solutions.files import write_whole

if TYPE_CHECKING:                       # judge loads torch, which `course start` and `course status` do without
    from grader.judge import Judgement

WORK = ROOT / "work"
KINDS = {"seed": int, "source": str, "earned": int | float, "written": bool, "statuses": dict, "hints": int,
         "solution_shown": bool, "unlocked": bool, "content": str}


def folder_here() -> Path | None:
    """Where progress is kept, when the caller works inside work/; None elsewhere, as where a class is graded."""
    here = Path.cwd()
    return records(WORK) if here == WORK or WORK in here.parents else None


def records(work: Path) -> Path:
    return work / ".course"


def load(folder: Path, name: str) -> dict[str, Any]:
    """The record of this name, without what is damaged in it; empty when there is none."""
    try:
        record = json.loads((folder / f"{name}.json").read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    kept = record.items() if isinstance(record, dict) else ()
    return {key: value for key, value in kept if isinstance(value, KINDS.get(key, object))}


def save(folder: Path, name: str, **changes: Any) -> None:
    """Update a record. Raises OSError when the folder cannot be written."""
    write_whole(folder / f"{name}.json", json.dumps(load(folder, name) | changes, indent=1) + "\n")


def save_judgement(folder: Path, judgement: "Judgement", source: str | None) -> None:
    """Keep what a check of the learner's own definition found."""
    exercise = judgement.exercise
    save(folder, exercise.identity, seed=judgement.seed, source=definition_hash(source, exercise.name),
         earned=judgement.earned, written=not judgement.unwritten,
         statuses={verdict.title: verdict.status for verdict in judgement.verdicts})


def definition_hash(source: str | None, name: str) -> str:
    """A hash of the definition of this name in a cell; comments, blank lines and docstrings do not count.

    Where the cell has no such definition, or is not Python, the whole text counts.
    """
    try:
        tree = ast.parse(source or "")
    except SyntaxError:
        return hashlib.sha256(source.encode(errors="replace")).hexdigest()[:16]
    own = [node for node in tree.body if getattr(node, "name", None) == name]
    tree = ast.Module(own[-1:], []) if own else tree
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]
