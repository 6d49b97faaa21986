"""Lessons in work/: never over what was changed, one cell put back, every broken notebook told in a sentence."""

import json

import pytest

from grader import lessons, progress, status, workbook
from grader.names import CourseError

LESSON = next(lesson for lesson in lessons.all_lessons() if lesson.slug == "dnc")
RETENTION = "dnc-retention"


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


@pytest.fixture
def lesson(tmp_path):
    """A copy of lesson 01 whose published notebook a test may change."""
    folder = tmp_path / "lessons"
    folder.mkdir()
    copied = LESSON._replace(folder=folder)
    copied.notebook.write_bytes(LESSON.notebook.read_bytes())
    return copied


def edit(path, change):
    notebook = json.loads(path.read_text())
    change(notebook)
    path.write_text(json.dumps(notebook))


def cell_of(notebook, identity=RETENTION):
    return next(c for c in notebook["cells"] if c["metadata"].get("exercise", {}).get("id") == identity)


def solve(notebook):
    cell_of(notebook)["source"] = "def retention(free_gates, read_weights):\n    return 'mine'"


def publish_newer(lesson):
    def change(notebook):
        notebook["metadata"]["systematic"]["digest"] = "f00dfeed" * 8
        notebook["cells"][0]["source"] = "A newer lesson"
    edit(lesson.notebook, change)


def test_the_first_start_lays_the_lesson(lesson, work):
    assert workbook.start(lesson, work).endswith("01_dnc.ipynb is ready")
    assert workbook.notebook_of(lesson, work).read_bytes() == lesson.notebook.read_bytes()


def test_a_second_start_leaves_work_alone(lesson, work):
    workbook.start(lesson, work)
    edit(workbook.notebook_of(lesson, work), solve)
    before = workbook.notebook_of(lesson, work).read_bytes()
    assert "left as it is" in workbook.start(lesson, work)
    assert workbook.notebook_of(lesson, work).read_bytes() == before


def test_a_newer_lesson_replaces_a_notebook_only_run_and_not_changed(lesson, work):
    workbook.start(lesson, work)

    def run(notebook):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"], cell["execution_count"] = [{"output_type": "stream", "name": "stdout", "text": "x"}], 3
    edit(workbook.notebook_of(lesson, work), run)
    publish_newer(lesson)
    assert "was untouched" in workbook.start(lesson, work)
    assert workbook.notebook_of(lesson, work).read_bytes() == lesson.notebook.read_bytes()


def test_a_newer_lesson_is_laid_beside_work_and_said(lesson, work):
    workbook.start(lesson, work)
    edit(workbook.notebook_of(lesson, work), solve)
    before = workbook.notebook_of(lesson, work).read_bytes()
    publish_newer(lesson)
    said = workbook.start(lesson, work)
    assert "has your work" in said
    assert "01_dnc.f00dfeed.ipynb" in said
    assert workbook.notebook_of(lesson, work).read_bytes() == before
    assert (work / "01_dnc.f00dfeed.ipynb").read_bytes() == lesson.notebook.read_bytes()
    workbook.start(lesson, work)
    assert len(list(work.glob("*.ipynb"))) == 2


def test_two_resets_in_one_second_keep_two_backups(lesson, work, monkeypatch):
    monkeypatch.setattr(workbook.time, "strftime", lambda _: "20260101-000000")
    workbook.start(lesson, work)
    edit(workbook.notebook_of(lesson, work), solve)
    workbook.reset(lesson, RETENTION, work)
    workbook.reset(lesson, "dnc-write_memory", work)
    kept = [backup.read_text() for backup in (progress.records(work) / "before-reset").glob("*.ipynb")]
    assert len(kept) == 2
    assert sum("return 'mine'" in text for text in kept) == 1


@pytest.mark.parametrize("change", [
    lambda notebook: notebook.update(metadata=None),
    lambda notebook: notebook["metadata"].update(kernelspec=None, systematic=3),
    lambda notebook: [cell.update(metadata=None) for cell in notebook["cells"][::2]],
    lambda notebook: cell_of(notebook)["metadata"].update(exercise={"id": ["a"]}),
])
def test_odd_metadata_is_read_as_if_it_were_missing(change, lesson, work):
    workbook.start(lesson, work)
    edit(workbook.notebook_of(lesson, work), change)
    assert workbook.code_cells(workbook.read(workbook.notebook_of(lesson, work), lesson))
    assert status.states(lesson, work)
    workbook.reset(lesson, RETENTION, work)
    assert RETENTION in [cell.id for cell in lessons.exercises(workbook.notebook_of(lesson, work))]


def test_records_of_wrong_types_are_left_out(work, lesson):
    progress.records(work).mkdir(parents=True)
    (progress.records(work) / f"{RETENTION}.json").write_text(
        '{"earned": "x", "hints": "2", "written": true, "statuses": null, "unlocked": true}')
    assert progress.load(progress.records(work), RETENTION) == {"written": True, "unlocked": True}
    assert {s.exercise: s.state for s in status.states(lesson, work)}[RETENTION] == "unlocked"


