"""Models trained together are models trained alone, runs go on where they stopped, verdicts follow rules."""

import json
import math

import pytest
import torch
from torch import nn

from solutions import experiments
from solutions.dnc import DNC, DNCState
from solutions.experiments import (
    CONTRADICTED,
    NOT_SEEN,
    PRESETS,
    SEEN,
    Arm,
    Unknown,
    dnc,
    records,
    running,
    superiority,
    table,
)
from solutions.experiments.__main__ import main
from solutions.experiments.ensemble import Ensemble, clip_each, first_below, train
from solutions.tasks.copy import repeated_copy
from solutions.tasks.key_value import key_value

torch.set_num_threads(1)
ALL = list(experiments.experiments().values())
RECORDS = sorted(records.RESULTS.glob("*.json"))


def small() -> DNC:
    return DNC(3, 2, cells=4, word=3, controller_size=5, mask=True, deallocation=True, sharpness=True).double()


def inputs(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# models trained at once -------------------------------------------------------------------------------------------

def test_a_member_of_an_ensemble_is_the_model_of_its_seed():
    ensemble, x = Ensemble(small, [3, 8]), inputs(2, 6, 4, 3)
    together = ensemble(x)
    for index, seed in enumerate((3, 8)):
        torch.manual_seed(seed)
        alone = small()
        torch.testing.assert_close(together[index], alone(x[index])[0])
        torch.testing.assert_close(ensemble.member(index)(x[index])[0], alone(x[index])[0])


def trained(seeds: list[int], iterations: int = 6, **options) -> dict:
    def loss(models, iteration):
        x = torch.stack([inputs(5, 2, 3, seed=100 * seed + iteration) for seed in seeds])
        return (models(x) - 100 * x[..., :2]).square().mean((1, 2, 3))

    def evaluate(models):
        return {"size": models(inputs(1, 5, 2, 3).expand(len(seeds), -1, -1, -1)).square().mean((1, 2, 3))}

    return train(Ensemble(small, seeds), loss, evaluate, iterations=iterations, every=2,
                 optimiser=lambda parameters: torch.optim.Adam(parameters.values(), lr=0.05), clip=1.0, **options)


def test_training_together_is_training_alone():
    together = trained([1, 2, 5])
    assert together["iteration"] == [2, 4, 6]
    for index, seed in enumerate((1, 2, 5)):
        alone = trained([seed])
        assert [sizes[index] for sizes in together["size"]] == pytest.approx([size for [size] in alone["size"]], 1e-4)


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    whole, store = trained([1, 2]), tmp_path / "state.pt"

    class Stopped(Exception):
        pass

    def stop(iteration, measures):
        if iteration == 4:
            raise Stopped

    with pytest.raises(Stopped):
        trained([1, 2], store=store, progress=stop)
    told = []
    assert trained([1, 2], store=store, progress=lambda iteration, measures: told.append(iteration)) == whole
    assert told == [6]


def test_gradients_are_clipped_model_by_model_over_all_parameters():
    weights, biases = torch.tensor([[3.0, 0.0], [0.3, 0.0]]), torch.tensor([4.0, 0.4])
    clip_each([weights, biases], 1.0)
    torch.testing.assert_close(weights, torch.tensor([[0.6, 0.0], [0.3, 0.0]]))
    torch.testing.assert_close(biases, torch.tensor([0.8, 0.4]))


def test_a_model_that_breaks_down_takes_no_other_with_it_and_all_together_are_an_error():
    def losses(broken):
        def loss(models, iteration):
            values = models(inputs(2, 3, 1, 3)).square().mean((1, 2, 3))
            return values * torch.tensor([math.nan if each else 1.0 for each in broken])
        return loss

    def run(broken):
        ensemble = Ensemble(Plain, [0, 1])
        train(ensemble, losses(broken), lambda models: {}, iterations=2, every=1,
              optimiser=lambda parameters: torch.optim.SGD(parameters.values(), lr=0.1))
        return ensemble.parameters["layer.weight"].detach().flatten(1).isfinite().all(1).tolist()

    assert run([True, False]) == [False, True]
    with pytest.raises(FloatingPointError, match="no model has a finite loss at iteration 1"):
        run([True, True])


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2).double()

    def forward(self, x):
        return self.layer(x), None


