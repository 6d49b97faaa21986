"""A write happened or did not, whatever killed it."""

import os
import signal
import stat
import subprocess
import sys
import textwrap

import pytest

from solutions import files
from solutions.files import write_whole

OLD, NEW = "old " * 1000, "new " * 3000

# Runs a writer and dies by a real SIGKILL when the n-th line of its file is about to run.
CHILD = """
    import os, signal, sys
    from pathlib import Path
    source, path, after, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    scope = {"__name__": "writer"}
    exec(compile(Path(source).read_text(), source, "exec"), scope)
    seen = 0

    def trace(frame, event, argument):
        global seen
        if frame.f_code.co_filename != source:
            return None
        if event == "line":
            if seen == after:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
        return trace

    sys.settrace(trace)
    scope["write_whole"](path, "new " * size)
    sys.settrace(None)
"""
NAIVE = """
def write_whole(path, data):
    file = open(path, "w")
    half = len(data) // 2
    file.write(data[:half])
    file.flush()
    file.write(data[half:])
    file.close()
"""


def contents_after_every_kill(source, path):
    """What a file holds after its writer was killed before each of its lines in turn; the last child is not killed."""
    child = textwrap.dedent(CHILD)
    for line in range(60):
        path.write_text(OLD)
        done = subprocess.run([sys.executable, "-S", "-c", child, str(source), str(path), str(line), "3000"],
                              capture_output=True, text=True)
        yield path.read_text()
        if done.returncode != -signal.SIGKILL:
            assert (done.returncode, done.stderr) == (0, "")
            return
    raise AssertionError("the writer has more lines than this test expects")


@pytest.mark.skipif(os.name != "posix", reason="pending: SIGKILL")
def test_a_kill_at_any_line_leaves_the_old_file_or_the_new(tmp_path):
    found = list(contents_after_every_kill(files.__file__, tmp_path / "f.txt"))
    assert set(found) == {OLD, NEW}
    assert found[0] == OLD
    assert found == sorted(found, reverse=True), "once new, it stays new"
    assert found.count(OLD) >= 5, "the kills fell inside the writer"


@pytest.mark.skipif(os.name != "posix", reason="pending: SIGKILL")
def test_the_kills_would_show_a_writer_that_is_not_whole(tmp_path):
    """A test of the test: opening and writing in place is caught with an empty and with a half file."""
    (tmp_path / "naive.py").write_text(NAIVE)
    found = set(contents_after_every_kill(tmp_path / "naive.py", tmp_path / "f.txt"))
    assert "" in found
    assert any(0 < len(text) < len(NEW) and text != OLD for text in found)


@pytest.mark.parametrize("data", ["", "plain", "Zürich ± 1\r\n", b"\x00\xff\r\n", "x" * 3_000_000])
def test_what_is_written_is_what_is_read(tmp_path, data):
    for folder in ("", "new/and/deep"):
        write_whole(tmp_path / folder / "f", data)
        expected = data.encode() if isinstance(data, str) else data
        assert (tmp_path / folder / "f").read_bytes() == expected
        assert len(list((tmp_path / folder).glob("*f*"))) == 1


@pytest.mark.parametrize("step", ["fsync", "replace", "fdopen", "chmod"])
@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()], ids=["full disk", "Ctrl-C"])
def test_an_error_on_the_way_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step, error):
    path = tmp_path / "f.txt"
    path.write_text(OLD)

    def fail(*arguments):
        raise error

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(type(error)):
        write_whole(path, NEW)
    monkeypatch.undo()
    assert path.read_text() == OLD
    assert [file.name for file in tmp_path.iterdir()] == ["f.txt"]


def test_an_unwritable_place_is_an_error_and_changes_nothing(tmp_path):
    (tmp_path / "file").write_text(OLD)
    with pytest.raises(OSError, match="file"):
        write_whole(tmp_path / "file" / "below", NEW)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_whole(tmp_path / "folder", NEW)
    assert (tmp_path / "file").read_text() == OLD
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.skipif(os.name != "posix", reason="pending: permissions")
def test_permissions_of_an_old_file_stay_and_a_new_one_gets_the_usual(tmp_path):
    def mode(path):
        return stat.S_IMODE(path.stat().st_mode)

    (tmp_path / "old").write_text(OLD)
    (tmp_path / "old").chmod(0o640)
    (tmp_path / "usual").write_text("")
    before = os.umask(0)
    os.umask(before)
    write_whole(tmp_path / "old", NEW)
    write_whole(tmp_path / "new", NEW)
    assert mode(tmp_path / "old") == 0o640
    assert mode(tmp_path / "new") == mode(tmp_path / "usual")
    assert os.umask(before) == before
