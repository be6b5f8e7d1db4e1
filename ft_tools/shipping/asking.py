"""How the shipped model has to be asked: what every text and file beside it is written from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.evaluation.systems.spec import PASSAGE, QUESTION, SystemSpec
from ft_tools.runs.state import directory
from ft_tools.shipping.comparison_text import training_file
from ft_tools.shipping.evaluated_prompt import MeasuredAs, spec_of
from ft_tools.shipping.trained_system import TrainedSystem, trained_system

SCHEMA = "answer_schema.json"
FORMAT_INPUT, MAPPING = "format_input.py", "mapping.json"


@dataclass(frozen=True)
class Asking:
    """System text, user turn, schema and limits that go with the shipped weights."""

    trained: TrainedSystem = field(default_factory=TrainedSystem)
    system: str | None = None
    """The system text that is shipped; None: the chat template's own default."""
    system_from: str = ""
    """Where that text is from, in words; empty: the training data."""
    spec: SystemSpec | None = None
    """The evaluated system."""
    measured: MeasuredAs | None = None
    schema: Mapping[str, Any] | None = None
    columns: tuple[str, ...] = ()
    """Columns that format_input.py makes the user turn of."""
    prepared: Path | None = None
    """Folder with format_input.py and mapping.json."""

    @property
    def template(self) -> str | None:
        """Return the user turn with {question} in it; None: the question alone."""
        return self.spec.template if self.spec else None

    @property
    def max_new_tokens(self) -> int | None:
        """Return the longest answer that was measured; None: nothing was."""
        return self.measured.max_new_tokens if self.measured else None

    def turn(self, question: str) -> str:
        """Return what the user sends for a question."""
        before, _, after = (self.template or QUESTION).partition(QUESTION)
        before, after = (part.replace(PASSAGE, "PASSAGE") for part in (before, after))
        return f"{before}{question}{after}"

    def messages(self, question: str) -> list[dict[str, str]]:
        """Return a whole request."""
        own = [] if not self.system else [{"role": "system", "content": self.system}]
        return [*own, {"role": "user", "content": self.turn(question)}]

    def sentence(self, *, has_default: bool = False) -> str:
        """Return which system text is shipped.

        Args:
            has_default: The chat template adds one where there is none.
        """
        if not self.system_from:
            said = self.trained.sentence()
            is_default = self.system is None and has_default and self.trained.num_examples > 0
            return f"{said} but the chat template's own" if is_default else said
        return f"shipped: {self.system_from}; training: {self.trained.sentence()}"


def asking_of(source: str, measured: MeasuredAs | None, system: str | None) -> Asking:
    """Return how a model is asked.

    Args:
        source: What is shipped, as in the request.
        measured: The evaluation whose settings are shipped.
        system: System text of the request; None: the evaluation's, else the training data's.
    """
    trained = trained_system(source)
    spec = spec_of(measured) if measured else None
    text, origin = trained.text, ""
    if system is not None:
        text, origin = system, "the system text of the request"
    elif spec is not None and measured is not None and spec.system is not None:
        text, origin = spec.system, f"the system text of {measured.system} in {measured.evaluation}"
    schema = None
    if measured is not None and measured.json_schema is not None:
        schema = json.loads(workspace.existing(measured.json_schema).read_bytes())
    folder, columns = _prepared(source)
    return Asking(trained, text, origin, spec, measured, schema, columns, folder)


def write_files(asking: Asking, into: Path) -> None:
    """Put the schema, and the code that makes a user turn of a row, beside HANDOFF.md."""
    if asking.schema is not None:
        text = json.dumps(asking.schema, indent=1, ensure_ascii=False) + "\n"
        (into / SCHEMA).write_text(text, encoding="utf-8")
    if asking.prepared is not None:
        from ft_tools.data.map.mapping_for_inference import keep_mapping

        keep_mapping(asking.prepared, into)


def greedy_settings(
    config: Mapping[str, Any], ends: list[int], max_new_tokens: int | None
) -> dict[str, Any]:
    """Return a generation_config.json that answers as was measured: greedily, with every stop.

    >>> greedy_settings({"temperature": 0.6, "top_p": 0.9, "bos_token_id": 1}, [2], 48)
    {'bos_token_id': 1, 'do_sample': False, 'eos_token_id': 2, 'max_new_tokens': 48}
    """
    kept = {name: config[name] for name in config if name not in SAMPLING}
    kept |= {"do_sample": False, "eos_token_id": ends[0] if len(ends) == 1 else ends}
    return kept | ({"max_new_tokens": max_new_tokens} if max_new_tokens else {})


# What changes which token is chosen.
# Source: https://huggingface.co/docs/transformers/main_classes/text_generation, GenerationConfig
SAMPLING = {
    *("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("repetition_penalty", "no_repeat_ngram_size", "encoder_repetition_penalty", "penalty_alpha"),
    *("num_beams", "length_penalty", "max_length"),
}


def _prepared(source: str) -> tuple[Path | None, tuple[str, ...]]:
    """Return the folder of a prepared training file, of a run or of those it came from.

    Also the columns that its prompts are made of.
    """
    from ft_tools.data.map.mapping_for_inference import mapping_beside

    run = source
    while directory.RUN_ID.fullmatch(run):
        path = training_file(run)
        mapping = mapping_beside(path) if path is not None else None
        if path is not None and mapping is not None:
            return path.parent, tuple(dict.fromkeys(mapping.prompt_columns))
        run = directory.read_info(directory.find(run)).lineage.get("parent_run", "")
    return None, ()
