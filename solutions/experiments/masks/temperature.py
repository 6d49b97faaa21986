"""Whether the temperature of a soft sample only scales its gradient (appendix B.1.4)."""

from statistics import median

import torch

from solutions import plots
from solutions.experiments import CONTRADICTED, NOT_SEEN, SEEN, Arm, Experiment, Measures, register
from solutions.experiments.ensemble import generator, rounded
from solutions.masks import gumbel_sigmoid, uniform_pairs
from solutions.plots import Picture

LOGITS = [0.0, 2.0, 4.0]


def gradients(arm: Arm) -> Measures:
    """The mean of ds/dl at three logits, for the temperature that the arm is named after."""
    temperature, slopes = float(arm.name), []
    for seed in arm.seeds:
        logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
        uniforms = uniform_pairs(logits, (arm.settings["draws"],), generator(seed))
        gumbel_sigmoid(logits, uniforms, temperature).mean(0).sum().backward()
        slopes.append(rounded(logits.grad))
    arm.progress(1, 1, f"slope at 0: {slopes[0][0]:.3f}")
    return {"logits": LOGITS, "slopes": slopes}


def judge_temperature(measures: dict[str, Measures]) -> tuple[str, str]:
    ratios = {name: median(slopes[0] / slopes[-1] for slopes in found["slopes"]) for name, found in measures.items()}
    told = ", ".join(f"{ratio:.1f} at temperature {name}" for name, ratio in ratios.items())
    changed = max(ratios.values()) / min(ratios.values())
    verdict = CONTRADICTED if changed > 2 else SEEN if changed < 1.1 else NOT_SEEN
    return verdict, f"slope at logit 0 over slope at logit 4: {told}; one factor for all would leave it the same"


def temperature_figure(measures: dict[str, Measures]) -> Picture:
    lines = {f"temperature {name}": [median(each) for each in zip(*found["slopes"], strict=True)]
             for name, found in measures.items()}
    return plots.lines(
        LOGITS, lines, title="The mean gradient of a sample, by logit and temperature",
        x_label="logit", y_label="mean ds/dl",
        alt="Mean gradient of a soft sample at logits 0, 2 and 4, one line per temperature: low temperatures fall "
            "steeply, high ones hardly.")


TEMPERATURES = ["0.1", "0.5", "1", "2"]
register(Experiment(
    name="masks.temperature",
    claim="The temperature can be chosen freely, because it only multiplies the gradient by a factor",
    source="thesis appendix B.1.4",
    paper="an argument, no measurement",
    criterion="the ratio of the mean gradients at logits 0 and 4 changes by less than a tenth between temperatures 0.1 "
              "and 2; contradicted when it more than doubles",
    presets={
        "smoke": dict(arms=TEMPERATURES, seeds=2, iterations=1, draws=20_000),
        "laptop": dict(arms=TEMPERATURES, seeds=5, iterations=1, draws=1_000_000),
        "paper": dict(arms=TEMPERATURES, seeds=5, iterations=1, draws=4_000_000)},
    run=gradients, judge=judge_temperature, figure=temperature_figure))
