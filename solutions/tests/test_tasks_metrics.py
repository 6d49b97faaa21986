"""Each metric against a loop over rows, and the laws that make it comparable: leading axes, padding, other rows."""

from math import exp, isnan, log, nan

import pytest
import torch

from solutions.tasks import metrics

TIME, BATCH, OUTPUTS, PROBLEMS = 7, 4, 3, 3


def example(seed: int = 0, *leading: int):
    """Logits, targets, answer rows and problems in which every entry and every problem has an answer row."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(*leading, TIME, BATCH, OUTPUTS, generator=generator, dtype=torch.float64) * 3
    targets = torch.randint(2, (TIME, BATCH, OUTPUTS), generator=generator).double()
    rows = torch.rand(TIME, BATCH, generator=generator) < 0.5
    rows[1::2] = True
    problem = (torch.arange(TIME) // 3)[:, None].expand(TIME, BATCH)
    return logits, targets, rows, problem


def cells(rows):
    return [(time, entry) for time in range(rows.shape[0]) for entry in range(rows.shape[1]) if rows[time, entry]]


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_what_counting_gives(seed):
    logits, targets, rows, problem = example(seed)
    logits[1::2] = torch.where(targets[1::2] > 0, 2.0, -2.0)            # so that some words and sequences are right
    logits[:, 1] = torch.where(targets[:, 1] > 0, 2.0, -2.0)
    right = {cell: [(logits[cell][bit] > 0) == (targets[cell][bit] == 1) for bit in range(OUTPUTS)]
             for cell in cells(rows)}
    wrong = sum(not bit for bits in right.values() for bit in bits)
    assert metrics.bit_error_rate(logits, targets, rows) == pytest.approx(wrong / (OUTPUTS * len(right)))
    assert metrics.word_accuracy(logits, targets, rows) == pytest.approx(sum(map(all, right.values())) / len(right))
    sequences = [all(all(bits) for cell, bits in right.items() if cell[1] == entry) for entry in range(BATCH)]
    assert 0 < sum(sequences) < BATCH
    assert metrics.sequence_accuracy(logits, targets, rows) == pytest.approx(sum(sequences) / BATCH)
    by_problem = metrics.bit_error_by_problem(logits, targets, rows, problem)
    for index in range(PROBLEMS):
        mine = [bit for cell, bits in right.items() if problem[cell] == index for bit in bits]
        assert by_problem[index] == pytest.approx(mine.count(False) / len(mine))


@pytest.mark.parametrize("on_answers", [True, False])
def test_the_loss_is_summed_over_rows_and_bits_of_each_entry(on_answers):
    logits, targets, rows, _ = example(3)
    mask = rows if on_answers else None
    expected = [0.0] * BATCH
    for time, entry in cells(rows if on_answers else torch.ones_like(rows)):
        for logit, bit in zip(logits[time, entry].tolist(), targets[time, entry].tolist(), strict=True):
            expected[entry] += log(1 + exp(-logit if bit else logit))
    assert metrics.summed_bce(logits, targets, mask).tolist() == pytest.approx(expected)


def test_the_loss_of_knowing_nothing_is_log_two_a_bit():
    _, targets, rows, _ = example()
    loss = metrics.summed_bce(torch.zeros(TIME, BATCH, OUTPUTS), targets, rows)
    assert loss.tolist() == pytest.approx((log(2) * OUTPUTS * rows.sum(0)).tolist())


def calls(logits, targets, rows, problem):
    return {
        "bit error": metrics.bit_error_rate(logits, targets, rows),
        "by problem": metrics.bit_error_by_problem(logits, targets, rows, problem),
        "words": metrics.word_accuracy(logits, targets, rows),
        "sequences": metrics.sequence_accuracy(logits, targets, rows),
        "loss": metrics.summed_bce(logits, targets, rows),
        "word loss": metrics.summed_cross_entropy(logits, targets[..., 0].long(), rows),
        "questions": metrics.question_accuracy(logits, targets[..., 0].long(), torch.where(rows, problem, -1)),
    }


def test_several_models_at_once_are_measured_each_on_its_own():
    logits, targets, rows, problem = example(1, 2, 5)
    together = calls(logits, targets, rows, problem)
    for first in range(2):
        for second in range(5):
            alone = calls(logits[first, second], targets, rows, problem)
            for name, value in together.items():
                assert torch.allclose(value[first, second], alone[name]), name


def test_rows_without_an_answer_and_padding_count_for_nothing():
    logits, targets, rows, problem = example(2)
    before = calls(logits, targets, rows, problem)
    changed = torch.where(rows[..., None], logits, -7 * logits + 1)
    longer = [torch.cat((part, part[:3])) for part in (changed, targets, rows, problem)]
    longer[2][-3:] = False
    for after in (calls(changed, targets, rows, problem), calls(*longer)):
        for name, value in before.items():
            assert torch.allclose(value, after[name]), name


def test_perfect_and_inverted_logits_are_all_right_and_all_wrong():
    _, targets, rows, problem = example()
    logits = 2 * targets - 1
    assert metrics.bit_error_rate(logits, targets, rows) == 0
    assert metrics.sequence_accuracy(logits, targets, rows) == metrics.word_accuracy(logits, targets, rows) == 1
    assert metrics.bit_error_rate(-logits, targets, rows) == 1
    assert metrics.sequence_accuracy(-logits, targets, rows) == metrics.word_accuracy(-logits, targets, rows) == 0
    assert metrics.bit_error_by_problem(-logits, targets, rows, problem).tolist() == [1, 1, 1]


def test_one_wrong_bit_spoils_one_word_and_one_sequence():
    _, targets, rows, _ = example()
    logits = 2 * targets - 1
    logits[1, 2, 0] *= -1
    assert metrics.bit_error_rate(logits, targets, rows) == pytest.approx(1 / (OUTPUTS * int(rows.sum())))
    assert metrics.word_accuracy(logits, targets, rows) == pytest.approx(1 - 1 / int(rows.sum()))
    assert metrics.sequence_accuracy(logits, targets, rows) == 1 - 1 / BATCH


def test_an_entry_that_is_not_asked_is_no_success():
    logits, targets, rows, problem = example()
    rows[:, 0] = False
    assert metrics.sequence_accuracy(-(2 * targets - 1), targets, rows) == 0
    assert metrics.sequence_accuracy(2 * targets - 1, targets, rows) == 1
    rows[problem == 1] = False
    assert isnan(metrics.bit_error_by_problem(logits, targets, rows, problem)[1])


def test_a_network_that_has_blown_up_is_wrong_everywhere():
    logits, targets, rows, _ = example()
    logits[:] = nan
    assert metrics.bit_error_rate(logits, targets, rows) == 1
    assert metrics.question_accuracy(logits, targets[..., 0].long(), torch.where(rows, 0, -1)) == 0


def test_the_loss_has_no_gradient_outside_answer_rows():
    logits, targets, rows, _ = example()
    logits.requires_grad_()
    metrics.summed_bce(logits, targets, rows).sum().backward()
    assert logits.grad[~rows].eq(0).all()
    assert torch.allclose(logits.grad[rows], (torch.sigmoid(logits) - targets)[rows])


def test_word_answers():
    targets = torch.tensor([[3, 0], [1, 2], [2, 0], [0, 1]])
    question = torch.tensor([[0, -1], [0, 0], [1, -1], [-1, 1]])        # one answer of two words, three of one
    logits = 5.0 * torch.nn.functional.one_hot(targets, 4)
    assert metrics.question_accuracy(logits, targets, question) == 1
    logits[1, 0] = -logits[1, 0]                                        # the second word of two
    assert metrics.question_accuracy(logits, targets, question) == 3 / 4
    logits[0, 0] = -logits[0, 0]                                        # and the first: the same question
    assert metrics.question_accuracy(logits, targets, question) == 3 / 4
    loss = metrics.summed_cross_entropy(torch.zeros(4, 2, 4), targets, question >= 0)
    assert loss.tolist() == pytest.approx([3 * log(4), 2 * log(4)])
    expected = torch.nn.functional.cross_entropy(logits[:, 1], targets[:, 1], reduction="none")[[1, 3]].sum()
    assert torch.isclose(metrics.summed_cross_entropy(logits, targets, question >= 0)[1], expected)


def test_shapes_that_disagree_are_errors():
    logits, targets, rows, problem = example()
    with pytest.raises(ValueError, match=r"logits must be \(\.\.\., 7, 4, 3\), got \(6, 4, 3\)"):
        metrics.bit_error_rate(logits[1:], targets, rows)
    with pytest.raises(ValueError, match=r"answer_rows must be \(7, 4, bool\), got \(7, 4\) of torch.float32"):
        metrics.bit_error_rate(logits, targets, rows.float())
    with pytest.raises(ValueError, match=r"answer_rows must be \(7, 4, bool\), got \(4, 7\)"):
        metrics.summed_bce(logits, targets, rows.T)
    with pytest.raises(ValueError, match=r"problem must be \(7, 4\), got \(7,\)"):
        metrics.bit_error_by_problem(logits, targets, rows, problem[:, 0])
    with pytest.raises(ValueError, match="answer_rows must be True in at least one row"):
        metrics.bit_error_rate(logits, targets, torch.zeros_like(rows))
    with pytest.raises(ValueError, match="logits must be"):
        metrics.summed_bce(logits[..., :1], targets)
    with pytest.raises(ValueError, match=r"logits must be \(\.\.\., 7, 4, vocabulary\)"):
        metrics.summed_cross_entropy(logits[1:], targets[..., 0].long(), rows)
    with pytest.raises(ValueError, match="question must be 0 or more in at least one row"):
        metrics.question_accuracy(logits, targets[..., 0].long(), torch.full((TIME, BATCH), -1))
