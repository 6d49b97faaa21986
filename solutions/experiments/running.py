"""Run an experiment's arms, one process each, resume what was interrupted, and keep what came out."""

import concurrent.futures
import difflib
import hashlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from solutions import experiments
from solutions.experiments import Arm, Experiment, Measures, Unknown, records
from solutions.files import write_whole

ROOT = Path(__file__).parents[2]

Say = Callable[[str, int, int, str], None]          # arm, done, of, words


def settings_of(experiment: Experiment, preset: str, overrides: dict[str, str]) -> dict[str, Any]:
    """A preset's settings with some replaced by values given as text. Raises Unknown for what is not there."""
    if preset not in experiment.presets:
        raise Unknown(f"{experiment.name} has no preset {preset!r}; there are {', '.join(experiment.presets)}")
    settings = dict(experiment.presets[preset])
    for name, text in overrides.items():
        if name not in settings:
            near = difflib.get_close_matches(name, settings, 3, 0.4)
            raise Unknown(f"{experiment.name} has no setting {name!r}; "
                          f"{'did you mean' if near else 'there are'} {', '.join(near or settings)}?")
        settings[name] = _value(name, text, settings[name])
    strays = set(settings["arms"]) - set(experiment.presets["paper"]["arms"])
    if strays or not settings["arms"]:
        raise Unknown(f"arms are some of {', '.join(experiment.presets['paper']['arms'])}, "
                      f"got {', '.join(sorted(strays)) or 'none'}")
    return settings


def _value(name: str, text: str, usual: Any) -> Any:
    kind = type(usual)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (list, tuple):
            parts = [part.strip() for part in text.split(",") if part.strip()]
            return kind(type(usual[0])(part) for part in parts)
        return kind(text)
    except (KeyError, ValueError):
        raise Unknown(f"{name} must be like {usual!r}, got {text!r}") from None


