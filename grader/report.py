"""What a judgement looks like: a short block in plain text, in HTML, and as JSON."""

import html
import inspect
import textwrap
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from grader.judge import Call, Exercise, Judgement, Verdict, describe
from grader.kill_matrix import SHOWN

WIDTH = 100
UNLOCKED = "this is the course's own solution: it counts as unlocked, not as earned"


@dataclass(frozen=True)
class Block:
    """Something to read: IPython shows the HTML, a terminal the text."""

    text: str
    html: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def points(value: float) -> str:
    return f"{value:g}"


def headline(judgement: Judgement) -> str:
    """One line: what was earned, and the seed that repeats it."""
    name, total = judgement.exercise.name, judgement.exercise.points
    if judgement.unwritten:
        return f"{name}: not written yet, 0 of {points(total)} points"
    held = sum(v.status == "passed" for v in judgement.verdicts)
    pending = sum(v.status == "pending" for v in judgement.verdicts)
    waiting = f", {pending} pending" if pending else ""
    return (f"{name}: {points(judgement.earned)} of {points(total)} points, {held} of {len(judgement.verdicts)} "
            f"properties hold{waiting} (seed {judgement.seed})")


def diagnosis_lines(verdict: Verdict, exercise: Exercise, first: bool) -> list[tuple[str, str]]:
    """The diagnosis of a failed property as (label, sentence); a recognised mistake is said once, with the first."""
    found = verdict.diagnosis
    lines = [("", found.because if first else f"{found.because} (this may follow from the failure above)")]
    if found.mistake and first:
        lines.append(("likely mistake", f"your output is exactly that of a version that {found.mistake}"))
    if found.expected or found.got:
        lines.append(("expected", found.expected))
        lines.append(("got", found.got))
    if found.where:
        lines.append(("where", found.where))
    if found.case and (found.case.arguments or found.case.keywords):
        lines.append(("called with", signature(exercise, found.case)))
    return lines


def signature(exercise: Exercise, call: Call) -> str:
    """The arguments of a call by name, with shapes."""
    return ", ".join(f"{name} {tuple(value.shape)}" if isinstance(value, Tensor) else f"{name} {describe(value)}"
                     for name, value in named_arguments(exercise, call).items())


def named_arguments(exercise: Exercise, call: Call) -> dict[str, Any]:
    """The arguments of a call by the names the exercise gives them."""
    return dict(inspect.signature(exercise.reference).bind_partial(*call.arguments, **call.keywords).arguments)


def next_step(judgement: Judgement, in_notebook: bool = True) -> str:
    """What the reader can type now."""
    name = judgement.exercise.name
    if judgement.note:
        return judgement.note
    if judgement.unwritten:
        return (f'write the cell above, without its `raise NotImplementedError()`, run it, then run this one again; '
                f'hint("{name}") helps')
    if judgement.passed or not any(v.status == "failed" for v in judgement.verdicts):
        return ""
    if not in_notebook:
        return f"check({name}, seed={judgement.seed}) in the notebook shows the same, with the failing arguments"
    return (f'c = case("{name}") holds the failing arguments: {name}(*c.arguments, **c.keywords); hint("{name}") '
            "helps one step at a time")


def as_block(judgement: Judgement) -> Block:
    return Block(as_text(judgement), as_html(judgement))


def as_text(judgement: Judgement, in_notebook: bool = True) -> str:
    """The whole judgement, every property on its line, the first failures in full."""
    lines, shown = [headline(judgement)], 0
    for verdict in [] if judgement.unwritten else judgement.verdicts:
        lines.append(f"  {verdict.status:8}{verdict.title}")
        if verdict.status == "failed" and shown < SHOWN:
            shown += 1
            for label, sentence in diagnosis_lines(verdict, judgement.exercise, shown == 1):
                prefix = f"{'':10}{label + ': ' if label else ''}"
                for part in sentence.split("\n"):
                    lines += textwrap.wrap(part, WIDTH, initial_indent=prefix, subsequent_indent=" " * 12) or [prefix]
                    prefix = " " * 12
    if step := next_step(judgement, in_notebook):
        lines += textwrap.wrap(step, WIDTH, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


STYLE = {"passed": "color:var(--jp-success-color1,#2e7d32)", "failed": "color:var(--jp-error-color1,#c62828)",
         "pending": "color:var(--jp-warn-color1,#b26a00)"}


def as_html(judgement: Judgement) -> str:
    """The same block for a notebook; words carry the verdicts, colour only helps."""
    rows, shown = [], 0
    for verdict in [] if judgement.unwritten else judgement.verdicts:
        row = (f'<span style="font-weight:600;{STYLE[verdict.status]}">{verdict.status}</span> '
               f"{html.escape(verdict.title)}")
        if verdict.status == "failed" and shown < SHOWN:
            shown += 1
            for label, sentence in diagnosis_lines(verdict, judgement.exercise, shown == 1):
                told = html.escape(sentence).replace("\n", "<br>")
                row += f'<div style="margin-left:1.5em">{f"<i>{label}</i>: " if label else ""}{told}</div>'
        rows.append(f'<li style="list-style:none;margin:0.15em 0">{row}</li>')
    step = next_step(judgement)
    return (f'<div style="border-left:3px solid currentColor;padding-left:0.8em">'
            f"<b>{html.escape(headline(judgement))}</b>"
            f'<ul style="margin:0.3em 0;padding-left:0">{"".join(rows)}</ul>'
            f"{f'<div>{html.escape(step)}</div>' if step else ''}</div>")


def as_json(judgement: Judgement) -> dict[str, Any]:
    """The judgement as plain data, for programs."""
    return {
        "exercise": judgement.exercise.identity, "seed": judgement.seed, "points": judgement.exercise.points,
        "earned": judgement.earned, "passed": judgement.passed, "written": not judgement.unwritten,
        "note": judgement.note,
        "properties": [{
            "title": v.title, "points": v.points, "status": v.status,
            "diagnosis": dict(because=v.diagnosis.because, expected=v.diagnosis.expected, got=v.diagnosis.got,
                              where=v.diagnosis.where, mistake=v.diagnosis.mistake) if v.diagnosis else None,
        } for v in judgement.verdicts],
    }


def prose(title: str, text: str, code: bool = False) -> Block:
    """A titled paragraph, or a titled piece of code."""
    body = f"<pre>{html.escape(text)}</pre>" if code else f"<div>{html.escape(text)}</div>"
    wrapped = text if code else "\n".join(textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  "))
    return Block(f"{title}\n{wrapped}", f"<div><b>{html.escape(title)}</b>{body}</div>")
