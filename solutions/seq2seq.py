"""Sequence to sequence: an LSTM reads a sentence, another says the answer, symbol by symbol (Lake and Baroni 2018)."""

import torch
from torch import Tensor, nn

from solutions.baselines import LSTM, State
from solutions.tasks.scan import END, PAD, START


class Seq2Seq(nn.Module):
    """An encoder LSTM whose last state is the first state of a decoder LSTM; no attention.

    sources, targets  numbers of symbols that can be read and said, PAD, START and END among them: 4 or more
    embedding         width of the embeddings of both; the thesis has 16, because wider ones lost their weights to masks
    hidden, layers    of both LSTMs, 1 or more: 200 and 2 in the thesis

    It draws no random numbers, and vmap can run it under several masks. Raises ValueError on sizes below these. Thesis
    appendix B.3.7.
    """

    def __init__(self, sources: int, targets: int, *, embedding: int = 16, hidden: int = 200, layers: int = 2) -> None:
        super().__init__()
        if min(sources, targets) < 4 or embedding < 1:
            raise ValueError(f"sources and targets must be 4 or more and embedding 1 or more, "
                             f"got {sources}, {targets} and {embedding}")
        self.source_embedding = nn.Embedding(sources, embedding)
        self.target_embedding = nn.Embedding(targets, embedding)
        self.encoder, self.decoder = LSTM(embedding, hidden, layers), LSTM(embedding, hidden, layers)
        self.to_output = nn.Linear(hidden, targets)

    def forward(self, source: Tensor, fed: Tensor, forced: bool = True) -> Tensor:
        """Score every symbol at every step of the answer.

        source   (batch, source length), int64: every row ends with END, then PAD, which changes nothing
        fed      (batch, target length), int64: what the decoder is fed, decoder_inputs(target)
        forced   teacher forcing: feed it that. Otherwise only fed's first column counts, START, and at every later step
                 the decoder is fed what itself said last, the symbol with the highest score
        returns  (batch, target length, targets): the scores (logits) of what comes next
        """
        state = self.read(source)
        if forced:
            return self.to_output(self.decoder(self.target_embedding(fed).movedim(1, 0), state)[0]).movedim(0, 1)
        said, scores = fed[:, 0], []
        for _ in range(fed.shape[1]):
            score, state = self.say(said, state)
            said = score.argmax(-1)
            scores.append(score)
        return torch.stack(scores, 1)

    def read(self, source: Tensor) -> State:
        """The encoder's state after the END of every row, for every layer a pair of (batch, hidden)."""
        embedded = self.source_embedding(source)
        zeros = embedded.new_zeros(len(source), self.encoder.hidden)
        state = [(zeros, zeros)] * len(self.encoder.from_input)
        for word, there in zip(embedded.unbind(1), (source != PAD)[..., None].unbind(1), strict=True):
            after = self.encoder(word[None], state)[1]
            state = [tuple(torch.where(there, new, old) for new, old in zip(*pair, strict=True))
                     for pair in zip(after, state, strict=True)]
        return state

    def say(self, said: Tensor, state: State) -> tuple[Tensor, State]:
        """One step of the decoder: the symbols fed to it (batch) and its state to scores (batch, targets) and state."""
        outputs, state = self.decoder(self.target_embedding(said)[None], state)
        return self.to_output(outputs[0]), state

    @torch.no_grad()
    def decode(self, source: Tensor, longest: int) -> Tensor:
        """Answer greedily, always with the symbol of the highest score.

        source   (batch, source length), int64, as for forward
        longest  1 or more: stop after so many symbols
        returns  (batch, up to longest), int64: every row ends with END, then PAD; a row without END did not come to one

        It stops as soon as every row has ended. Raises ValueError on a longest below 1.
        """
        if longest < 1:
            raise ValueError(f"longest must be 1 or more, got {longest}")
        state, said, answer = self.read(source), torch.full_like(source[:, 0], START), []
        ended = torch.zeros_like(said, dtype=torch.bool)
        while len(answer) < longest and not ended.all():
            scores, state = self.say(said, state)
            said = scores.argmax(-1).masked_fill(ended, PAD)
            ended = ended | (said == END)
            answer.append(said)
        return torch.stack(answer, 1)
