"""Finding lessons by name, and the exercise cells of a notebook. Standard library only: notebooks import it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from grader.names import CourseError, UnknownName, nearest

ROOT = Path(__file__).resolve().parents[1]


class UnreadableNotebook(CourseError, ValueError):
    """A file that should be a notebook and is not; the message says which and why."""


class Lesson(NamedTuple):
    """One lesson: number "01", slug "dnc", and the folder that holds its source and its notebook."""

    number: str
    slug: str
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.number}_{self.slug}"

    @property
    def source(self) -> Path:
        return self.folder / f"{self.name}.md"

    @property
    def notebook(self) -> Path:
        return self.folder / f"{self.name}.ipynb"


class ExerciseCell(NamedTuple):
    """One exercise of a notebook: its identity, what it is worth, and the index of its cell."""

    id: str
    points: float
    difficulty: int
    minutes: float
    index: int


def all_lessons(root: Path = ROOT) -> list[Lesson]:
    """Every lesson that has a source lessons/NN_slug.md, in the order of their numbers."""
    folder = Path(root) / "lessons"
    names = (re.fullmatch(r"(\d\d)_(\w+)", path.stem) for path in folder.glob("*.md"))
    return sorted(Lesson(match[1], match[2], folder) for match in names if match)


def find(text: str | Path, root: Path = ROOT) -> Lesson:
    """The lesson meant by "1", "01", "dnc", "01_dnc", or by the path of its source or of a notebook made from it.

    A notebook that exists is asked for its lesson, so a renamed copy is found too. Raises UnknownName with the
    nearest names.
    """
    lessons = all_lessons(root)
    wanted = _lesson_of(Path(text)) or re.sub(r"\.(ipynb|md)$", "", Path(text).name)
    for lesson in lessons:
        if wanted in (lesson.name, lesson.slug) or (wanted.isdecimal() and int(wanted) == int(lesson.number)):
            return lesson
    if not lessons:
        raise UnknownName(f"no lesson {str(text)!r}: there is none in {Path(root) / 'lessons'}")
    known = [lesson.name if wanted[:1].isdecimal() else lesson.slug for lesson in lessons]
    raise UnknownName(nearest("lesson", wanted, known))


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook file as plain dictionaries. Raises UnreadableNotebook, which says what is wrong with it."""
    try:
        notebook = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableNotebook(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UnreadableNotebook(f"{path} is not a notebook, its JSON is broken or cut short: {error}") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise UnreadableNotebook(f"{path} is not a notebook: it has no list of cells")
    for part in [notebook, *cells]:                     # other programs write null, or leave it out
        if not isinstance(part.get("metadata"), dict):
            part["metadata"] = {}
    return notebook


def exercises(notebook: Path | str | Mapping[str, Any]) -> list[ExerciseCell]:
    """The exercise cells of a notebook, a path or its content, in order; a copied cell appears twice.

    Raises UnreadableNotebook when the path is not a notebook.
    """
    content = notebook if isinstance(notebook, Mapping) else read_notebook(Path(notebook))
    found = []
    for index, cell in enumerate(content["cells"]):
        about = cell.get("metadata", {}).get("exercise")
        if isinstance(about, Mapping) and isinstance(about.get("id"), str):
            found.append(ExerciseCell(about["id"], about.get("points", 0), about.get("difficulty", 1),
                                      about.get("minutes", 0), index))
    return found


def _lesson_of(path: Path) -> str | None:
    """The lesson that a notebook file says it is, or None."""
    if path.suffix != ".ipynb" or not path.is_file():
        return None
    try:
        return read_notebook(path)["metadata"]["systematic"]["lesson"]
    except (UnreadableNotebook, KeyError, TypeError):
        return None
