"""The README's worked example is followed to the letter in a copy of the course, and its commands exist."""

import re

import pytest

from grader import lessons
from grader.tests.test_cli import Course

README = (lessons.ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return Course(tmp_path_factory.mktemp("readme"))


def test_following_the_worked_example_adds_a_proven_exercise(course):
    steps = re.findall(r"Append to `([\w./]+)`:\n\n(`{3,4})\w*\n(.*?)\n\2\n", README, re.DOTALL)
    assert [path for path, _, _ in steps] == ["solutions/basics.py", "lessons/00_start_here.md",
                                              "grader/checks/basics.py", "grader/mutants/basics.py"]
    for path, _, text in steps:
        with (course.root / path).open("a") as file:
            file.write(f"\n\n{text}\n")
    course("build")
    text = course("results", "--kill-matrix", "--lesson", "00").stdout
    assert "basics-blend" in text
    assert "0 problems" in text
    course("start", "00")
    assert "blend: not written yet" in course("check", "00", code=1).stdout


def test_the_researchers_example_runs():
    code, = re.findall(r"```python\n(import torch.*?)```", README, re.DOTALL)
    names = {}
    exec(code, names)
    assert names["outputs"].shape == names["batch"].targets.shape


def test_every_command_the_readme_names_exists(course):
    named = set(re.findall(r"`course (\w+)", README)) | set(re.findall(r"^course (\w+)", README, re.MULTILINE))
    offered = course("--help").stdout
    assert {"start", "check", "status", "build", "results", "doctor", "test"} <= named
    assert all(re.search(rf"\b{name}\b", offered) for name in named)


def test_pictures_and_files_the_readme_names_are_there():
    named = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert len(named) >= 2
    for target in [*named, "environment.yml", "CITATION.cff", "lessons/LICENSE"]:
        assert (lessons.ROOT / target).is_file(), target
