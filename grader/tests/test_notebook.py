"""What a learner sees in a notebook: blocks, hints, cases, unlocking, and sentences instead of tracebacks."""

import contextlib
import functools

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from grader import case as case_of
from grader import check, hint, judge, notebook, progress, solution, unlock
from grader.names import CourseError
from solutions import dnc


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """A fresh learner: nothing checked, nothing recorded, progress kept in a folder of the test."""
    monkeypatch.setattr(notebook, "_latest", {})
    monkeypatch.setattr(notebook, "_hints_given", {})
    monkeypatch.setattr(progress, "folder_here", lambda: tmp_path)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    return tmp_path


def retention(free_gates, read_weights):                    # adds the heads up
    return 1 - (free_gates[..., None] * read_weights).sum(1)


def right(free_gates, read_weights):
    return (1 - free_gates.unsqueeze(-1) * read_weights).prod(1)


def test_a_wrong_solution_is_told_what_where_and_which_mistake():
    text = " ".join(check(retention, seed=7).text.split())
    assert "retention: 2 of 4 points, 2 of 4 properties hold (seed 7)" in text
    assert "failed the heads' factors multiply" in text
    assert "your output is exactly that of a version that adds the heads up instead of multiplying" in text
    assert "(A.5)" in text
    assert "expected: " in text
    assert "called with: free_gates (2, 2), read_weights (2, 2, 5)" in text


def test_the_html_block_says_the_same_and_escapes_what_it_is_given():
    def retention(free_gates, read_weights):
        raise ValueError("<script>alert(1)</script>")

    html = check(retention, seed=7)._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert html.count("failed") >= 4


def test_a_right_solution_is_short_and_fresh_seeds_differ():
    seeds = {check(right, "dnc-retention").text.partition("seed ")[2][:6] for _ in range(4)}
    assert len(seeds) > 1
    text = check(right, "dnc-retention").text
    assert "4 of 4 points" in text
    assert "hint(" not in text


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("mode", [torch.no_grad(), torch.inference_mode(), torch.device("meta"),
                                  default_dtype(torch.float64)], ids=["no_grad", "inference", "device", "dtype"])
def test_modes_that_a_notebook_sets_do_not_change_a_verdict(mode):
    with mode:
        assert "4 of 4 points" in check(right, "dnc-retention").text


def test_case_gives_the_failing_arguments_and_both_values():
    check(retention)
    c = case_of("retention")
    assert c.expected.shape == c.got.shape
    assert torch.equal(retention(*c.arguments, **c.keywords), c.got)
    torch.testing.assert_close(right(*c.arguments), c.expected)
    assert "the heads' factors multiply" in repr(c)
    before = c.arguments[0].clone()
    c.arguments[0].zero_()
    assert torch.equal(case_of("retention").arguments[0], before), "spoiling a case must not spoil the next"


def test_case_without_a_failure_says_why():
    with pytest.raises(CourseError, match="no check of retention was run"):
        case_of("retention")
    check(right, "dnc-retention")
    with pytest.raises(CourseError, match="every property that was checked holds"):
        case_of("retention")


def test_hints_come_one_by_one_and_are_recorded(kept):
    texts = [hint("retention").text for _ in range(4)]
    assert [text.splitlines()[0][-6:] for text in texts] == ["1 of 3", "2 of 3", "3 of 3", "3 of 3"]
    assert 'solution("retention")' in texts[-1].replace("\n  ", " ")
    assert progress.load(kept, "dnc-retention")["hints"] == 3
    assert "1 of 3" in hint("retention", 1).text
    with pytest.raises(CourseError, match="1 to 3, got 4"):
        hint("retention", 4)


def test_hints_go_on_after_a_restart(kept, monkeypatch):
    hint("retention")
    monkeypatch.setattr(notebook, "_hints_given", {})
    assert "2 of 3" in hint("retention").text


