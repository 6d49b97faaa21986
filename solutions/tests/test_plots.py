"""A picture carries its words wherever it goes, is drawn once, and says no to what it cannot draw."""

import base64
import functools
import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib
import matplotlib.image
import numpy as np
import pytest
import torch

from solutions import plots

WORDS = {"title": "What was found", "x_label": "time (s)", "y_label": "weight", "alt": "A line that falls."}


def a_line(**changes):
    return plots.lines([0, 1, 2], {"a": [3.0, 2.0, 1.0]}, **WORDS | changes)


def a_pair_of_lines(**changes):
    return plots.lines([0, 1, 2], {"a": [3.0, 2.0, 1.0], "b": [1.0, 1.0, 1.0]}, **WORDS | changes)


def some_bars(**changes):
    return plots.bars(["x", "y"], {"a": [3.0, 2.0], "b": [1.0, -1.0]}, **WORDS | changes)


def a_heatmap(**changes):
    return plots.heatmap([[0.0, 0.5], [-0.25, 1.0]], **WORDS | changes)


def a_grid(**changes):
    return plots.grid({"one": [[1.0, 2.0]], "two": [[3.0], [4.0]]}, **WORDS | changes)


KINDS = [a_line, a_pair_of_lines, some_bars, a_heatmap, a_grid]


@functools.cache
def as_it_comes(draw):
    return draw()


