"""Count a dataset's tokens for a plan, in a process of its own: JSON in, JSON out.

Loads the tokenizer and the template without transformers and torch, which take seconds to import;
the run tokenizes with transformers, and says so when it counts differently. The process has a
limit on its memory, because a template is a program of whoever made the model.
"""

import contextlib
import json
import resource
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from pathlib import Path
from statistics import fmean
from typing import Any

import jinja2
import psutil
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from ft_tools.errors import FineTuningError, Refused
from ft_tools.formats.masking import Messages, Render, common_prefix, tokenize_example
from ft_tools.formats.training_rows import DatasetFacts, read_examples, tools_of
from ft_tools.formats.trl_formats import Example
from ft_tools.lora.data_shape import padding_fraction
from ft_tools.models import model_folder
from ft_tools.training.checks.learnable import (
    Tally,
    count_marks,
    count_pairs,
    cut_at,
    packs,
    require_pairs,
    template_refuses,
)
from ft_tools.training.token_counts import CountAnswer, CountRequest, Counts, DataReport, Lengths

MAX_BYTES = 8 * 2**20
"""Of a file's examples that are tokenized; a larger file is scaled from its beginning."""
MEMORY_BYTES = 2 * 2**30
PADDED_BATCH = 8
"""Rows of a batch for which padding is counted."""
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token")

THOUGHTS = ("reasoning_content", "thinking", "reasoning")


class TemplateRefuses(jinja2.TemplateError):
    """The template calls `raise_exception`, as it does in the run."""


class Generation(Extension):
    """Let `{% generation %}` marks of a template pass; masks come from positions."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        """Return what is between the marks."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class TemplateTokens:
    """A model folder's tokenizer and chat template."""

    def __init__(self, folder: Path, template_path: str | None) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
        named = {name: _text(config.get(name)) for name in SPECIAL}
        self._names = {name: text for name, text in named.items() if text}
        template = model_folder.chat_template(folder, template_path)
        try:
            self._template = _environment().from_string(template or "")
        except jinja2.TemplateSyntaxError as error:
            # Its words quote the template.
            raise Refused(
                f"the chat template is not valid Jinja from line {error.lineno} on; download the "
                "model again, or pass another one as training.chat_template_path"
            ) from error
        added = self._tokenizer.get_added_tokens_decoder()
        self.special = {i for i, token in added.items() if token.special}
        self.special |= {i for text in self._names.values() if (i := self._id(text)) is not None}

    @property
    def end(self) -> str:
        """Return the end-of-sequence token; empty without one."""
        return self._names.get("eos_token", "")

    @property
    def ends(self) -> set[int]:
        """Return the ids of the tokens that may end an answer: all special ones but the start."""
        start = self._names.get("bos_token", "")
        return self.special - ({self._id(start)} if start != self.end else set())

    def encode(self, text: str) -> list[int]:
        """Tokenize plain text, with the special tokens that the tokenizer adds."""
        return list(self._tokenizer.encode(text).ids)

    def renderer(self, example: Example) -> Render:
        """Return the function that applies the chat template to an example's messages."""
        tools = tools_of(example)

        def render(messages: Messages, opens: bool) -> list[int]:
            text = self._template.render(
                messages=[_as_rendered(message) for message in messages],
                tools=tools,
                documents=None,
                add_generation_prompt=opens,
                **self._names,
            )
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

        return render

    def _id(self, token: str) -> int | None:
        found: int | None = self._tokenizer.token_to_id(token)
        return found


def count(request: CountRequest) -> Counts:
    """Tokenize both files and count.

    Raises:
        Refused: Nothing is left to learn, or the answers do not end.
    """
    tokens = TemplateTokens(Path(request.tokenizer), request.template_path)
    of_file = COUNTERS[request.task]
    counted = of_file(request, tokens, request.dataset)
    if request.validation is None:
        return counted
    held_out = of_file(request, tokens, request.validation)
    return counted.model_copy(update={"validation": held_out.data})


def _count_sequences(request: CountRequest, tokens: TemplateTokens, facts: DatasetFacts) -> Counts:
    tally, num_counted = Tally(cut_at(request.max_length, request.packing)), 0
    for line, example in _beginning(facts):
        num_counted += 1
        with _refused(facts, line, example):
            found = tokenize_example(
                example,
                facts.format,
                render=tokens.renderer,
                encode=tokens.encode,
                end=tokens.end,
                loss_on=request.loss_on,
            )
        for one in found:
            tally.add(one)
    tally.require_learnable(facts.path, tokens.ends)
    num_rows = len(tally.kept)
    if request.packing and request.max_length:
        lengths = [len(one.input_ids) for one in tally.kept]
        num_rows = packs(lengths, request.max_length, request.packing)
    return _scaled(tally.report(num_counted), num_rows, facts, tally.lengths)


def _count_preferences(
    request: CountRequest, tokens: TemplateTokens, facts: DatasetFacts
) -> Counts:
    """Count pairs of answers, or marked ones: a prompt and what may follow it."""
    of_example, report = PREFERENCES[request.task]
    limit = request.max_length
    lengths: list[tuple[int, int]] = []
    uncut: list[tuple[int, int]] = []
    answers: list[list[int]] = []
    num_counted = 0
    for line, example in _beginning(facts):
        num_counted += 1
        with _refused(facts, line, example):
            prompt, *wholes = of_example(tokens, facts, example)
        start = min(common_prefix(prompt, whole) for whole in wholes)
        uncut += [(len(whole), len(whole) - start) for whole in wholes]
        if limit is not None and start >= limit:
            continue
        answers.append(wholes[0][start:])
        lengths += [(start, len(whole) - start) for whole in wholes]
    require_pairs(facts.path, limit, answers, tokens.special)
    return _scaled(report(num_counted, limit, lengths), len(answers), facts, uncut)


