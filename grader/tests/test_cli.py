"""The commands a person types, run for real in a copy of the course."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from grader import lessons, mutants
from grader.judge import exercises

COPIED = ("lessons", "solutions", "kernels", "grader", "pyproject.toml", "README.md")


class Course:
    """A copy of the repository, and the `course` command as it runs there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in COPIED:
            source = lessons.ROOT / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.partial"))
            else:
                shutil.copy(source, root / name)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", "from grader.cli import main; main()", *arguments]

    def __call__(self, *arguments: str, code: int = 0, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess:
        done = subprocess.run([*prefix, *self.command(*arguments)], cwd=self.root, capture_output=True, text=True,
                              timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "110"})
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        assert done.returncode == code, done.stdout + done.stderr
        return done

    @property
    def notebook(self) -> Path:
        return self.root / "work" / "01_dnc.ipynb"

    def write(self, **sources: str) -> None:
        """Put definitions into the cells of lesson 01's exercises."""
        content = json.loads(self.notebook.read_text())
        for cell in content["cells"]:
            name = cell["metadata"].get("exercise", {}).get("id", "").partition("-")[2]
            if name in sources:
                cell["source"] = sources[name]
        self.notebook.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return Course(tmp_path_factory.mktemp("course"))


@pytest.fixture
def course(copy):
    """The copy with a fresh work/ that holds lesson 01."""
    shutil.rmtree(copy.root / "work", ignore_errors=True)
    copy("start", "01")
    return copy


def solutions_of(lesson_module):
    return {e.name: mutants.reference_source(e) for e in exercises().values() if e.module == lesson_module}


EIGHT = [len(e.properties) for e in exercises().values() if e.module == "dnc"]


def test_a_learner_starts_fails_repairs_and_sees_the_state(course):
    stub = course("check", "01", code=1).stdout
    assert stub.count("not written yet") == len(EIGHT) == 8
    assert "0 of 8 exercises done" in stub

    right = solutions_of("dnc")
    wrong = right["retention"].replace(".prod(dim=1)", ".mean(dim=1)")
    course.write(**{**right, "retention": wrong})
    report = course("check", "1", "--seed", "5", code=1).stdout
    assert "your output is exactly that of a version that averages the heads" in " ".join(report.split())
    assert "7 of 8 exercises done" in report
    table = course("status").stdout
    assert [table.count(word) for word in ("earned", "begun")] >= [2, 1]

    course.write(**right)
    assert "stale" in course("status").stdout
    assert "8 of 8 exercises done" in course("check", "dnc").stdout
    verdicts = json.loads(course("check", "01", "--json").stdout)
    assert verdicts["passed"] is True
    assert [len(e["properties"]) for e in verdicts["exercises"]] == EIGHT
    assert {p["status"] for e in verdicts["exercises"] for p in e["properties"]} == {"passed"}
    assert "8 of 8 done" in course("status").stdout


def test_json_names_what_failed_and_why(course):
    course.write(**solutions_of("dnc") | {"retention": "def retention(free_gates, read_weights):\n    return None"})
    found = json.loads(course("check", "01", "--json", "--seed", "3", code=1).stdout)
    retention = next(e for e in found["exercises"] if e["exercise"] == "dnc-retention")
    assert found["seed"] == retention["seed"] == 3
    assert retention["earned"] == 0
    assert retention["properties"][0]["status"] == "failed"
    assert retention["properties"][0]["diagnosis"]["got"] == "None"


def test_one_broken_cell_takes_nothing_from_the_others(course):
    right = solutions_of("dnc")
    course.write(**right | {"content_lookup": "def content_lookup(memory, key:\n    return memory"})
    text = course("check", "01", code=1).stdout
    assert "its cell does not run: SyntaxError" in text
    assert "7 of 8 exercises done" in text
    course.write(**right | {"retention": "while True:\n    pass"})
    assert "retention is not defined in the notebook" in " ".join(course("check", "01", code=1).stdout.split())
    course.write(**right | {"retention": "import os\nclass A:\n    os._exit(3)"})
    text = " ".join(course("check", "01", code=1).stdout.split())
    assert "ended its own process (exit code 3)" in text
    assert "7 of 8 exercises done" in text


