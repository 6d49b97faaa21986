"""How well a sequence was answered. Leading axes of the logits, such as several models at once, are kept."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def bit_error_rate(logits: Tensor, targets: Tensor, answer_rows: Tensor) -> Tensor:
    """The share of wrong bits in answer rows; a bit is read as 1 where its logit is positive.

    logits       (..., time, batch, outputs); nan counts as wrong
    targets      (time, batch, outputs) in {0, 1}
    answer_rows  (time, batch), bool
    returns      (...) in [0, 1]

    Raises ValueError on shapes that disagree and when no row is an answer row.
    """
    wrong = _wrong_bits(logits, targets, answer_rows)
    return wrong.sum((-3, -2, -1)) / (answer_rows.sum() * targets.shape[-1])


def bit_error_by_problem(logits: Tensor, targets: Tensor, answer_rows: Tensor, problem: Tensor) -> Tensor:
    """The bit error rate of each problem of a sequence apart, over the batch.

    problem  (time, batch), int64, from 0; the other arguments as in bit_error_rate
    returns  (..., problems) in [0, 1]; nan for a problem without answer rows
    """
    _require(problem.shape == targets.shape[:2], "problem", targets.shape[:2], problem)
    wrong = _wrong_bits(logits, targets, answer_rows).sum(-1)           # (..., time, batch)
    indices = torch.arange(int(problem.max()) + 1, device=problem.device)[:, None, None]
    rows = (problem == indices) & answer_rows                           # (problems, time, batch)
    return (wrong[..., None, :, :] * rows).sum((-2, -1)) / (rows.sum((-2, -1)) * targets.shape[-1])


def word_accuracy(logits: Tensor, targets: Tensor, answer_rows: Tensor) -> Tensor:
    """The share of answer rows right in every bit. Arguments and errors as in bit_error_rate; returns (...)."""
    right = ~_wrong_bits(logits, targets, answer_rows).any(-1) & answer_rows
    return right.sum((-2, -1)) / answer_rows.sum()


def sequence_accuracy(logits: Tensor, targets: Tensor, answer_rows: Tensor) -> Tensor:
    """The share of batch entries answered without a single wrong bit, among those with an answer row.

    Arguments and errors as in bit_error_rate; returns (...).
    """
    asked = answer_rows.any(0)                                          # (batch)
    right = ~_wrong_bits(logits, targets, answer_rows).any(-1).any(-2) & asked
    return right.sum(-1) / asked.sum()


def summed_bce(logits: Tensor, targets: Tensor, answer_rows: Tensor | None = None) -> Tensor:
    """The binary cross-entropy of each batch entry, summed over rows and bits.

    logits       (..., time, batch, outputs)
    targets      (time, batch, outputs) in {0, 1}
    answer_rows  (time, batch), bool: rows that count; None counts every row, as the released code does, so that the
                 network must also be silent while it listens
    returns      (..., batch), in nats; the released code's loss is its mean over the batch

    Raises ValueError on shapes that disagree.
    """
    _require(logits.shape[-3:] == targets.shape and targets.dim() == 3, "logits", ("...", *targets.shape), logits)
    targets = targets.to(logits).expand_as(logits)
    loss = binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(-1)      # (..., time, batch)
    if answer_rows is not None:
        _require_mask(answer_rows, targets.shape[-3:-1])
        loss = loss.masked_fill(~answer_rows, 0.0)
    return loss.sum(-2)


def summed_cross_entropy(logits: Tensor, targets: Tensor, answer_rows: Tensor) -> Tensor:
    """The cross-entropy of each batch entry, summed over its answer rows: the loss of word answers.

    logits   (..., time, batch, vocabulary)
    targets  (time, batch), int64
    returns  (..., batch), in nats

    Raises ValueError on shapes that disagree.
    """
    _require(logits.shape[-3:-1] == targets.shape, "logits", ("...", *targets.shape, "vocabulary"), logits)
    _require_mask(answer_rows, targets.shape)
    due = targets.expand(logits.shape[:-1])[..., None]
    loss = -logits.log_softmax(-1).gather(-1, due)[..., 0]              # (..., time, batch)
    return loss.masked_fill(~answer_rows, 0.0).sum(-2)


def question_accuracy(logits: Tensor, targets: Tensor, question: Tensor) -> Tensor:
    """The share of questions answered right in every word; an answer may have several.

    logits    (..., time, batch, vocabulary); nan counts as wrong
    targets   (time, batch), int64
    question  (time, batch), int64: which question of its entry a row answers, from 0; -1 where no answer is due
    returns   (...) in [0, 1]

    Raises ValueError on shapes that disagree and when there is no question.
    """
    _require(logits.shape[-3:-1] == targets.shape, "logits", ("...", *targets.shape, "vocabulary"), logits)
    _require(question.shape == targets.shape, "question", targets.shape, question)
    if not (question >= 0).any():
        raise ValueError("question must be 0 or more in at least one row, got none")
    wrong = (logits.argmax(-1) != targets) | logits.isnan().any(-1)     # (..., time, batch)
    indices = torch.arange(int(question.max()) + 1, device=question.device)[:, None, None]
    rows = question == indices                                          # (questions, time, batch)
    asked = rows.any(-2)                                                # (questions, batch)
    right = ~(wrong[..., None, :, :] & rows).any(-2) & asked
    return right.sum((-2, -1)) / asked.sum()


def _wrong_bits(logits: Tensor, targets: Tensor, answer_rows: Tensor) -> Tensor:
    """Where an answer's bit is wrong, (..., time, batch, outputs), bool; False outside answer rows."""
    _require(logits.shape[-3:] == targets.shape and targets.dim() == 3, "logits", ("...", *targets.shape), logits)
    _require_mask(answer_rows, targets.shape[:2])
    if not answer_rows.any():
        raise ValueError("answer_rows must be True in at least one row, got none")
    wrong = torch.where(targets > 0.5, ~(logits > 0), ~(logits <= 0))   # nan is neither
    return wrong & answer_rows[..., None]


def _require_mask(answer_rows: Tensor, shape: torch.Size) -> None:
    is_mask = answer_rows.shape == shape and answer_rows.dtype == torch.bool
    _require(is_mask, "answer_rows", (*shape, "bool"), answer_rows)


def _require(holds: bool, name: str, expected: tuple, tensor: Tensor) -> None:
    if not holds:
        expected = ", ".join(str(axis) for axis in expected)
        raise ValueError(f"{name} must be ({expected}), got {tuple(tensor.shape)} of {tensor.dtype}")
