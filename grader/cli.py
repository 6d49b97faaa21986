"""The `course` command."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from grader import lessons
from grader.lessons import ROOT
from grader.names import CourseError, UnknownName, nearest

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Systematic: build, check and follow the lessons of this course.")

LessonName = Annotated[str, typer.Argument(help="a lesson: 01, dnc, 01_dnc or a notebook's path", metavar="LESSON")]


@app.command()
def lab(
    browser: Annotated[bool, typer.Option(help="open a browser; --no-browser for servers")] = True,
    port: Annotated[int | None, typer.Option(help="the port to listen on")] = None,
) -> None:
    """Lay the lessons in work/ and open JupyterLab at the first."""
    from grader import lab as jupyter
    from grader import workbook

    for lesson in lessons.all_lessons():
        print(workbook.start(lesson))
    first = workbook.notebook_of(lessons.all_lessons()[0])
    raise typer.Exit(jupyter.open_lab(first, ROOT, browser=browser, port=port))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(context: typer.Context) -> None:
    """Run the whole test suite; what follows is passed to pytest (-m slow runs the rest)."""
    from grader import lab as jupyter

    raise typer.Exit(jupyter.run_tests(ROOT, context.args))


@app.command()
def doctor() -> None:
    """Check this machine and this installation; every failure comes with its fix."""
    from grader import doctor as clinic

    findings = clinic.diagnose()
    print(clinic.report(findings))
    raise typer.Exit(any(finding.needed and not finding.ok for finding in findings))


@app.command()
def start(
    lesson: LessonName,
    reset: Annotated[str | None, typer.Option(metavar="EXERCISE", help="put this exercise's cell back")] = None,
) -> None:
    """Copy a lesson to work/, never over a notebook that was changed."""
    from grader import workbook

    found = lessons.find(lesson)
    print(workbook.reset(found, _exercise_of(found, reset)) if reset is not None else workbook.start(found))


def _exercise_of(lesson: lessons.Lesson, name: str) -> str:
    """The identity of an exercise of this lesson by its identity or definition name."""
    known = [cell.id for cell in lessons.exercises(lesson.notebook)]
    for identity in known:
        if name in (identity, identity.partition("-")[2]):
            return identity
    raise UnknownName(nearest(f"exercise in lesson {lesson.name}", name, [i.partition("-")[2] for i in known]))


@app.command()
def check(
    lesson: LessonName,
    as_json: Annotated[bool, typer.Option("--json", help="print the verdicts as JSON")] = False,
    seed: Annotated[int | None, typer.Option(help="repeat an earlier check", min=0)] = None,
) -> None:
    """Run your definitions of a lesson in a fresh process and print every property; exit code 0 if all passed."""
    from grader import judge, lesson_check, progress, report, workbook

    found = lessons.find(lesson)
    path = Path(lesson) if lesson.endswith(".ipynb") else workbook.notebook_of(found)
    seed = judge.chosen_seed(seed)
    judgements = []
    for judgement, source in lesson_check.check_notebook(path, found, seed):
        judgements.append(judgement)
        if judgement.own and path.resolve() == workbook.notebook_of(found).resolve():
            try:
                progress.save_judgement(progress.records(progress.WORK), judgement, source)
            except OSError as error:
                judgement.note += f"; your progress could not be saved: {error.strerror or error}".removeprefix(
                    "" if judgement.note else "; ")
        if not as_json:
            print(report.as_text(judgement, in_notebook=False) + "\n", flush=True)
    passed = all(judgement.passed for judgement in judgements)
    if as_json:
        print(json.dumps({"lesson": found.name, "seed": seed, "passed": passed,
                          "exercises": [report.as_json(judgement) for judgement in judgements]}, indent=1))
    else:
        earned, total = sum(j.earned for j in judgements), sum(j.exercise.points for j in judgements)
        print(f"{found.name}: {earned:g} of {total:g} points, "
              f"{sum(j.passed for j in judgements)} of {len(judgements)} exercises done")
    raise typer.Exit(0 if passed else 1)


@app.command()
def status() -> None:
    """Per lesson and exercise: earned, unlocked, stale (edited since checked), begun or left."""
    from grader import status as state

    Console().print(state.table(state.all_states()))


@app.command()
def build(check: Annotated[bool, typer.Option("--check", help="write nothing; fail if a notebook differs")] = False
          ) -> None:
    """Weave all lessons into their notebooks."""
    from grader import weave

    said = weave.build(ROOT, check=check)
    print("\n".join(said) if said else "all notebooks are what their sources give")
    raise typer.Exit(bool(check and said))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def run(context: typer.Context) -> None:
    """Run experiments, for example `course run dnc.copy --seeds 0-2`; `course run --help` tells the rest."""
    from grader import bars
    from solutions.experiments.__main__ import main as run_experiments

    raise typer.Exit(run_experiments(context.args, "course run", bars.reporter()))


@app.command()
def bench(
    subject: Annotated[str, typer.Argument(help="what to measure; all subjects without one")] = "",
    rounds: Annotated[int, typer.Option(help="measurements of each; the fastest counts", min=1)] = 7,
) -> None:
    """Measure speed and memory, each as a ratio to an alternative in the same run."""
    from solutions import bench as benchmark

    known = benchmark.subjects()
    if subject and subject not in known:
        raise UnknownName(nearest("benchmark", subject, known))
    for name in [subject] if subject else known:
        print("\n".join(benchmark.lines(name, rounds)), flush=True)


@app.command()
def results(
    as_json: Annotated[bool, typer.Option("--json", help="print the recorded results as JSON")] = False,
    write: Annotated[bool, typer.Option("--write", help="write solutions/results/README.md from the records")] = False,
    kill_matrix: Annotated[bool, typer.Option("--kill-matrix", help="checks against mutants instead; exit code 1 "
                                                                    "while a check is not proven")] = False,
    lesson: Annotated[str | None, typer.Option(help="with --kill-matrix: only this lesson's exercises")] = None,
) -> None:
    """Show which claims of the papers were seen here, not seen, contradicted, or never run."""
    if kill_matrix:
        raise typer.Exit(_prove_checks(lesson))
    from solutions.experiments import records, table

    if write:
        from solutions.files import write_whole
        write_whole(records.RESULTS / "README.md", table.as_markdown())
    if as_json:
        print(json.dumps(table.rows(), indent=1, ensure_ascii=False))
    else:
        Console().print(_results_table(table.rows()))


def _results_table(rows: list[dict]) -> Table:
    from solutions.experiments import table

    made = Table(title="claims of the papers", title_justify="left",
                 caption="findings and commands: --json, or solutions/results/README.md", caption_justify="left")
    for heading in ("experiment", "claim", "run", "verdict"):
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(row["experiment"], escape(row["claim"]), table.how(row), row["verdict"])
    return made


def _prove_checks(lesson: str | None) -> int:
    """Print the kill matrix of every exercise, or of one lesson's; 1 when a check is not proven."""
    from grader import judge
    from grader import kill_matrix as matrix

    wanted = judge.exercises().values()
    if lesson:
        identities = {cell.id for cell in lessons.exercises(lessons.find(lesson).notebook)}
        wanted = [exercise for exercise in wanted if exercise.identity in identities]
    rows, console = [], Console()
    for exercise in wanted:
        rows.append(matrix.prove(exercise))
        console.print(_kill_table(rows[-1]))
    problems = [f"{row.exercise.identity}: {problem}" for row in rows for problem in row.problems]
    for problem in problems:
        console.print(problem, markup=False, highlight=False)
    named, operators = sum(len(row.failures) for row in rows), sum(row.operators for row in rows)
    console.print(f"{len(rows)} exercises, {named} named mutants, {operators} operator mutants, "
                  f"{len(problems)} problems", highlight=False)
    return int(bool(problems))


def _kill_table(row) -> Table:
    """Mutants down, properties across: the first failure is 1, the second 2."""
    titles = [law.title for law in row.exercise.properties]
    table = Table(title=f"{row.exercise.identity}: {row.operators} operator mutants, "
                        f"{row.operators_equivalent} of them equivalent", title_justify="left",
                  caption="\n".join(f"{i} {title}" for i, title in enumerate(titles, 1)), caption_justify="left")
    table.add_column("mutant")
    for index in range(1, len(titles) + 1):
        table.add_column(str(index), justify="center")
    for mutant, failed in row.failures.items():
        table.add_row(mutant, *["x" if title in failed else "." for title in titles])
    return table


def main() -> None:
    """Run the command; whatever a user can mend ends in one sentence and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")       # a learner's text must never end in a traceback of ours
    try:
        app(prog_name="course")
    except CourseError as error:
        sys.exit(_say(str(error)))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(_say(f"{place}{error.strerror or error}; nothing was changed there"))


def _say(sentence: str) -> int:
    print(f"course: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
