"""A learner's copies of the lessons in work/: laying them there, putting a cell back, reading what was written."""

import hashlib
import itertools
import json
import time
from pathlib import Path
from typing import Any

from grader import lessons, progress
from grader.lessons import Lesson
from grader.names import CourseError
from solutions.files import write_whole


def notebook_of(lesson: Lesson, work: Path = progress.WORK) -> Path:
    return work / lesson.notebook.name


def start(lesson: Lesson, work: Path = progress.WORK) -> str:
    """Copy a lesson to work/, never over a notebook that was changed. Returns one sentence on what was done.

    Raises OSError when work/ cannot be written; what is there is then untouched.
    """
    target, fresh = notebook_of(lesson, work), lesson.notebook.read_text(encoding="utf-8")
    here = _short(target)
    record = progress.load(progress.records(work), lesson.name)
    if not target.exists():
        _lay(lesson, target, fresh, work)
        return f"{here} is ready"
    try:
        present = lessons.read_notebook(target)
    except CourseError as error:
        beside = _beside(target, fresh)
        return f"{error}. It is left as it is; a fresh copy of the lesson is beside it: {_short(beside)}"
    if digest_of(present) == digest_of(json.loads(fresh)):
        return f"{here} is already there and is left as it is"
    if record.get("content") == content_hash(present):
        _lay(lesson, target, fresh, work)
        return f"{here} was untouched and is now the lesson's newer version"
    beside = _beside(target, fresh)
    return (f"{here} has your work and is left as it is; the lesson has changed since, and its newer version is "
            f"beside it: {_short(beside)}")


def reset(lesson: Lesson, exercise: str, work: Path = progress.WORK) -> str:
    """Put one exercise's cell back as the lesson has it, keeping a copy of the notebook from before.

    Raises CourseError when the notebook is not there or cannot be read.
    """
    path = notebook_of(lesson, work)
    notebook, original = read(path, lesson), json.loads(lesson.notebook.read_text(encoding="utf-8"))
    place = next(cell.index for cell in lessons.exercises(original) if cell.id == exercise)
    fresh = original["cells"][place]
    present = [cell.index for cell in lessons.exercises(notebook) if cell.id == exercise]
    backup = _free_name(progress.records(work) / "before-reset", f"{lesson.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    write_whole(backup, path.read_bytes())
    if present:
        notebook["cells"][present[0]] = fresh
        notebook["cells"] = [c for i, c in enumerate(notebook["cells"]) if i not in present[1:]]
    else:
        notebook["cells"].insert(_after_neighbours(notebook, original["cells"][:place]), fresh)
    write_whole(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    return f"{exercise} is back as the lesson has it in {_short(path)}; the notebook from before is {_short(backup)}"


def read(path: Path, lesson: Lesson | None = None) -> dict[str, Any]:
    """A learner's notebook. Raises CourseError with what is wrong and what to do."""
    again = f"course start {lesson.number}" if lesson else "course start"
    if not path.exists():
        raise CourseError(f"{_short(path)} does not exist yet: {again} puts the lesson there")
    try:
        notebook = lessons.read_notebook(path)
    except CourseError as error:
        raise CourseError(f"{error}. It is left as it is. JupyterLab may hold a good copy (File > Revert Notebook to "
                          f"Checkpoint); {again} lays a fresh one beside it") from None
    about = notebook["metadata"]
    language = _part(about, "kernelspec").get("language") or _part(about, "language_info").get("name") or "python"
    if str(language).lower() != "python":
        raise CourseError(f"{_short(path)} is a notebook in {language}; the course is in Python. In JupyterLab choose "
                          "Kernel > Change Kernel > Python 3 and save")
    if notebook.get("nbformat", 4) != 4:
        raise CourseError(f"{_short(path)} is in notebook format {notebook['nbformat']}; open it in JupyterLab and "
                          "save it, which makes it format 4")
    return notebook


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The code cells in order: name to be known by in messages, source, and the exercise's identity or None."""
    found = []
    for index, cell in enumerate(notebook["cells"], 1):
        if cell.get("cell_type") == "code":
            identity = _part(cell["metadata"], "exercise").get("id")
            identity = identity if isinstance(identity, str) else None
            found.append({"name": f"cell {identity or index}", "source": text_of(cell), "exercise": identity})
    return found


def text_of(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def content_hash(notebook: dict[str, Any]) -> str:
    """What the learner may have changed: the cells' kinds and sources, not their outputs."""
    content = [[cell.get("cell_type"), text_of(cell)] for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def digest_of(notebook: dict[str, Any]) -> str:
    """The version of the lesson a notebook was made from, empty when it does not say."""
    return str(_part(notebook["metadata"], "systematic").get("digest", ""))


def _part(metadata: dict[str, Any], name: str) -> dict[str, Any]:
    """A part of the metadata, empty where it is missing or not what it should be."""
    found = metadata.get(name)
    return found if isinstance(found, dict) else {}


def _free_name(folder: Path, stem: str) -> Path:
    """The first of stem.ipynb, stem-2.ipynb, ... that is not there yet."""
    names = (f"{stem}.ipynb" if count == 1 else f"{stem}-{count}.ipynb" for count in itertools.count(1))
    return next(folder / name for name in names if not (folder / name).exists())


def _lay(lesson: Lesson, target: Path, fresh: str, work: Path) -> None:
    write_whole(target, fresh)
    progress.save(progress.records(work), lesson.name, content=content_hash(json.loads(fresh)))


def _beside(target: Path, fresh: str) -> Path:
    beside = target.with_name(f"{target.stem}.{digest_of(json.loads(fresh))[:8]}.ipynb")
    if not beside.exists():
        write_whole(beside, fresh)
    return beside


def _after_neighbours(notebook: dict[str, Any], before: list[dict[str, Any]]) -> int:
    """The index right after the nearest of the lesson's earlier cells that the notebook still has."""
    ids = [cell.get("id") for cell in notebook["cells"]]
    return next((ids.index(cell["id"]) + 1 for cell in reversed(before) if cell["id"] in ids), len(ids))


def _short(path: Path) -> str:
    """The path as a person would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