def test_a_call_of_the_notebooks_own_that_is_not_run_is_named(course):
    right = solutions_of("dnc")
    content = json.loads(course.notebook.read_text())
    source = "def one():\n    return 1\nONE = one()"
    content["cells"].insert(3, {"cell_type": "code", "metadata": {}, "id": "mine", "outputs": [], "source": source})
    course.notebook.write_text(json.dumps(content))
    course.write(**right | {"retention": right["retention"].replace("(1 -", "(ONE -")})
    assert "ONE is assigned in cell 4, line 3" in " ".join(course("check", "01", code=1).stdout.split())


def test_the_reference_itself_is_not_earned(course):
    course.write(**solutions_of("dnc") | {"retention": "from solutions.dnc import retention"})
    text = " ".join(course("check", "work/01_dnc.ipynb").stdout.split())
    assert "retention: 0 of 4 points, 4 of 4 properties hold" in text
    assert "counts as unlocked, not as earned" in text
    rows = "".join(row for row in course("status").stdout.splitlines() if "01_dnc" in row)
    assert [rows.count("left"), rows.count("earned")] == [2, 8]         # a row each and the lesson's summary


def test_text_of_any_kind_is_printed(course):
    odd = "def write_memory(*args, **keywords):\n    raise ValueError('\\ud800 ψ')"
    course.write(**solutions_of("dnc") | {"write_memory": odd})
    assert "raised ValueError" in course("check", "01", code=1).stdout


def test_a_record_that_cannot_be_written_costs_no_verdict(course):
    course.write(**solutions_of("dnc"))
    records = course.root / "work" / ".course"
    shutil.rmtree(records)
    records.write_text("in the way")
    verdicts = json.loads(course("check", "01", "--json").stdout)
    assert verdicts["passed"]
    assert "could not be saved" in verdicts["exercises"][0]["note"]


def test_a_missing_and_a_doubled_cell_are_told_and_mended(course):
    content = json.loads(course.notebook.read_text())
    cells = content["cells"]
    lost = next(c for c in cells if c["metadata"].get("exercise", {}).get("id") == "dnc-retention")
    cells.remove(lost)
    course.notebook.write_text(json.dumps(content))
    assert "course start 01 --reset retention" in " ".join(course("check", "01", code=1).stdout.split())
    course("start", "01", "--reset", "retention")
    content = json.loads(course.notebook.read_text())
    content["cells"].append(dict(lost, id="copied"))
    course.notebook.write_text(json.dumps(content))
    course.write(**solutions_of("dnc"))
    text = " ".join(course("check", "01").stdout.split())
    assert "2 cells carry dnc-retention" in text


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["start", "77"], "no lesson '77'"),
    (["check", "dncc"], "did you mean dnc?"),
    (["start", "01", "--reset", "retenton"], "did you mean retention?"),
    (["check", "01", "--jsno"], "--json"),
    (["chek", "01"], "check"),
    (["check"], "LESSON"),
    (["check", "01", "--seed", "x"], "valid"),
    (["run", "dnc.cpy"], "did you mean dnc.copy"),
    (["run", "dnc.copy", "--preset", "tiny"], "smoke, laptop, paper"),
    (["bench", "dncc"], "did you mean dnc?"),
    (["check", "00"], "course start 00"),
])
def test_what_is_not_known_is_told_with_the_nearest_and_exit_code_2(course, arguments, sentence):
    done = course(*arguments, code=2)
    assert sentence in " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(("content", "sentence"), [
    (b'{"cells": [', "cut short"), (b"\xff\xfe\x00", "not a notebook"),
    (b'{"cells": [], "metadata": {"kernelspec": {"language": "R"}}, "nbformat": 4}', "notebook in R"),
])
def test_an_unreadable_notebook_is_a_sentence_and_stays_as_it_is(course, content, sentence):
    course.notebook.write_bytes(content)
    done = course("check", "01", code=2)
    assert sentence in done.stderr
    assert course.notebook.read_bytes() == content
    course("start", "01")
    assert course.notebook.read_bytes() == content


