"""Choose the rows that a launch holds out of a file, as audit and prepare choose theirs."""

from collections.abc import Iterable
from itertools import islice

from ft_tools.data.read.example_texts import text_of
from ft_tools.data.read.ledger import NUM_PARTS, Ledger
from ft_tools.data.request import AuditRequest
from ft_tools.data.split.choose import ValidationPart, validation_part
from ft_tools.formats.example import Example
from ft_tools.similarity.word_hashes import tokens_in
from ft_tools.similarity.wordings import DrawnPrompts

READ_AT_ONCE = 250
"""Rows of which the words are read together."""


def choose_held_out(examples: Iterable[Example], num_rows: int) -> ValidationPart:
    """Choose about so many rows, of which nothing, and nothing similar, is trained.

    Rows that ask the same first, or nearly so, stay together; where prompts follow few templates,
    whole templates are held out.
    """
    # numpy comes with it, which tools that compare nothing do without.
    from ft_tools.similarity.by_words import Lexical

    ledger, prompts = Ledger(with_pairs=True), DrawnPrompts()
    rows = iter(examples)
    while batch := list(islice(rows, READ_AT_ONCE)):
        said = []
        for example in batch:
            asked, answered = example.prompt_and_answer()
            prompt, answer = text_of(asked), text_of(answered)
            is_marked = example.task == "kto"
            key = f"kto {example.label}" if is_marked else str(len(answer).bit_length())
            ledger.add(example, (0, 0), key)
            prompts.add(prompt)
            said += [prompt, *[""] * (NUM_PARTS - 1)]
        ledger.add_words(tokens_in(said))
    Lexical(ledger).link_near_prompts()
    kept = range(len(ledger))
    seed = AuditRequest.model_fields["seed"].default
    few = bool(prompts.findings())
    part = validation_part(ledger, kept, num_rows / max(1, len(kept)), seed, few_wordings=few)
    return part._replace(few_wordings=few)