def test_the_first_time_under_a_threshold():
    assert first_below([100, 200, 300], [0.5, 0.009, 0.2]) == 200
    assert first_below([100], [0.01]) == math.inf


# running ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("experiment", ALL, ids=lambda each: each.name)
def test_every_experiment_runs_and_is_kept(experiment, tmp_path):
    told = []
    result, folder = running.run(experiment, "smoke", runs=tmp_path, say=lambda *how: told.append(how))
    assert result["verdict"] in (SEEN, NOT_SEEN, CONTRADICTED)
    assert set(result["measures"]) == set(experiment.presets["smoke"]["arms"])
    assert result["seeds"] == list(range(experiment.presets["smoke"]["seeds"]))
    assert json.loads((folder / "result.json").read_text()) == result
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(told) >= 2 * len(result["measures"])
    # a second run has nothing left to train
    told.clear()
    again, _ = running.run(experiment, "smoke", runs=tmp_path, say=lambda *how: told.append(how))
    assert again["measures"] == result["measures"]
    assert {how[-1] for how in told} == {"done before"}


def test_processes_side_by_side_measure_what_one_process_does(tmp_path):
    experiment = experiments.find("dnc.key_value")
    apart, _ = running.run(experiment, "smoke", runs=tmp_path / "apart", jobs=2)
    here, _ = running.run(experiment, "smoke", runs=tmp_path / "here", jobs=1)
    assert apart["measures"] == here["measures"]


def test_experiments_that_train_the_same_models_share_them(tmp_path):
    told = []
    running.run(experiments.find("dnc.copy"), "smoke", runs=tmp_path, overrides={"arms": "DNC,DNC-D"})
    running.run(experiments.find("dnc.forgetting"), "smoke", runs=tmp_path, say=lambda *how: told.append(how))
    assert {how[0] for how in told if how[-1] == "done before"} == {"DNC", "DNC-D"}


@pytest.mark.parametrize("experiment", ALL, ids=lambda each: each.name)
def test_presets_agree_on_their_settings_and_have_what_a_run_needs(experiment):
    assert set(experiment.presets) <= set(PRESETS)
    assert {"smoke", "paper"} <= set(experiment.presets)
    names = {preset: set(settings) for preset, settings in experiment.presets.items()}
    assert len(set(map(frozenset, names.values()))) == 1, names
    assert {"arms", "seeds", "iterations"} <= names["paper"]
    for settings in experiment.presets.values():
        assert set(settings["arms"]) <= set(experiment.presets["paper"]["arms"])


@pytest.mark.parametrize(("text", "seeds"), [
    (None, [0, 1, 2]), ("4", [4]), ("0-3", [0, 1, 2, 3]), ("7, 2-3", [7, 2, 3])])
def test_seeds_are_read(text, seeds):
    assert running.seeds_of(text, 3) == seeds


