"""What is kept of a run in the repository: its result, and small trained models that a lesson looks into."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from solutions.experiments import Unknown
from solutions.files import write_whole

RESULTS = Path(__file__).parents[1] / "results"
CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
LARGEST = 1_000_000                     # bytes of one checkpoint


def as_text(result: dict[str, Any]) -> str:
    """JSON with a line per field and per arm, so that two records can be compared line by line."""
    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    arms = ",\n".join(f"  {line(name)}: {line(measures)}" for name, measures in result["measures"].items())
    fields = [f" {line(name)}: {line(value)}" for name, value in result.items() if name != "measures"]
    return "{\n" + ",\n".join([*fields, f' "measures": {{\n{arms}\n }}']) + "\n}\n"


def record(result: dict[str, Any]) -> Path:
    """Keep a result in solutions/results, one per experiment and preset."""
    path = RESULTS / f"{result['experiment']}.{result['preset']}.json"
    write_whole(path, as_text(result))
    return path


def recorded(name: str, preset: str = "laptop") -> dict[str, Any]:
    """The recorded result of an experiment. Raises Unknown when there is none."""
    path = RESULTS / f"{name}.{preset}.json"
    if not path.exists():
        raise Unknown(f"no run of {name} at {preset} is recorded; `course run {name} --preset {preset} --record` "
                      "makes one")
    return json.loads(path.read_text(encoding="utf-8"))


def command(result: dict[str, Any]) -> str:
    """The command that makes this record."""
    seeds = ",".join(map(str, result["seeds"]))
    changes = "".join(f" --set {name}={value}" for name, value in result["changed"].items())
    device = "" if result["device"] == "cpu" else f" --device {result['device']}"
    return f"course run {result['experiment']} --preset {result['preset']} --seeds {seeds}{changes}{device} --record"


def keep_model(name: str, state: Path, index: int, made_by: str) -> Path:
    """Keep one model of a trained ensemble as solutions/checkpoints/NAME.safetensors.

    state    the file in which the training kept its state
    index    which model
    made_by  the command, kept with the parameters

    Raises ValueError on a model of more than 1 MB.
    """
    from safetensors.torch import save

    stacked = torch.load(state, map_location="cpu", weights_only=True)["parameters"]
    content = save({key: value[index].detach().contiguous() for key, value in stacked.items()}, {"made_by": made_by})
    if len(content) > LARGEST:
        raise ValueError(f"a checkpoint may have {LARGEST} bytes, {name} has {len(content)}")
    path = CHECKPOINTS / f"{name}.safetensors"
    write_whole(path, content)
    return path


def checkpoint(name: str) -> dict[str, Tensor]:
    """The parameters of a trained model that comes with the course. Raises Unknown with those that there are."""
    from safetensors.torch import load_file

    path = CHECKPOINTS / f"{name}.safetensors"
    if not path.exists():
        known = ", ".join(sorted(each.stem for each in CHECKPOINTS.glob("*.safetensors")))
        raise Unknown(f"there is no checkpoint {name!r}; there are {known or 'none'}")
    return load_file(path)
