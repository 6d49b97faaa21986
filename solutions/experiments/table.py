"""The recorded results of the course, in one table: what was seen, by whom, and what nobody has run yet."""

import json
from typing import Any

from solutions import experiments
from solutions.experiments import PRESETS, records

PENDING = "pending"


def rows() -> list[dict[str, Any]]:
    """One row per experiment and preset worth recording (smoke is not); what was never run is pending."""
    found = []
    for experiment in experiments.experiments().values():
        for preset in PRESETS[1:]:
            path = records.RESULTS / f"{experiment.name}.{preset}.json"
            if path.exists():
                result = json.loads(path.read_text())
                found.append({name: value for name, value in result.items() if name not in ("measures", "settings")})
            elif preset in experiment.presets:
                command = f"course run {experiment.name} --preset {preset} --record"
                if preset == "paper":
                    command += " --device cuda"
                found.append({"experiment": experiment.name, "claim": experiment.claim, "source": experiment.source,
                              "preset": preset, "verdict": PENDING, "command": command})
    return found


def how(row: dict[str, Any]) -> str:
    """Preset, changes and seeds of a row, short."""
    if row["verdict"] == PENDING:
        return row["preset"]
    changes = "".join(f", {name} {value}" for name, value in row["changed"].items())
    return f"{row['preset']}{changes}, {len(row['seeds'])} seed{'s' * (len(row['seeds']) != 1)}"


def as_markdown() -> str:
    """The table as it stands in solutions/results/README.md."""
    lines = ["# Results", "",
             "Written by `course results --write` from the records beside it; `course run NAME --record` makes a "
             "record. A claim is *seen*, *not seen* or *contradicted* by a rule that is fixed in its experiment.", "",
             "| experiment | claim | run | verdict |", "|---|---|---|---|"]
    found = rows()
    for row in found:
        lines.append(f"| {row['experiment']} | {row['claim']} ({row['source']}) | {how(row)} | {row['verdict']} |")
    for row in found:
        lines += ["", f"## {row['experiment']}, {row['preset']}", ""]
        if row["verdict"] == PENDING:
            lines += [f"Pending: `{row['command']}`"]
            continue
        lines += [f"{row['claim']} ({row['source']}).", "",
                  f"- **{row['verdict']}**: {row['finding']}",
                  f"- the text: {row['paper']}", f"- the rule: {row['criterion']}",
                  f"- `{records.command(row)}`, "
                  f"{row['seconds']} s of {row['hardware']}, torch {row['versions']['torch']}, commit {row['commit']}"]
    return "\n".join(lines) + "\n"
