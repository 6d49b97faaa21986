"""Figures in one line: the title says what was found, the alt text says it to whoever cannot see the picture."""

import base64
import html
import io
import logging
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from solutions.files import write_whole

# matplotlib tells about its font cache and its folders on stderr, which a graded notebook must not have
if logging.getLogger("matplotlib").level == logging.NOTSET:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Data = Tensor | np.ndarray | Sequence

# Okabe and Ito's colours, told apart by people of every colour vision; markers and dashes tell them apart in grey
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))

WIDTH, HEIGHT, DOTS = 6.4, 3.3, 150  # inches, inches, dots per inch
ANNOTATED = 120  # a heatmap with at most so many cells has its values written in

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "text.usetex": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "text.color": "black",
    "axes.labelcolor": "black",
    "xtick.color": "black",
    "ytick.color": "black",
}


class Picture:
    """A finished figure: an image with its alt text. A notebook draws it once, a terminal prints the alt text."""

    def __init__(self, png: bytes, alt: str):
        self.png, self.alt = png, alt

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.png).decode()
        alt = html.escape(self.alt, quote=True)
        return f'<figure><img alt="{alt}" width="{WIDTH * 96:.0f}" src="data:image/png;base64,{data}"></figure>'

    def __repr__(self) -> str:
        return self.alt

    def save(self, path: str | Path) -> None:
        """Write the PNG, whole or not at all. Raises ValueError when the name does not end in .png."""
        if Path(path).suffix.lower() != ".png":
            raise ValueError(f"a picture is saved as .png, got {str(path)!r}")
        write_whole(Path(path), self.png)


def lines(
    x: Data,
    series: Mapping[str, Data],
    *,
    title: str,
    x_label: str,
    y_label: str,
    alt: str,
    spread: Mapping[str, Data] | None = None,
    x_scale: str = "linear",
    y_scale: str = "linear",
    y_range: tuple[float, float] | None = None,
    marks: Mapping[str, float] | None = None,
) -> Picture:
    """Draw one line per series.

    x        (points,)
    series   name -> (points,); a NaN leaves a gap
    spread   name -> (points,): half the width of a band around that series, for example one standard deviation
    x_scale  "linear" or "log", and "log reversed" for a quantity that shrinks from left to right; y_scale likewise
    marks    label -> x of a vertical line

    Raises ValueError on lengths that disagree, on a spread without its series and on an empty alt text.
    """
    places = _array("x", x, 1)
    values = {name: _array(name, data, 1) for name, data in series.items()}
    bands = {name: _array(f"spread of {name}", data, 1) for name, data in (spread or {}).items()}
    for name, data in [*values.items(), *bands.items()]:
        if len(data) != len(places):
            raise ValueError(f"{name} must have {len(places)} points as x has, got {len(data)}")
    if strays := sorted(set(bands) - set(values)):
        raise ValueError(f"spread names {', '.join(strays)}, which series does not have")
    with _drawing(title, alt) as drawing:
        axes = drawing.figure.subplots()
        for index, (name, data) in enumerate(values.items()):
            colour, marker, dash = (kind[index % len(kind)] for kind in (COLOURS, MARKERS, DASHES))
            # the first lines are the thickest, so that one that lies on another does not hide it
            size, thick = max(3.5, 7 - 1.2 * index), max(1.4, 2.8 - 0.6 * index)
            axes.plot(
                places, data, color=colour, linestyle=dash, marker=marker, markersize=size, linewidth=thick, label=name
            )
            if name in bands:
                axes.fill_between(places, data - bands[name], data + bands[name], color=colour, alpha=0.18, linewidth=0)
        for label, place in (marks or {}).items():
            axes.axvline(place, color="#555555", linewidth=1, linestyle=(0, (2, 2)), label=label)
        _scale(axes.xaxis, x_scale)
        if x_scale == "linear" and (places == places.round()).all():
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))     # no hop 2.5
        _scale(axes.yaxis, y_scale)
        if y_range is not None:
            axes.set_ylim(y_range)
        axes.grid(True, linewidth=0.6)
        axes.set(xlabel=x_label, ylabel=y_label)
        drawing.head(title)
        if len(values) > 1 or marks:
            drawing.legend()
        return drawing.picture()