def test_helpers_trials_and_magics_in_the_cell_do_not_make_it_stale():
    alone = "def retention(f, w):\n    return f * w"
    cell = f"import math\n\nHALF = 0.5\n\n\n{alone}\n\nretention(1, 2)"
    assert progress.definition_hash(alone, "retention") == progress.definition_hash(cell, "retention")
    other = alone.replace("*", "+")
    assert progress.definition_hash(other, "retention") != progress.definition_hash(cell, "retention")


def test_a_broken_notebook_is_kept_and_a_fresh_one_laid_beside(lesson, work):
    workbook.start(lesson, work)
    path = workbook.notebook_of(lesson, work)
    path.write_text(path.read_text()[:500])
    said = workbook.start(lesson, work)
    assert "cut short" in said
    assert "fresh copy" in said
    assert len(path.read_text()) == 500
    assert len(list(work.glob("01_dnc.*.ipynb"))) == 1


def test_reset_puts_one_cell_back_and_keeps_the_notebook_from_before(lesson, work):
    workbook.start(lesson, work)
    path = workbook.notebook_of(lesson, work)
    note = {"cell_type": "markdown", "metadata": {}, "source": "my note"}
    edit(path, solve)
    edit(path, lambda notebook: notebook["cells"].append(note))
    before = path.read_bytes()
    said = workbook.reset(lesson, RETENTION, work)
    notebook = json.loads(path.read_text())
    assert "NotImplementedError" in workbook.text_of(cell_of(notebook))
    assert notebook["cells"][-1]["source"] == "my note"
    backup = list((progress.records(work) / "before-reset").glob("*.ipynb"))
    assert [b.read_bytes() for b in backup] == [before]
    assert backup[0].name in said


def test_reset_puts_a_deleted_cell_where_it_was(lesson, work):
    workbook.start(lesson, work)
    path = workbook.notebook_of(lesson, work)
    original = json.loads(path.read_text())
    edit(path, lambda notebook: notebook["cells"].remove(cell_of(notebook)))
    workbook.reset(lesson, RETENTION, work)
    assert json.loads(path.read_text())["cells"] == original["cells"]


def test_reset_of_a_doubled_cell_leaves_one(lesson, work):
    workbook.start(lesson, work)
    path = workbook.notebook_of(lesson, work)
    edit(path, lambda notebook: notebook["cells"].append(dict(cell_of(notebook), id="another")))
    workbook.reset(lesson, RETENTION, work)
    assert [cell.id for cell in lessons.exercises(path)].count(RETENTION) == 1


@pytest.mark.parametrize(("content", "sentence"), [
    ("{", "cut short"), ("[]", "no list of cells"), ("", "cut short"), ('{"cells": 3}', "no list of cells"),
    ("\x00\x01", "cut short"),
    (json.dumps({"cells": [], "metadata": {"kernelspec": {"language": "julia"}}, "nbformat": 4}), "in julia"),
    (json.dumps({"cells": [], "metadata": {}, "nbformat": 3}), "format 3"),
    (json.dumps({"cells": [], "metadata": {"language_info": {"name": "R"}}, "nbformat": 4}), "in R;"),
    ("[" * 100_000, "cut short"),
])
def test_a_notebook_that_cannot_be_read_is_a_sentence_and_stays(content, sentence, lesson, work):
    path = workbook.notebook_of(lesson, work)
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(CourseError, match=sentence):
        workbook.read(path, lesson)
    assert path.read_text() == content


def test_a_notebook_in_another_encoding_is_a_sentence(lesson, work):
    path = workbook.notebook_of(lesson, work)
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe{\x00}\x00")
    with pytest.raises(CourseError, match="is not a notebook"):
        workbook.read(path, lesson)


def test_a_laid_notebook_can_be_written_by_its_owner(lesson, work):
    lesson.notebook.chmod(0o444)
    workbook.start(lesson, work)
    assert workbook.notebook_of(lesson, work).stat().st_mode & 0o200


def test_states_follow_what_happened(lesson, work):
    def state():
        return {s.exercise: s.state for s in status.states(lesson, work)}

    records = progress.records(work)
    assert set(state().values()) == {"left"}
    workbook.start(lesson, work)
    edit(workbook.notebook_of(lesson, work), solve)
    source = "def retention(free_gates, read_weights):\n    return 'mine'  # a comment more"
    digest = progress.definition_hash(source, "retention")
    passed = {"written": True, "earned": 4.0, "source": digest, "statuses": {"a": "passed"}}
    progress.save(records, RETENTION, **passed)
    assert state()[RETENTION] == "earned"
    progress.save(records, RETENTION, statuses={"a": "passed", "b": "failed"}, earned=2.0, hints=1)
    assert state()[RETENTION] == "begun"
    progress.save(records, RETENTION, source="another")
    assert state()[RETENTION] == "stale"
    progress.save(records, "dnc-write_memory", unlocked=True, solution_shown=True)
    found = {s.exercise: s for s in status.states(lesson, work)}["dnc-write_memory"]
    assert (found.state, found.earned, found.note) == ("unlocked", 0, "solution shown")