@pytest.mark.parametrize(("arguments", "message"), [
    (["dnc.cpy"], "there is no experiment 'dnc.cpy'; did you mean dnc.copy"),
    (["dnc.babi"], "dnc.babi has no preset 'laptop'; there are smoke, paper"),
    (["dnc.copy", "--set", "iteration=3"], "has no setting 'iteration'; did you mean iterations"),
    (["dnc.copy", "--set", "length=a,b"], "length must be like [2, 6], got 'a,b'"),
    (["dnc.copy", "--set", "same_length=maybe"], "same_length must be like True, got 'maybe'"),
    (["dnc.copy", "--set", "arms=DNC,LSTM"], "arms are some of DNC, DNC-D, DNC-M"),
    (["dnc.copy", "--set", "arms="], "got none"),
    (["dnc.copy", "--seeds", "3,3"], "seeds must be one or more, each once, got '3,3'"),
    (["dnc.copy", "--seeds", "a"], "seeds are like 0-9 or 0,3,5, got 'a'"),
])
def test_what_cannot_be_run_is_said_in_a_sentence(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_without_a_name_all_are_listed(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(experiment.name in shown and experiment.claim in shown for experiment in ALL)


def test_a_notebook_trains_in_full_unless_in_a_hurry(monkeypatch):
    monkeypatch.delenv("COURSE_PRESET", raising=False)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    assert experiments.live(400) == 400
    monkeypatch.setenv("COURSE_PRESET", "smoke")
    assert experiments.live(400) == 3
    monkeypatch.delenv("COURSE_PRESET")
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert experiments.live(400) == 3


# records ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_says_what_its_measures_say(path):
    """The verdict and the finding are the judge's, not somebody's."""
    result = json.loads(path.read_text())
    experiment = experiments.find(result["experiment"])
    assert path.name == f"{experiment.name}.{result['preset']}.json"
    assert (result["verdict"], result["finding"]) == experiment.judge(result["measures"])
    for field in ("claim", "source", "paper", "criterion"):
        assert result[field] == getattr(experiment, field), f"{field} was changed since; record it again"
    assert set(result["settings"]["arms"]) == set(result["measures"])
    assert records.as_text(result) == path.read_text()
    assert not result["commit"].endswith("+"), "recorded with uncommitted code"


def test_the_table_is_that_of_the_records():
    assert (records.RESULTS / "README.md").read_text() == table.as_markdown(), "run `course results --write`"
    known = {(row["experiment"], row["preset"]): row["verdict"] for row in table.rows()}
    assert {path.stem for path in RECORDS} == {".".join(key) for key, verdict in known.items()
                                               if verdict != table.PENDING}
    assert known["dnc.babi", "paper"]


# verdicts of the DNC's claims -------------------------------------------------------------------------------------

def curve(*ends: float) -> dict:
    return {"curve": {"iteration": [250, 500], "bit_error": [[0.4] * len(ends), list(ends)]}}


@pytest.mark.parametrize(("plain", "other", "verdict"), [
    ((0.2, 0.3, 0.2), (0.01, 0.0, 0.1), SEEN), ((0.01, 0.0, 0.1), (0.2, 0.3, 0.2), CONTRADICTED),
    ((0.1, 0.3, 0.2), (0.2, 0.1, 0.3), NOT_SEEN)])
def test_copy_is_judged_by_who_errs_less(plain, other, verdict):
    measures = {"DNC": curve(*plain), "DNC-D": curve(*other), "DNC-S": curve(*other), "DNC-DS": curve(*other)}
    assert dnc.judge_copy(measures)[0] == verdict
    if verdict == SEEN:                                 # one arm that does not help is enough not to see it
        assert dnc.judge_copy(measures | {"DNC-S": curve(*plain)})[0] == NOT_SEEN
    recalled = {"DNC": curve(*plain), "DNC-M": curve(*other), "DNC-S": curve(*other), "DNC-MS": curve(*other)}
    assert dnc.judge_masked_recall(recalled)[0] == verdict
    turned = {SEEN: CONTRADICTED, CONTRADICTED: SEEN, NOT_SEEN: NOT_SEEN}[verdict]
    assert dnc.judge_sharp_recall(recalled)[0] == turned


def test_superiority_counts_pairs():
    assert superiority([1, 2], [3, 4]) == 1
    assert superiority([1, 5], [3, 5]) == (1 + 1 + 0 + 0.5) / 4


def links(entropy: float, forward: float) -> dict:
    return {"entropy": [0.0, entropy / 2, entropy, entropy], "mass": [1.0] * 4, "exponent": None,
            "modes": [[0, 1 - forward, forward]] * 4}


@pytest.mark.parametrize(("plain", "sharp", "verdict"), [
    (links(0.8, 0.6), links(0.1, 1.0), SEEN), (links(0.1, 0.9), links(0.8, 0.6), CONTRADICTED),
    (links(0.1, 0.6), links(0.8, 1.0), NOT_SEEN), (links(0.8, 1.0), links(0.1, 0.9), NOT_SEEN),
    (links(0.8, 0.1), links(0.1, 1.0), NOT_SEEN)])
def test_links_are_judged_among_those_who_follow_them(plain, sharp, verdict):
    measures = {"DNC": curve(0.0, 0.0) | {"links": [plain] * 2}, "DNC-S": curve(0.0, 0.3) | {"links": [sharp] * 2}}
    assert dnc.judge_links(measures)[0] == verdict
    unsolved = measures | {"DNC-S": curve(0.3, 0.3) | {"links": [sharp] * 2}}
    assert dnc.judge_links(unsolved)[0] == NOT_SEEN


def test_the_model_to_look_into_is_the_median_follower():
    measures = {"DNC": curve(0.0, 0.0, 0.0, 0.3) | {"links": [links(0.9, 0.9), links(0.5, 0.9), links(0.7, 0.9),
                                                              links(0.6, 0.9)]},
                "DNC-S": curve(0.0) | {"links": [links(0.1, 0.2)]}}
    assert dnc.ship_links(measures) == {"DNC": 2}


def test_a_model_that_is_kept_is_the_one_that_was_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "CHECKPOINTS", tmp_path / "checkpoints")
    ensemble, state = Ensemble(small, [3, 8]), tmp_path / "state.pt"
    torch.save({"parameters": dict(ensemble.parameters)}, state)
    path = records.keep_model("toy.DNC", state, 1, "by hand")
    model = small()
    model.load_state_dict(records.checkpoint("toy.DNC"))
    x = inputs(4, 2, 3)
    torch.testing.assert_close(model(x)[0], ensemble.member(1)(x)[0])
    assert b"by hand" in path.read_bytes()
    with pytest.raises(Unknown, match=r"there is no checkpoint 'toy'; there are toy\.DNC"):
        records.checkpoint("toy")
    with pytest.raises(Unknown, match=r"no run of dnc\.babi at laptop is recorded; `course run dnc\.babi"):
        records.recorded("dnc.babi")


@pytest.mark.parametrize(("hidden", "verdict"), [(0.9, SEEN), (0.3, NOT_SEEN), (0.0, CONTRADICTED)])
def test_forgetting_is_judged_by_what_is_hidden(hidden, verdict):
    retention = {"quantiles": [0.1] * 5, "hidden": hidden}
    assert dnc.judge_forgetting({"DNC": curve(0.2), "DNC-D": curve(0.0) | {"retention": [retention]}})[0] == verdict
    assert dnc.judge_forgetting({"DNC": curve(0.2), "DNC-D": curve(0.2) | {"retention": [retention]}})[0] == NOT_SEEN


@pytest.mark.parametrize(("turns", "verdict"), [
    ((-0.9, -0.8, -0.9, 0.1), SEEN), ((0.9, 0.8, None, 0.1), CONTRADICTED), ((0.9, -0.9), NOT_SEEN)])
def test_key_value_is_judged_by_masks_that_turn(turns, verdict):
    masked = curve(*[0.0] * len(turns)) | {"masks": [{"turn": turn} for turn in turns]}
    assert dnc.judge_key_value({"DNC": curve(0.0), "DNC-M": masked})[0] == verdict
    assert dnc.judge_key_value({"DNC": curve(0.0), "DNC-M": curve(0.3) | {"masks": masked["masks"][:1]}})[0] == NOT_SEEN


# what is read off a trained model ---------------------------------------------------------------------------------

def traced(model: DNC, batch) -> list:
    return dnc.watch(model, batch.inputs)


def test_links_of_one_hot_writes_and_reads_have_no_entropy_and_follow_on():
    batch = repeated_copy(2, 2, 3, 2, generator=torch.Generator().manual_seed(0), marker_in_target=False)
    trace, chain = [], torch.diag(torch.ones(3), -1).expand(2, 4, 4)
    for step, (told, state) in enumerate(traced(DNC(4, 3, cells=4, word=3), batch)):
        read = torch.eye(4)[step % 3].expand(2, 1, 4)
        trace.append((told._replace(modes=torch.tensor([0.2, 0.3, 0.5]).expand(2, 1, 3)),
                      state._replace(links=chain, read_weights=read)))
    found = dnc.link_statistics(trace, batch)
    assert found["entropy"] == [0, 0]
    assert found["mass"] == [1, 1]
    assert found["exponent"] is None
    for modes in found["modes"]:
        assert modes == pytest.approx([0.2, 0.3, 0.5])


def test_blurred_links_have_the_entropy_of_their_blur():
    batch = repeated_copy(2, 1, 3, 2, generator=torch.Generator().manual_seed(0), marker_in_target=False)
    trace = [(told, state._replace(links=torch.full((2, 4, 4), 0.1), read_weights=torch.full((2, 1, 4), 0.25)))
             for told, state in traced(DNC(4, 3, cells=4, word=3), batch)]
    assert dnc.link_statistics(trace, batch)["entropy"] == pytest.approx([math.log(4)], rel=1e-3)
    assert dnc.link_statistics(trace, batch)["mass"] == pytest.approx([0.4], rel=1e-3)


def test_retention_is_that_of_the_cell_just_read():
    batch = repeated_copy(3, 2, 3, 2, generator=torch.Generator().manual_seed(0), marker_in_target=False)
    read = torch.tensor([0.0, 0.8, 0.2, 0.0]).expand(2, 1, 4)
    trace = [(told._replace(free_gates=torch.full((2, 1), 0.5)), state._replace(read_weights=read))
             for told, state in traced(DNC(4, 3, cells=4, word=3), batch)]
    assert dnc.retention_statistics(trace, batch) == {"quantiles": pytest.approx([0.6] * 5), "hidden": 0.0}
    gone = [(told._replace(free_gates=torch.ones(2, 1)),
             state._replace(read_weights=torch.tensor([0.0, 1.0, 0.0, 0.0]).expand(2, 1, 4))) for told, state in trace]
    assert dnc.retention_statistics(gone, batch)["hidden"] == 1.0


def test_a_mask_that_turns_is_told_and_positions_are_known_by_what_they_hold():
    batch = key_value(3, 2, 40, generator=torch.Generator().manual_seed(0))
    trace = []
    for step, (told, state) in enumerate(traced(DNC(6, 2, cells=4, word=4, mask=True), batch)):
        by_key = bool((batch.phase[step] == 1).all())
        mask = torch.tensor([0.9, 0.8, 0.1, 0.2] if by_key else [0.1, 0.2, 0.9, 0.8]).expand(40, 1, 4)
        trace.append((told._replace(read_masks=mask, word=batch.inputs[step, :, :4]), state))
    found = dnc.mask_statistics(trace, batch)
    assert found["by_key"] == pytest.approx([0.9, 0.8, 0.1, 0.2])
    assert found["by_value"] == pytest.approx([0.1, 0.2, 0.9, 0.8])
    assert found["turn"] == pytest.approx(-1)
    assert all(share > 0.8 for share in found["key_share"][:2])
    assert all(share < -0.8 for share in found["key_share"][2:])


def test_variants_are_what_their_names_say():
    settings = dnc.COPY
    for name in dnc.VARIANTS:
        model = dnc.make_dnc(name, 5, 4, settings)
        assert {letter for letter, switch in dnc.LETTERS.items() if getattr(model, switch)} == set(name[4:])
    x = torch.randn(6, 2, 5, generator=torch.Generator().manual_seed(0))
    told = traced(dnc.make_dnc("DNC-N", 5, 4, settings), repeated_copy(2, 1, 4, 2, generator=torch.Generator(),
                                                                       marker_in_target=False))
    assert all((step.forward_exponents == 1).all() and (step.backward_exponents == 1).all() for step, _ in told)
    held = dnc.make_dnc("DNC-D.1", 5, 4, settings)
    assert held.kept(torch.tensor([[0.0, 0.05, 0.5]])).tolist() == [[pytest.approx(0.1), pytest.approx(0.1), 0.5]]
    assert isinstance(held(x)[1], DNCState)


def test_the_data_of_a_run_depend_on_seed_and_iteration_alone():
    numbers = [(0, 1), (1, 0), (10,), (0,), (10**9, 3), (3, 10**9)]
    drawn = {tuple(torch.rand(3, generator=dnc.generator(*each)).tolist()) for each in numbers}
    assert len(drawn) == len(numbers)
    assert torch.equal(torch.rand(3, generator=dnc.generator(4, 2)), torch.rand(3, generator=dnc.generator(4, 2)))


def test_an_arm_alone_can_be_run_in_a_notebook():
    settings = running.settings_of(experiments.find("dnc.copy"), "smoke", {})
    assert set(dnc.copy(Arm("DNC-D", settings, [5]))) == {"curve", "links", "retention"}