def _marked(
    tokens: TemplateTokens, facts: DatasetFacts, example: Example
) -> tuple[list[int], list[int]]:
    """Tokenize a prompt, and the answer behind it, as TRL's trainer does."""
    asked, answer = example["prompt"], example["completion"]
    if facts.format == "marks_text":
        answer = answer.removesuffix(tokens.end) + tokens.end
        return tokens.encode(asked), tokens.encode(asked + answer)
    render = tokens.renderer(example)
    return render(asked, True), render(asked + answer, False)


def _pair(
    tokens: TemplateTokens, facts: DatasetFacts, example: Example
) -> tuple[list[int], list[int], list[int]]:
    """Tokenize a prompt and both answers behind it, as TRL's trainer does."""
    chosen, rejected = example["chosen"], example["rejected"]
    if facts.format == "pairs_text":
        prompt, end = example["prompt"], tokens.end
        # TRL closes an answer in plain text itself.
        chosen, rejected = (text.removesuffix(end) + end for text in (chosen, rejected))
        return (
            tokens.encode(prompt),
            tokens.encode(prompt + chosen),
            tokens.encode(prompt + rejected),
        )
    if facts.format == "pairs_messages_implicit":
        both = zip(chosen, rejected, strict=False)
        shared = sum(1 for _ in takewhile(lambda two: two[0] == two[1], both))
        shared = min(shared, len(chosen) - 1, len(rejected) - 1)
        asked, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    else:
        asked = example["prompt"]
    render = tokens.renderer(example)
    return render(asked, True), render(asked + chosen, False), render(asked + rejected, False)


@contextlib.contextmanager
def _refused(facts: DatasetFacts, line: int, example: Example) -> Iterator[None]:
    """Name which example a template refuses."""
    try:
        yield
    except TemplateRefuses:
        raise template_refuses(f"{facts.path}:{line}", example) from None


def _beginning(facts: DatasetFacts) -> Iterator[tuple[int, Example]]:
    """Yield the lines and examples of a file, up to so many bytes of it."""
    size, path = 0, Path(facts.path)
    share = path.stat().st_size / max(1, facts.num_examples)
    for line, example in read_examples(path):
        if size >= MAX_BYTES:
            return
        size += int(share) + 1
        yield line, example


def _scaled(
    report: DataReport, num_rows: int, facts: DatasetFacts, uncut: list[tuple[int, int]]
) -> Counts:
    """Scale the counts of a file's beginning to the whole of it.

    Args:
        report: Of the beginning.
        num_rows: Rows that batches are made of, of the beginning.
        facts: The file.
        uncut: (tokens, trained tokens) of each sequence.
    """
    num_counted = report.num_examples
    wholes = [whole for whole, _ in uncut]
    lengths = Lengths(
        mean_tokens=round(fmean(wholes), 1),
        mean_answer_tokens=round(fmean(trained for _, trained in uncut), 1),
        longest_tokens=max(wholes),
        padding=padding_fraction(wholes, PADDED_BATCH),
    )
    if num_counted != facts.num_examples:
        factor = facts.num_examples / num_counted
        whole = {name: round(value * factor) for name, value in report.model_dump().items()}
        report, num_rows = DataReport(**whole), round(num_rows * factor)
    return Counts(data=report, num_rows=num_rows, num_counted=num_counted, lengths=lengths)


PREFERENCES = {"dpo": (_pair, count_pairs), "kto": (_marked, count_marks)}
"""Task -> what tokenizes a prompt and its answers, what counts them."""
COUNTERS = {"sft": _count_sequences, "dpo": _count_preferences, "kto": _count_preferences}


def _environment() -> ImmutableSandboxedEnvironment:
    """Return what chat templates are rendered in, as transformers has it.

    Source: transformers 5.24, utils/chat_template_utils.py (names and options).
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _today
    return environment


def _as_rendered(message: Example) -> Example:
    """Return a message as transformers gives it to a template: no nulls, thoughts by one name.

    Source: transformers 5.24, utils/chat_template_utils.py.
    """
    plain = {name: value for name, value in message.items() if value is not None}
    thought = next((plain[name] for name in THOUGHTS if name in plain), None)
    return plain if thought is None else {"thinking": thought, **plain, THOUGHTS[0]: thought}


def _refuse(message: str) -> str:
    raise TemplateRefuses(message)


def _today(form: str) -> str:
    # As in the run: see examples/worker/today.py.
    return datetime.now(UTC).strftime(form)


def _text(token: Any) -> str:
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else ""


def _answer(work: Callable[[], Counts]) -> CountAnswer:
    try:
        return CountAnswer(counts=work())
    except Refused as error:
        return CountAnswer(refused=str(error))
    except FineTuningError as error:
        return CountAnswer(failed=error.code)
    except Exception as error:
        # Words of a template or of a library stay here.
        return CountAnswer(failed=f"counting failed ({type(error).__name__})")


def main() -> None:
    """Answer one request."""
    used = psutil.Process().memory_info().vms
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)
    request = CountRequest.model_validate_json(sys.stdin.read())
    sys.stdout.write(_answer(lambda: count(request)).model_dump_json())


if __name__ == "__main__":
    main()
