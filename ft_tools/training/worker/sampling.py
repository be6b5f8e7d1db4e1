"""Let the model that is trained answer a few held-out prompts, without disturbing the training."""

import time
from typing import Any

import torch

from ft_tools.formats.masking import IGNORED
from ft_tools.runs.processes.worker_session import Session
from ft_tools.training import samples

MAX_PROMPT_TOKENS = 384
MAX_NEW_TOKENS = 48
MAX_SECONDS = 8.0
"""For the answers together; a model too slow for it shows less of them."""


class Sampler:
    """The prompts of a run, and how they are answered."""

    def __init__(self, tokenizer: Any, prompts: list[list[int]]) -> None:
        self.spent_seconds = 0.0
        self._tokenizer = tokenizer
        self._prompts = prompts

    def answers(self, model: Any) -> list[str]:
        """Return the greedy answer to each prompt, all at once, padded on their left.

        Greedy: neither the random state nor the weights are touched, so a run with samples ends
        with the same bits as one without.
        """
        began, was_training = time.monotonic(), model.training
        model.eval()
        try:
            return self._generate(model)
        finally:
            model.train(was_training)
            self.spent_seconds += time.monotonic() - began

    @torch.no_grad()
    def _generate(self, model: Any) -> list[str]:
        longest = max(map(len, self._prompts))
        pad = self._tokenizer.pad_token_id
        rows = [[pad] * (longest - len(prompt)) + prompt for prompt in self._prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in self._prompts]
        made = model.generate(
            input_ids=torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            do_sample=False,
            max_new_tokens=MAX_NEW_TOKENS,
            max_time=MAX_SECONDS,
            use_cache=True,
            pad_token_id=pad,
            eos_token_id=self._tokenizer.eos_token_id,
        )
        return [self._shown(row[longest:].tolist()) for row in made]

    def _shown(self, answer: list[int]) -> str:
        """Decode an answer, marked where generation stopped before its end."""
        text = str(self._tokenizer.decode(answer, skip_special_tokens=True))
        return text if self._tokenizer.eos_token_id in answer else text + samples.CUT


def sampler_for(
    session: Session, tokenizer: Any, number: int, rows: list[tuple[list[int], list[int]]]
) -> Sampler | None:
    """Choose the first prompts that are short enough, and write them down.

    Args:
        session: The run's.
        tokenizer: Decodes them.
        number: How many.
        rows: Tokens of prompts and of the answers to them, of the held-out examples.

    Returns:
        None where there is none to answer.
    """
    short = [row for row in rows if 0 < len(row[0]) <= MAX_PROMPT_TOKENS][:number]
    if not short:
        return None
    texts = [[tokenizer.decode(ids, skip_special_tokens=True) for ids in row] for row in short]
    samples.describe(session.run_dir, [(prompt, answer) for prompt, answer in texts])
    return Sampler(tokenizer, [prompt for prompt, _ in short])


def split_at_answer(input_ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    """Return the tokens before the first trained stretch, and that stretch.

    >>> split_at_answer([1, 2, 3, 4], [-100, -100, 3, -100])
    ([1, 2], [3])
    """
    trained = [i for i, label in enumerate(labels) if label != IGNORED]
    if not trained:
        return [], []
    first = trained[0]
    end = next((i for i in range(first, len(labels)) if labels[i] == IGNORED), len(labels))
    return input_ids[:first], input_ids[first:end]