class Image(HTMLParser):
    """The attributes of the one image of a piece of HTML, as a browser reads them."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def pixels(picture):
    return matplotlib.image.imread(io.BytesIO(picture.png))


@pytest.mark.parametrize("draw", KINDS)
def test_the_html_is_a_figure_with_the_image_and_its_words(draw):
    picture = as_it_comes(draw)
    (outer, _), (inner, image) = Image(picture._repr_html_()).tags
    assert (outer, inner) == ("figure", "img")
    assert image["alt"] == repr(picture) == WORDS["alt"]
    head, _, data = image["src"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data, validate=True) == picture.png
    assert picture.png.startswith(b"\x89PNG")


@pytest.mark.parametrize("alt", ['a < b & "c" > \'d\'', '"><script>alert(1)</script>', "&lt; stays as typed"])
def test_alt_text_is_escaped_and_comes_back_as_it_was(alt):
    tags = Image(plots.Picture(b"png", alt)._repr_html_()).tags
    assert [tag for tag, _ in tags] == ["figure", "img"]
    assert tags[1][1]["alt"] == alt


def test_alt_text_typed_over_several_lines_is_one_line():
    assert a_line(alt="one\n   two").alt == "one two"


@pytest.mark.parametrize("draw", KINDS)
@pytest.mark.parametrize("field", ["alt", "title"])
@pytest.mark.parametrize("empty", ["", "  \n", None])
def test_a_figure_without_words_is_refused(draw, field, empty):
    with pytest.raises(ValueError, match=f"{field} must say in words what the figure shows"):
        draw(**{field: empty})


@pytest.mark.parametrize("missing", list(WORDS))
def test_every_word_is_required(missing):
    with pytest.raises(TypeError, match=missing):
        plots.bars(["x"], {"a": [1.0]}, **{name: text for name, text in WORDS.items() if name != missing})


@pytest.mark.parametrize("draw", KINDS)
def test_size_and_ink(draw):
    image = pixels(as_it_comes(draw))
    assert image.shape[:2] == (round(plots.HEIGHT * plots.DOTS), round(plots.WIDTH * plots.DOTS))
    assert (image[..., :3].min(axis=-1) < 0.5).mean() > 0.005           # something was drawn, on white
    assert (image[0, :, :3] > 0.99).all()


@pytest.mark.parametrize("draw", [a_pair_of_lines, some_bars, a_grid])
def test_the_same_data_gives_the_same_bytes_whatever_the_reader_set_in_matplotlib(draw):
    expected = as_it_comes(draw).png
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "text.color": "red"}):
        before = dict(matplotlib.rcParams)
        assert draw().png == expected
        assert dict(matplotlib.rcParams) == before


def test_settings_come_back_after_a_refusal():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ValueError, match="a scale is one of"):
        a_line(x_scale="cubic")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("title", [
    "with plain words that go on for so long that they need a second line below the first one, or even three",
    "WWWWWWWW " * 20, "onewordthatistoolongforanylineatallandcannotbebrokenbetweenwordsbecauseithasnone" * 2,
])
def test_no_title_runs_over_the_edge(title):
    image = pixels(a_line(title=title))
    assert (image[:, -4:, :3] > 0.99).all()


def test_data_may_be_anything_that_holds_numbers():
    plain = [3.0, 2.0, 1.0]
    expected = plots.bars("xyz", dict.fromkeys("abcdef", plain), **WORDS).png
    forms = [torch.tensor(plain), np.array(plain), torch.tensor(plain, requires_grad=True), torch.tensor(plain).half(),
             [torch.tensor(value) for value in plain], (3, 2, 1)]
    assert plots.bars("xyz", dict(zip("abcdef", forms, strict=True)), **WORDS).png == expected


def test_different_data_give_different_pictures():
    assert as_it_comes(a_line).png != plots.lines([0, 1, 2], {"a": [3.0, 2.0, 0.0]}, **WORDS).png
    assert as_it_comes(a_heatmap).png != plots.heatmap([[0.0, 0.5], [-0.25, 0.9]], **WORDS).png
    assert len({as_it_comes(draw).png for draw in KINDS}) == len(KINDS)
    assert as_it_comes(a_grid).png != a_grid(x_label="other (m)").png


@pytest.mark.parametrize("option", [
    {"spread": {"a": [0.5, 0.5, 0.5]}}, {"x_scale": "log reversed"}, {"y_scale": "log"}, {"marks": {"half": 1.0}},
])
def test_every_option_of_lines_changes_the_picture(option):
    assert a_line(**option).png != as_it_comes(a_line).png


def test_every_option_of_bars_and_heatmaps_changes_the_picture():
    assert some_bars(spread={"a": [0.5, 0.5]}).png != as_it_comes(some_bars).png
    assert some_bars(y_range=(-5, 5)).png != as_it_comes(some_bars).png
    for option in ({"unit": "bits"}, {"rows": ["p", "q"]}, {"value_range": (-3, 3)}):
        assert a_heatmap(**option).png != as_it_comes(a_heatmap).png
    assert a_grid(x_label=["left", "right"]).png != as_it_comes(a_grid).png


def test_bands_and_lines_may_have_gaps_and_matrices_may_have_holes():
    hole = float("nan")
    plots.lines([0, 1, 2], {"a": [1.0, hole, 2.0]}, spread={"a": [0.1, hole, 0.1]}, **WORDS)
    plots.heatmap([[hole, 1.0], [0.0, hole]], **WORDS)
    plots.grid({"nothing": [[hole]], "one value": torch.zeros(3, 4)}, **WORDS)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: plots.lines([0, 1], {"a": [1.0]}, **WORDS), "a must have 2 points as x has, got 1"),
    (lambda: a_line(spread={"b": [1, 1, 1]}), "spread names b, which series does not have"),
    (lambda: a_line(spread={"a": [1]}), "a must have 3 points as x has, got 1"),
    (lambda: plots.lines([[0]], {"a": [1.0]}, **WORDS), r"x must have 1 axis, got shape \(1, 1\)"),
    (lambda: a_line(y_scale="cubic"), "a scale is one of 'linear', 'log', 'log reversed', got 'cubic'"),
    (lambda: plots.bars(["x", "y"], {"a": [1.0]}, **WORDS), "a must have 2 values, one per label, got 1"),
    (lambda: some_bars(spread={"c": [1, 1]}), "spread names c, which series does not have"),
    (lambda: plots.heatmap([1.0, 2.0], **WORDS), r"values must have 2 axes, got shape \(2,\)"),
    (lambda: plots.heatmap(torch.zeros(0, 3), **WORDS), "nothing to draw"),
    (lambda: plots.grid({}, **WORDS), "nothing to draw"),
    (lambda: a_heatmap(rows=["p"]), "rows must have 2 names, got 1"),
    (lambda: a_grid(columns=["p", "q", "r"]), "columns must have 1 or 2 names, got 3"),
    (lambda: a_grid(y_label=["p", "q", "r"]), "give one axis label or 2, one per panel, got 3"),
])
def test_what_cannot_be_drawn_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("value", "text"), [
    (0.0, "0"), (-0.0, "0"), (1.0, "1"), (0.5, "0.5"), (-0.25, "−0.25"), (0.004, "≈0"), (-1e-9, "≈0"), (0.005, "0.01"),
    (100.0, "100"), (-3.004, "−3"), (9999.0, "9999"), (12345.0, "1e4"), (float("nan"), "nan"), (float("inf"), "inf"),
])
def test_numbers_are_written_short_and_honestly(value, text):
    assert plots._short(value) == text


def test_save_writes_the_same_png_whole(tmp_path):
    picture = as_it_comes(a_line)
    picture.save(tmp_path / "new folder" / "p.png")
    picture.save(str(tmp_path / "q.PNG"))
    assert (tmp_path / "new folder" / "p.png").read_bytes() == (tmp_path / "q.PNG").read_bytes() == picture.png
    with pytest.raises(ValueError, match=r"saved as \.png, got .*p\.svg"):
        picture.save(tmp_path / "p.svg")
    assert not (tmp_path / "p.svg").exists()


def test_no_display_no_notebook_nothing_on_stderr_and_nothing_left_open(tmp_path):
    """With a settings folder that cannot be written, where matplotlib builds its font cache and has much to say."""
    code = """
import sys
from solutions import plots
print(plots.heatmap([[0.0, 1.0]], title="t", x_label="x", y_label="y", alt="said"))
assert "matplotlib.pyplot" not in sys.modules, "pyplot keeps figures and chooses backends"
"""
    blocked = tmp_path / "a file"
    blocked.write_text("")
    environment = {"MPLCONFIGDIR": str(blocked), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1",
                   "MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True,
                          env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "said\n", "")


def test_series_differ_in_colour_and_in_form():
    """Colour alone tells nobody anything who does not see it."""
    for kind in (plots.COLOURS, plots.MARKERS, plots.DASHES):
        assert len(set(kind)) == len(kind) == 7
    grey = [np.dot([int(colour[i:i + 2], 16) for i in (1, 3, 5)], [0.299, 0.587, 0.114]) for colour in plots.COLOURS]
    assert max(grey[:6]) < 190                                          # dark enough on white
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in plots.COLOURS)
