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


def folder_here() -> Path | None:
    """Where progress is kept, when the caller works inside work/; None elsewhere, as where a class is graded."""
    here = Path.cwd()
    return records(WORK) if here == WORK or WORK in here.parents else None


def records(work: Path) -> Path:
    return work / ".course"


def load(folder: Path, name: str) -> dict[str, Any]:
    """The record of this name, empty when there is none or it is damaged."""
    try:
        record = json.loads((folder / f"{name}.json").read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def save(folder: Path, name: str, **changes: Any) -> None:
    """Update a record. Raises OSError when the folder cannot be written."""
    write_whole(folder / f"{name}.json", json.dumps(load(folder, name) | changes, indent=1) + "\n")


def save_judgement(folder: Path, judgement: "Judgement", source: str | None) -> None:
    """Keep what a check of the learner's own definition found."""
    save(folder, judgement.exercise.identity, seed=judgement.seed, source=definition_hash(source),
         earned=judgement.earned, written=not judgement.unwritten,
         statuses={verdict.title: verdict.status for verdict in judgement.verdicts})


def definition_hash(source: str | None) -> str | None:
    """The same for two definitions that differ in comments, blank lines or docstring only."""
    if source is None:
        return None
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return hashlib.sha256(source.encode()).hexdigest()[:16]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]