def seeds_of(text: str | None, count: int) -> list[int]:
    """Seeds from text such as 0-9 or 0,3,5; `count` of them from 0 where there is none. Raises Unknown."""
    if text is None:
        return list(range(count))
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise Unknown(f"seeds are like 0-9 or 0,3,5, got {text!r}")
        seeds += range(int(first), int(last if dash else first) + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise Unknown(f"seeds must be one or more, each once, got {text!r}")
    return seeds


def run(experiment: Experiment, preset: str = "laptop", *, seeds: str | None = None,
        overrides: dict[str, str] | None = None, device: str = "cpu", jobs: int | None = None,
        runs: Path = ROOT / "runs", say: Say = lambda arm, done, of, words: None) -> tuple[dict[str, Any], Path]:
    """Run every arm, or go on where an earlier run of the same settings stopped.

    seeds      as for seeds_of; the preset's number of them otherwise
    overrides  settings to replace, as text
    jobs       arms at once, each in a process with one thread; None: one per core, but 1 on a GPU and at smoke
    runs       folder of all runs; this one gets a folder of its own there, named by its settings
    say        told how far every arm is
    returns    the result, and the folder with its result.json and figure.png

    What an arm measured is kept apart, in runs/arms, so that experiments that train the same models share them; a
    change of the experiment's code starts anew.

    Raises Unknown on names, settings or seeds that are not there, and whatever an arm raises.
    """
    settings = settings_of(experiment, preset, overrides or {})
    chosen = seeds_of(seeds, settings["seeds"])
    if device == "cuda" and not torch.cuda.is_available():
        raise Unknown("there is no CUDA device here; leave --device out to run on the CPU")
    folder = Path(runs) / experiment.name / f"{preset}-{_digest(settings, chosen, device)}"
    arms = [Arm(name, settings, chosen, device, place(Path(runs), experiment, name, settings, chosen, device))
            for name in settings["arms"]]
    jobs = jobs or (1 if device == "cuda" or preset == "smoke" else min(len(arms), os.cpu_count() or 1))
    spent = _run_here(experiment, arms, say) if jobs == 1 else _run_apart(experiment, arms, jobs, say)
    measures = {arm.name: json.loads(_done(arm).read_text())["measures"] for arm in arms}
    verdict, finding = experiment.judge(measures)
    result = {
        "experiment": experiment.name, "claim": experiment.claim, "source": experiment.source,
        "paper": experiment.paper, "criterion": experiment.criterion, "verdict": verdict, "finding": finding,
        "preset": preset, "changed": dict(overrides or {}), "settings": settings, "seeds": chosen, "device": device,
        "seconds": round(sum(spent)), "commit": commit(), "hardware": hardware(device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__}, "measures": measures,
    }
    write_whole(folder / "result.json", records.as_text(result))
    write_whole(folder / "figure.png", experiment.figure(measures).png)
    return result, folder


# arms -------------------------------------------------------------------------------------------------------------

def place(runs: Path, experiment: Experiment, arm: str, settings: dict, seeds: list[int], device: str) -> Path:
    """The file for the state of an arm: the same for whoever runs the same code with the same settings."""
    subject = experiment.name.partition(".")[0]
    here, solutions = Path(__file__).parent, ROOT / "solutions"
    code = [*sorted(solutions.glob("*.py")), *sorted((solutions / "tasks").glob("*.py")), here / "ensemble.py",
            here / f"{subject}.py", *sorted((here / subject).glob("*.py"))]
    own = {name: value for name, value in settings.items() if name not in ("arms", "seeds")}
    key = _digest(own, seeds, device, torch.__version__, *(path.read_text() for path in code if path.exists()))
    return runs / "arms" / f"{subject}.{experiment.run.__name__}.{arm}-{key}.pt"


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _done(arm: Arm) -> Path:
    return arm.store.with_suffix(".json")


def _run_here(experiment: Experiment, arms: list[Arm], say: Say) -> list[float]:
    return [_run_arm(experiment, arm, lambda *how, arm=arm: say(arm.name, *how)) for arm in arms]


def _run_apart(experiment: Experiment, arms: list[Arm], jobs: int, say: Say) -> list[float]:
    """Every arm in a process of its own; how far it is stands in a small file beside its state."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting = {pool.submit(_arm_apart, experiment.name, arm.name, arm.settings, arm.seeds, arm.device, arm.store)
                   for arm in arms}
        everything = list(waiting)
        try:
            while waiting:
                ended, waiting = concurrent.futures.wait(waiting, timeout=0.5)
                for arm in arms:
                    try:
                        say(arm.name, *json.loads(arm.store.with_suffix(".progress").read_text()))
                    except (OSError, ValueError):
                        continue
                for future in ended:
                    future.result()
        except BaseException:                       # what has not begun need not begin after an error or a Ctrl-C
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        return [future.result() for future in everything]


def _arm_apart(name: str, arm: str, settings: dict[str, Any], seeds: list[int], device: str, store: Path) -> float:
    torch.set_num_threads(1)
    beside = store.with_suffix(".progress")

    def progress(*how: Any) -> None:
        if not multiprocessing.parent_process().is_alive():
            sys.exit("whoever asked for this arm is gone; its state is kept")
        write_whole(beside, json.dumps(how))

    return _run_arm(experiments.find(name), Arm(arm, settings, seeds, device, store), progress)


def _run_arm(experiment: Experiment, arm: Arm, progress: Callable[[int, int, str], None]) -> float:
    """The seconds an arm took, over all the runs it needed; its measures are in its file."""
    if _done(arm).exists():
        seconds = json.loads(_done(arm).read_text())["seconds"]
        progress(1, 1, "done before")
        return seconds
    clock, start = arm.store.with_suffix(".seconds"), time.monotonic()
    before = float(clock.read_text()) if clock.exists() else 0.0

    def going(*how: Any) -> None:
        write_whole(clock, str(before + time.monotonic() - start))
        progress(*how)

    measures: Measures = experiment.run(Arm(arm.name, arm.settings, arm.seeds, arm.device, arm.store, going))
    seconds = before + time.monotonic() - start
    write_whole(_done(arm), json.dumps({"measures": measures, "seconds": seconds}))
    progress(1, 1, "done")
    return seconds


# where it ran -----------------------------------------------------------------------------------------------------

def commit() -> str:
    """The commit the code is at, with a + when files differ from it; "unknown" outside a checkout."""
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    try:
        changed = git("status", "--porcelain", "--", "solutions", "kernels", ":!solutions/results",
                      ":!solutions/checkpoints")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def hardware(device: str) -> str:
    """The processor, or the GPU, in words."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"
