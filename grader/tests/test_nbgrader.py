"""The notebooks are nbgrader assignments: generate, autograde and feedback work, with the points each deserves."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

from grader import lessons, mutants, weave
from grader.judge import exercises

LESSON = lessons.find("dnc")
NOISE = '''
    import sys, warnings
    warnings.warn("student code warns")
    print("and writes to stderr", file=sys.stderr)
'''


def nbgrader(folder, *arguments):
    """Run nbgrader's own command; it calls alembic by name, so the environment's programs must be on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run([sys.executable, "-m", "nbgrader", *arguments], cwd=folder, capture_output=True, text=True,
                          timeout=400, env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def submission(release, sources):
    """The released notebook with definitions typed into its exercise cells."""
    content = json.loads(release.read_text())
    for cell in content["cells"]:
        name = cell["metadata"].get("exercise", {}).get("id", "").partition("-")[2]
        if name in sources:
            cell["source"] = sources[name]
    return json.dumps(content)


def noisy(source):
    """The same definition, warning and writing to stderr at every call."""
    head, body = source.split("    ### BEGIN SOLUTION\n")
    return head + NOISE + body


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A class of four, graded: folder, and the score of each student by exercise."""
    folder = tmp_path_factory.mktemp("class")
    (folder / "nbgrader_config.py").write_text(
        'c = get_config()\nc.CourseDirectory.course_id = "systematic"\nc.Execute.timeout = 120\n')
    source = folder / "source" / LESSON.name / LESSON.notebook.name
    source.parent.mkdir(parents=True)
    source.write_text(weave.serialise(weave.instructor_notebook(LESSON)))
    nbgrader(folder, "generate_assignment", LESSON.name)
    release = folder / "release" / LESSON.name / LESSON.notebook.name
    right = {e.name: mutants.reference_source(e) for e in exercises().values() if e.module == "dnc"}
    sources = {
        "instructor": source.read_text(),
        "untouched": release.read_text(),
        "partly": submission(release, {**right, "retention": right["retention"].replace(".prod(", ".mean("),
                                       "write_memory": "def write_memory(*args, **keywords):\n    syntax error here"}),
        "noisy": submission(release, {name: noisy(text) for name, text in right.items()}),
    }
    for student, text in sources.items():
        place = folder / "submitted" / student / LESSON.name / LESSON.notebook.name
        place.parent.mkdir(parents=True)
        place.write_text(text)
    nbgrader(folder, "autograde", LESSON.name)
    nbgrader(folder, "generate_feedback", LESSON.name)
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as gradebook:
        scores = {student: {grade.name: grade.auto_score for grade in
                            gradebook.find_submission_notebook(LESSON.name, LESSON.name, student).grades}
                  for student in sources}
    return folder, scores


POINTS = {f"check-{e.identity}": e.points for e in exercises().values() if e.module == "dnc"}


def test_the_release_is_the_committed_notebook(graded):
    folder, _ = graded
    release = json.loads((folder / "release" / LESSON.name / LESSON.notebook.name).read_text())
    committed = json.loads(LESSON.notebook.read_text())
    assert [(c["id"], c["source"]) for c in release["cells"]] == [(c["id"], c["source"]) for c in committed["cells"]]


@pytest.mark.parametrize(("student", "expected"), [
    ("instructor", POINTS), ("noisy", POINTS), ("untouched", dict.fromkeys(POINTS, 0.0)),
    ("partly", POINTS | {"check-dnc-retention": 2, "check-dnc-write_memory": 0}),
])
def test_every_student_gets_the_points_of_the_properties_that_hold(graded, student, expected):
    _, scores = graded
    found = {name: score for name, score in scores[student].items() if name in POINTS}
    assert found == expected


def test_feedback_shows_the_verdict_and_no_solution(graded):
    folder, _ = graded
    page = (folder / "feedback" / "partly" / LESSON.name / f"{LESSON.name}.html").read_text()
    assert "retention: 2 of 4 points" in page
    assert "averages the heads" in page
    untouched = (folder / "feedback" / "untouched" / LESSON.name / f"{LESSON.name}.html").read_text()
    plain = re.sub(r"<[^>]+>", "", untouched)
    for exercise in exercises().values():
        if exercise.module == "dnc":
            body = mutants.reference_source(exercise).split("### BEGIN SOLUTION\n")[1].split("### END")[0]
            for line in (line.split("#")[0].strip() for line in body.splitlines()):
                assert len(line) < 20 or line not in plain


def test_the_instructors_notebook_runs_from_top_to_bottom_without_an_error_or_a_word_on_stderr(graded):
    folder, _ = graded
    notebook = json.loads((folder / "autograded" / "instructor" / LESSON.name / LESSON.notebook.name).read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    outputs = [(cell["id"], output) for cell in code for output in cell["outputs"]]
    assert [where for where, output in outputs if output["output_type"] == "error"] == []
    assert [where for where, output in outputs if output.get("name") == "stderr"] == []
