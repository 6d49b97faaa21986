"""Run experiments from a shell: `python -m solutions.experiments dnc.copy --preset laptop`."""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from solutions import experiments
from solutions.experiments import Unknown, records, running

Reporter = Callable[[list[str]], AbstractContextManager[running.Say]]


def parser(program: str) -> argparse.ArgumentParser:
    parsed = argparse.ArgumentParser(prog=program, description="Run claims of the papers and judge them.")
    parsed.add_argument("names", nargs="*", metavar="EXPERIMENT", help="dnc.copy, or dnc for all of a lesson; "
                        "without a name, all are listed")
    parsed.add_argument("--preset", default="laptop", help="smoke (seconds), laptop (minutes) or paper (a GPU)")
    parsed.add_argument("--seeds", help="0-9 or 0,3,5; otherwise as many as the preset has")
    parsed.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="changes",
                        help="replace a setting; may be given several times")
    parsed.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parsed.add_argument("--jobs", type=int, help="arms at once; one per core on the CPU otherwise")
    parsed.add_argument("--record", action="store_true", help="keep the result in solutions/results")
    return parsed


def main(arguments: Sequence[str] | None = None, program: str = "python -m solutions.experiments",
         reporter: Reporter | None = None) -> int:
    """Run what the arguments ask for; 0, or 2 after a sentence about what cannot be run."""
    asked = parser(program).parse_args(arguments)
    try:
        if not asked.names:
            print(listing())
            return 0
        for experiment in chosen(asked.names, asked.preset):
            changes = dict(change.partition("=")[::2] for change in asked.changes)
            arms = running.settings_of(experiment, asked.preset, changes)["arms"]
            print(f"{experiment.name}: {experiment.claim} ({experiment.source}).", flush=True)
            with (reporter or plain)(arms) as say:
                result, folder = running.run(experiment, asked.preset, seeds=asked.seeds, overrides=changes,
                                             device=asked.device, jobs=asked.jobs, say=say)
            print(told(result), flush=True)
            print(f"  kept in   {folder}", flush=True)
            if asked.record:
                for path in keep(experiment, result, running.ROOT / "runs"):
                    print(f"  recorded  {path}", flush=True)
    except Unknown as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted; the same command goes on from the last measurement", file=sys.stderr)
        return 130
    return 0


def keep(experiment: experiments.Experiment, result: dict, runs: Path) -> list[Path]:
    """Record a result and the models that a lesson looks into; what was written."""
    kept = [records.record(result)]
    for arm, index in experiment.ship(result["measures"]).items():
        state = running.place(runs, experiment, arm, result["settings"], result["seeds"], result["device"])
        made_by = f"{records.command(result)}; seed {result['seeds'][index]} of {arm}, commit {result['commit']}"
        kept.append(records.keep_model(f"{experiment.name}.{arm}", state, index, made_by))
    return kept


def chosen(names: Sequence[str], preset: str) -> list[experiments.Experiment]:
    """The experiments of these names; a name without a dot stands for all of a lesson that have the preset."""
    found = []
    for name in names:
        family = [each for each in experiments.experiments().values()
                  if each.name.startswith(f"{name}.") and preset in each.presets]
        found += family or [experiments.find(name)]
    return found


def listing() -> str:
    """Every experiment and its claim."""
    known = experiments.experiments()
    width = max(map(len, known))
    return "\n".join(f"{name:{width}}  {each.claim} ({each.source}; {', '.join(each.presets)})"
                     for name, each in known.items())


def told(result: dict) -> str:
    """What came out beside what the text says."""
    width = min(120, shutil.get_terminal_size().columns)
    rows = [("verdict", result["verdict"].upper()), ("here", result["finding"]), ("thesis", result["paper"]),
            ("rule", result["criterion"]),
            ("run", f"{result['preset']}, seeds {', '.join(map(str, result['seeds']))}, {result['seconds']} s of "
                    f"{result['hardware']}, commit {result['commit']}")]
    return "\n".join(textwrap.fill(text, width, initial_indent=f"  {name:9} ", subsequent_indent=" " * 12)
                     for name, text in rows)


def plain(arms: list[str]) -> AbstractContextManager[running.Say]:
    """A line for every tenth of an arm, for shells without a terminal."""
    last: dict[str, int] = {}

    def say(arm: str, done: int, of: int, words: str) -> None:
        tenth = 10 * done // of
        if last.get(arm) != tenth:
            last[arm] = tenth
            print(f"  {arm:9} {10 * tenth:3} %  {words}", flush=True)
    return nullcontext(say)


if __name__ == "__main__":
    sys.exit(main())