def test_a_read_only_folder_is_a_sentence(course, require):
    """By its mode; for root, whom no mode stops, by a read-only mount of everything."""
    shutil.rmtree(course.root / "work")
    prefix = [require("sandbox"), "--ro-bind", "/", "/", "--dev", "/dev"] if os.geteuid() == 0 else []
    mode = course.root.stat().st_mode
    course.root.chmod(mode & ~0o222)
    try:
        done = course("start", "01", code=2, prefix=prefix)
    finally:
        course.root.chmod(mode)
    assert re.search("Permission denied|Read-only file system", done.stderr)
    assert not (course.root / "work").exists()


def test_ctrl_c_and_kill_leave_whole_files(course):
    course.write(**solutions_of("dnc"))
    before = course.notebook.read_bytes()
    for sent, wait in [(signal.SIGINT, 1.0), (signal.SIGINT, 2.5), (signal.SIGKILL, 2.0)]:
        running = subprocess.Popen(course.command("check", "01"), cwd=course.root, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        time.sleep(wait)
        running.send_signal(sent)
        _, errors = running.communicate(timeout=30)
        if sent == signal.SIGINT:
            assert "Traceback" not in errors
    assert course.notebook.read_bytes() == before
    for record in (course.root / "work" / ".course").glob("*.json"):
        json.loads(record.read_text())
    course("check", "01")


def test_build_is_byte_exact_and_check_tells_a_difference(course):
    assert "all notebooks are what their sources give" in course("build", "--check").stdout
    source = course.root / "lessons" / "01_dnc.md"
    text = source.read_text()
    try:
        source.write_text(text + "\nOne sentence more.\n")
        assert "01_dnc.ipynb is not what its source gives" in course("build", "--check", code=1).stdout
        course("build")
        assert "One sentence more." in (course.root / "lessons" / "01_dnc.ipynb").read_text()
    finally:
        source.write_text(text)
    course("build")
    assert (course.root / "lessons" / "01_dnc.ipynb").read_bytes() == lessons.find("01").notebook.read_bytes()


def test_an_experiment_runs_and_is_recorded_and_the_table_follows(course):
    text = " ".join(course("run", "dnc.key_value", "--preset", "smoke", "--seeds", "4").stdout.split())
    assert "the read mask turns when the query does (thesis section 2.3, Figure 2.2b)" in text
    assert "verdict NOT SEEN here no DNC-M model solved the task" in text
    assert "run smoke, seeds 4" in text
    assert list((course.root / "runs" / "dnc.key_value").glob("smoke-*/result.json"))
    changed = ("--set", "iterations=2", "--set", "every=1", "--set", "test_batch=4", "--seeds", "0", "--jobs", "1")
    course("run", "dnc.key_value", *changed, "--record")
    [row] = [row for row in json.loads(course("results", "--json").stdout)
             if (row["experiment"], row["preset"]) == ("dnc.key_value", "laptop")]
    assert (row["seeds"], row["changed"]["iterations"]) == ([0], "2")
    shown = " ".join(course("results", "--write").stdout.split())
    assert "dnc.babi" in shown
    assert "pending" in shown
    assert "iterations 2, every 1, test_batch 4, 1 seed |" in (
        course.root / "solutions" / "results" / "README.md").read_text()


def test_the_kill_matrix_is_printed_and_a_survivor_fails_it(course):
    text = course("results", "--kill-matrix", "--lesson", "00").stdout
    assert "averages the heads" in text
    assert "0 problems" in text
    listed = course.root / "grader" / "mutants" / "basics.py"
    before = listed.read_text()
    try:
        listed.write_text(before + '\nwrong("does nothing wrong", "(weights @ memory)", HEADS)\n')
        text = course("results", "--kill-matrix", "--lesson", "0", code=1).stdout
        assert "mutant survives: does nothing wrong" in text
    finally:
        listed.write_text(before)