def bars(
    labels: Sequence,
    series: Mapping[str, Data],
    *,
    title: str,
    x_label: str,
    y_label: str,
    alt: str,
    spread: Mapping[str, Data] | None = None,
    y_range: tuple[float, float] | None = None,
) -> Picture:
    """Draw bars side by side, one colour and hatching per series; the values are written above when there are few.

    labels  one per group of bars
    series  name -> (labels,)
    spread  name -> (labels,): half the length of an error bar

    Raises ValueError on lengths that disagree, on a spread without its series and on an empty alt text.
    """
    names = [str(label) for label in labels]
    values = {name: _array(name, data, 1) for name, data in series.items()}
    errors = {name: _array(f"spread of {name}", data, 1) for name, data in (spread or {}).items()}
    for name, data in [*values.items(), *errors.items()]:
        if len(data) != len(names):
            raise ValueError(f"{name} must have {len(names)} values, one per label, got {len(data)}")
    if strays := sorted(set(errors) - set(values)):
        raise ValueError(f"spread names {', '.join(strays)}, which series does not have")
    with _drawing(title, alt) as drawing:
        axes = drawing.figure.subplots()
        places, width = np.arange(len(names)), 0.8 / max(1, len(values))
        few = len(names) * len(values) <= 16
        for index, (name, data) in enumerate(values.items()):
            drawn = axes.bar(
                places + (index - (len(values) - 1) / 2) * width,
                data,
                width * 0.92,
                yerr=errors.get(name),
                color=COLOURS[index % len(COLOURS)],
                hatch=("", "///", "...", "xxx", "\\\\\\", "++", "--")[index % 7],
                edgecolor="white",
                linewidth=0,
                error_kw={"elinewidth": 1, "capsize": 2},
                label=name,
            )
            if few:
                axes.bar_label(drawn, [_short(value) for value in data], fontsize=8, padding=2)
        axes.set_xticks(places, names)
        axes.axhline(0, color="black", linewidth=0.8)
        if y_range is not None:
            axes.set_ylim(y_range)
        else:
            axes.margins(y=0.12)
        axes.set(xlabel=x_label, ylabel=y_label)
        drawing.head(title)
        if len(values) > 1:
            drawing.legend()
        return drawing.picture()


def heatmap(
    values: Data,
    *,
    title: str,
    x_label: str,
    y_label: str,
    alt: str,
    unit: str = "",
    rows: Sequence | None = None,
    columns: Sequence | None = None,
    value_range: tuple[float, float] | None = None,
) -> Picture:
    """Draw a matrix in colour, first row at the top; a small one has its values written in.

    values         (rows, columns)
    unit           what the colours measure, written beside the colour bar
    rows, columns  names of the rows and columns instead of their numbers
    value_range    values at the two ends of the colours; a range around zero, like (-1, 1), is coloured from its middle

    Raises ValueError on a matrix that is not one, names that do not fit it and an empty alt text.
    """
    return _heatmaps({"": values}, title, x_label, y_label, alt, unit, rows, columns, value_range)


def grid(
    panels: Mapping[str, Data],
    *,
    title: str,
    x_label: str | Sequence[str],
    y_label: str | Sequence[str],
    alt: str,
    unit: str = "",
    rows: Sequence | None = None,
    columns: Sequence | None = None,
    value_range: tuple[float, float] | None = None,
) -> Picture:
    """Draw heatmaps side by side on one colour scale, so that equal colours mean equal values.

    panels            name -> (rows, columns); sizes may differ
    x_label, y_label  one for all panels, or one per panel where the axes mean different things
    rows, columns     names for the axes of the panels they fit

    The rest, and what is raised, as in `heatmap`.
    """
    return _heatmaps(panels, title, x_label, y_label, alt, unit, rows, columns, value_range)


def _heatmaps(panels, title, x_label, y_label, alt, unit, rows, columns, value_range) -> Picture:
    matrices = {name: _array(name or "values", data, 2) for name, data in panels.items()}
    if not matrices or any(matrix.size == 0 for matrix in matrices.values()):
        raise ValueError("nothing to draw: every panel needs at least one row and one column")
    for given, axis, kind in ((rows, 0, "rows"), (columns, 1, "columns")):
        sizes = sorted({matrix.shape[axis] for matrix in matrices.values()})
        if given is not None and len(given) not in sizes:
            raise ValueError(f"{kind} must have {' or '.join(map(str, sizes))} names, got {len(given)}")
    seen = np.concatenate([matrix[np.isfinite(matrix)] for matrix in matrices.values()])
    low, high = value_range or ((seen.min(), seen.max()) if seen.size else (0.0, 1.0))
    if value_range is None and low < 0 < high:
        low, high = -max(-low, high), max(-low, high)
    if low == high:
        low, high = low - 0.5, high + 0.5
    signed = np.isclose(low, -high)
    with _drawing(title, alt) as drawing:
        x_labels, y_labels = (_per_panel(label, len(matrices)) for label in (x_label, y_label))
        widths = [max(2.0, matrix.shape[1]) for matrix in matrices.values()]
        panes = drawing.figure.subplots(1, len(matrices), squeeze=False, width_ratios=widths)[0]
        room = (WIDTH - 1.2 - 0.3 * (len(matrices) - 1)) / sum(widths)  # inches a column gets
        for index, (axes, (name, matrix)) in enumerate(zip(panes, matrices.items(), strict=True)):
            image = axes.imshow(
                matrix,
                cmap="PuOr" if signed else "cividis",
                vmin=low,
                vmax=high,
                aspect="auto",
                interpolation="nearest",
            )
            if matrix.size <= ANNOTATED and room > 0.25:
                _write_values(axes, image, matrix, 8.0 if room > 0.36 else 6.6)
            _ticks(axes.set_xticks, columns, matrix.shape[1], 24 if room > 0.3 else 8)
            _ticks(axes.set_yticks, rows, matrix.shape[0], 16)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0, labelsize=8.5)
            axes.set_xlabel(x_labels[index])
            if index == 0 or not isinstance(y_label, str):
                axes.set_ylabel(y_labels[index])
            if name:
                axes.set_title(textwrap.fill(name, max(12, int(72 / len(matrices)))), fontsize=9.5, fontweight="normal")
        drawing.figure.colorbar(image, ax=list(panes), label=unit, pad=0.02, fraction=0.05).outline.set_visible(False)
        drawing.head(title)
        return drawing.picture()