def test_solution_is_the_reference_without_markers(kept):
    text = solution("retention").text
    assert "prod(dim=1)" in text
    assert "###" not in text
    assert progress.load(kept, "dnc-retention")["solution_shown"]


def test_unlock_puts_the_reference_among_the_notebooks_names_and_earns_nothing(kept, monkeypatch):
    with pytest.raises(CourseError, match="inside a notebook"):
        unlock("retention")
    shell = InteractiveShell.instance()
    try:
        unlock("retention")
        assert shell.user_ns["retention"] is dnc.retention
        score = check(shell.user_ns["retention"])
        monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
        assert repr(score) == "0.0"
        assert "unlocked" in score.text
        assert progress.load(kept, "dnc-retention") == {"unlocked": True}
    finally:
        InteractiveShell.clear_instance()


def test_under_nbgrader_the_text_is_the_points(monkeypatch):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert repr(check(right, "dnc-retention")) == "4"
    assert repr(check(retention)) == "2"


@pytest.mark.parametrize(("act", "sentence"), [
    (lambda: hint("retenton"), "did you mean retention"),
    (lambda: check(lambda x: x), 'say which exercise is meant, for example check.f, "retention"'),
    (lambda: check(functools.partial(retention)), "say which exercise is meant"),
    (lambda: hint("retention", True), "1 to 3, got True"),
    (lambda: check(retention, seed=-1), "0 to 99999, got -1"),
    (lambda: check(retention, seed="x"), "0 to 99999, got 'x'"),
    (lambda: check(retention, seed=10**9), "0 to 99999, got 1000000000"),
    (lambda: check("retention"), r"check\(retention\)"),
    (lambda: check(3), "a function or class, got 3"),
    (lambda: solution("nothing like it at all"), "there are "),
])
def test_bad_names_are_sentences_without_a_traceback(act, sentence):
    with pytest.raises(CourseError, match=sentence) as caught:
        act()
    assert caught.value._render_traceback_() == [str(caught.value)]


def test_an_unwritten_function_is_not_a_list_of_failures():
    def retention(free_gates, read_weights):
        raise NotImplementedError()

    text = check(retention).text
    assert text.startswith("retention: not written yet, 0 of 4 points")
    assert "failed" not in text
    assert len(text.splitlines()) <= 3
    with pytest.raises(CourseError, match="not written yet"):
        case_of("retention")


def test_the_learners_own_prints_are_shown_and_own_lines_only(capsys):
    def retention(free_gates, read_weights):
        print("shape here", free_gates.shape)
        return free_gates @ read_weights @ free_gates

    text = check(retention).text
    assert "shape here" in capsys.readouterr().out
    assert "line " in text
    assert "return free_gates @ read_weights @ free_gates" in text
    assert "worker" not in text


def test_a_folder_that_cannot_be_written_costs_the_record_and_not_the_verdict(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(progress, "folder_here", lambda: blocked / "inside")
    text = check(right, "dnc-retention").text
    assert "4 of 4 points" in text
    assert "could not be saved" in text


def test_nothing_is_recorded_outside_work(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert progress.folder_here() is None
    work = progress.WORK
    monkeypatch.setattr(progress, "WORK", tmp_path)
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert progress.folder_here() == progress.records(tmp_path) != progress.records(work)


def test_a_record_that_is_damaged_reads_as_empty(kept):
    (kept / "dnc-retention.json").write_text("{broken")
    assert progress.load(kept, "dnc-retention") == {}
    check(right, "dnc-retention")
    assert progress.load(kept, "dnc-retention")["earned"] == 4


def test_pending_is_never_passed():
    exercise = judge.Exercise(dnc.retention, ("a", "b", "c"))
    exercise.property("runs on a GPU", needs="cuda")(lambda student, ref, draw: None)
    outcome = judge.judge(exercise, judge.local_answer(dnc.retention), 0)
    if torch.cuda.is_available():
        assert outcome.passed
    else:
        assert outcome.verdicts[0].status == "pending"
        assert not outcome.passed
        assert outcome.earned == 0