class _drawing:
    """A figure that no window, backend or notebook knows of: it cannot be drawn twice and needs no display."""

    def __init__(self, title: str, alt: str):
        for name, text in (("title", title), ("alt", alt)):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{name} must say in words what the figure shows, got {text!r}")
        self.alt = " ".join(alt.split())
        self.style = matplotlib.rc_context(STYLE)

    def __enter__(self) -> "_drawing":
        self.style.__enter__()
        self.figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DOTS, layout="constrained")
        FigureCanvasAgg(self.figure)
        return self

    def __exit__(self, *reason) -> None:
        self.figure.clear()
        self.style.__exit__(*reason)

    def head(self, title: str) -> None:
        """The title over the whole width, in as few lines as fit and those of about equal length."""
        words, width = " ".join(title.split()), WIDTH * DOTS * 0.97
        text = self.figure.suptitle("", x=0.012, ha="left", fontsize=10.5, fontweight="bold")

        def measured(folded: str) -> float:
            text.set_text(folded)
            return text.get_window_extent(self.figure.canvas.get_renderer()).width

        if (whole := measured(words)) > width:
            guess = int(len(words) * width / whole * 1.2)
            widest = next((n for n in range(guess, 20, -1) if measured(textwrap.fill(words, n)) <= width), 20)
            lines = len(textwrap.wrap(words, widest))
            even = next(n for n in range(10, widest + 1) if len(textwrap.wrap(words, n)) == lines)
            text.set_text(textwrap.fill(words, even))

    def legend(self) -> None:
        """Below the axes, where it covers no data."""
        count = sum(len(axes.get_legend_handles_labels()[0]) for axes in self.figure.axes)
        self.figure.legend(loc="outside lower center", ncols=count if count < 4 else -(-count // 2), fontsize=8.5)

    def picture(self) -> Picture:
        file = io.BytesIO()
        self.figure.savefig(file, format="png", metadata={"Software": None, "Description": self.alt})
        return Picture(file.getvalue(), self.alt)


def _array(name: str, data: Data, axes: int) -> np.ndarray:
    if isinstance(data, Tensor):
        data = data.detach().to("cpu", torch.float64).numpy()
    elif isinstance(data, Sequence) and any(isinstance(item, Tensor) for item in data):
        data = [item.detach().to("cpu", torch.float64).numpy() for item in data]
    array = np.asarray(data, dtype=np.float64)
    if array.ndim != axes:
        raise ValueError(f"{name} must have {axes} {'axis' if axes == 1 else 'axes'}, got shape {array.shape}")
    return array


def _scale(axis, kind: str) -> None:
    known = ("linear", "log", "log reversed")
    if kind not in known:
        raise ValueError(f"a scale is one of {', '.join(map(repr, known))}, got {kind!r}")
    axis.axes.set(**{f"{axis.axis_name}scale": kind.split()[0]})
    axis.set_inverted(kind.endswith("reversed"))


def _ticks(set_ticks, names: Sequence | None, count: int, most: int) -> None:
    if names is not None and len(names) == count:
        set_ticks(range(count), [str(name) for name in names])
    else:
        set_ticks(range(0, count, -(-count // most)))


def _per_panel(label: str | Sequence[str], count: int) -> Sequence[str]:
    labels = [label] * count if isinstance(label, str) else list(label)
    if len(labels) != count:
        raise ValueError(f"give one axis label or {count}, one per panel, got {len(labels)}")
    return labels


def _write_values(axes, image, matrix: np.ndarray, size: float) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        axes.text(
            column, row, _short(value), ha="center", va="center", fontsize=size, color="white" if dark else "black"
        )


def _short(value: float) -> str:
    """At most two decimals and no zeros at the end; what is not 0 and rounds to it says so."""
    if value != 0 and abs(value) < 0.005:
        return "≈0"
    text = f"{value + 0.0:.2f}".rstrip("0").rstrip(".") if abs(value) < 1e4 else f"{value:.0e}"
    return text.replace("e+0", "e").replace("-", "−")
