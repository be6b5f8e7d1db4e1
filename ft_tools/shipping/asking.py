"""How the shipped model has to be asked: as an evaluation asked it, else as it was trained.

Every text and file beside the weights is written from this. The newest evaluation of a run is found
by itself; another one is named in the request.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from ft_tools import workspace
from ft_tools.contract import Report
from ft_tools.errors import FineTuningError
from ft_tools.evaluation.request import request_of
from ft_tools.evaluation.systems.asking import user_turn
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.formats.training_rows import read_examples
from ft_tools.formats.trl_formats import Example, turns_in
from ft_tools.metrics.table import METRICS
from ft_tools.models.resolve import ModelSource
from ft_tools.publish import sha256
from ft_tools.runs.state import directory
from ft_tools.shipping.comparison_text import file_of_run
from ft_tools.shipping.findings import refusal, sentence

SCHEMA = "answer_schema.json"
FORMAT_INPUT, MAPPING = "format_input.py", "mapping.json"
SYSTEM_ROLES = {"system", "developer"}
SEARCHED_RUNS = 50
"""How many evaluations are searched, the newest first."""
MIN_CONTEXT = 2048
"""Below this a longer context costs next to nothing."""
# What changes which token is chosen.
# Source: https://huggingface.co/docs/transformers/main_classes/text_generation, GenerationConfig
SAMPLING = {
    *("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("repetition_penalty", "no_repeat_ngram_size", "encoder_repetition_penalty", "penalty_alpha"),
    *("num_beams", "length_penalty", "max_length"),
}


class MeasuredAs(Report):
    """The evaluation whose settings are shipped. No text of it is in here."""

    evaluation: str = Field(description="Run id.")
    system: str = Field(description="Name of the system there.")
    max_new_tokens: int = Field(description="Longest answer, in tokens.")
    json_schema: str | None = Field(None, description="JSON Schema file of its answers.")
    json_schema_sha256: str | None = None
    num_shots: int = Field(0, description="Few-shot examples in each prompt; not shipped.")
    score: str = Field("", description="What the model scored there, and whether that is enough.")

    def spec(self) -> SystemSpec:
        """Return the system as the evaluation's request has it."""
        systems = request_of(directory.find(self.evaluation)).all_systems()
        return next(spec for spec in systems if spec.name == self.system)

    def dataset(self) -> str | None:
        """Return the file that it measured on; None where it is no longer there."""
        with contextlib.suppress(FineTuningError):
            request = directory.whole_json(directory.find(self.evaluation) / "request.json")
            path = request.get("dataset")
            if isinstance(path, str) and workspace.existing(path).is_file():
                return path
        return None


Systems = Mapping[str | None, int]
"""System text of training examples -> how many have it; None: without one."""


@dataclass(frozen=True)
class PromptSpec:
    """System text, user turn, schema and limits that go with the shipped weights."""

    system: str | None = None
    """The system text that is shipped; None: the chat template's own default."""
    system_text: str = ""
    """Which one that is, in a sentence."""
    spec: SystemSpec | None = None
    """The evaluated system."""
    measured: MeasuredAs | None = None
    schema: Mapping[str, Any] | None = None
    columns: tuple[str, ...] = ()
    """Columns that format_input.py makes the user turn of."""
    prepared: Path | None = None
    """Folder with format_input.py and mapping.json."""
    stops: tuple[str, ...] = ()
    """Texts that end an answer."""
    num_ctx: int = MIN_CONTEXT
    """Context that training and measuring fit into, in tokens."""
    default_system: str = ""
    """What the chat template puts before a conversation without a system text."""

    @property
    def template(self) -> str | None:
        """Return the user turn with {question} in it; None: the question alone."""
        return self.spec.template if self.spec else None

    @property
    def max_new_tokens(self) -> int | None:
        """Return the longest answer that was measured; None: nothing was."""
        return self.measured.max_new_tokens if self.measured else None

    @property
    def limits(self) -> dict[str, int]:
        """Return the context and the longest answer as a Modelfile sets them."""
        longest = {"num_predict": self.max_new_tokens} if self.max_new_tokens else {}
        return {"num_ctx": self.num_ctx} | longest

    def turn(self, question: str) -> str:
        """Return what the user sends for a question."""
        return user_turn(self.spec, question, "PASSAGE") if self.spec else question

    def messages(self, question: str) -> list[dict[str, str]]:
        """Return a whole request."""
        own = [{"role": "system", "content": self.system}] if self.system else []
        return [*own, {"role": "user", "content": self.turn(question)}]


def asking_of(source: str, measured: MeasuredAs | None, system: str | None) -> PromptSpec:
    """Return how a model is asked."""
    trained = trained_systems(source)
    spec = measured.spec() if measured else None
    text = max(trained, key=lambda one: trained[one], default=None)
    said = _trained_sentence(trained, text)
    if system is not None:
        text = system
        said = sentence("other_system", origin=sentence("of_request"), trained=said)
    elif measured is not None and spec is not None and spec.system is not None:
        fields = measured.model_dump(include={"system", "evaluation"})
        text, origin = spec.system, sentence("of_evaluation", **fields)
        said = sentence("other_system", origin=origin, trained=said)
    schema = None
    if measured is not None and measured.json_schema is not None:
        schema = json.loads(workspace.existing(measured.json_schema).read_bytes())
    folder, columns = _prepared(source)
    return PromptSpec(text, said, spec, measured, schema, columns, folder)


def _trained_sentence(trained: Systems, text: str | None) -> str:
    """Return which system text is shipped, the most frequent one, and what others there were."""
    total, others = sum(trained.values()), len(trained.keys() - {text, None})
    if not trained:
        return sentence("training_unknown")
    if text is None:
        return sentence("no_system", without=trained[None], total=total)
    more = sentence("other_systems", num=others) if others else ""
    return sentence("trained_system", num=trained[text], total=total) + more


def measured_as(source: ModelSource, evaluation: str | None) -> MeasuredAs | None:
    """Find how a model was asked when it was measured.

    Args:
        source: What is shipped.
        evaluation: Run id of an evaluation; None: the newest one of a run, if there is any.

    Raises:
        BadInput: The evaluation did not measure this model, or its schema changed since.
        NotFound: There is no such run.
    """
    if evaluation is not None:
        found = next(_systems(directory.find(evaluation), source), None)
        if found is None:
            raise refusal("other_evaluation", evaluation=evaluation, model=source.name)
        return found
    if source.run_id is None:
        return None
    reports = workspace.runs_dir().glob("evaluate-*/report.json")
    newest = sorted(reports, key=lambda path: -path.stat().st_mtime)[:SEARCHED_RUNS]
    return next((one for path in newest for one in _systems(path.parent, source)), None)


def trained_systems(source: str) -> Systems:
    """Count the system texts of a run's training file, if that is still what it was."""
    path = file_of_run(source, "dataset")
    if path is None:
        return {}
    known = directory.plan_of(source).get("dataset")
    digest = known.get("sha256") if isinstance(known, dict) else None
    if digest not in (None, sha256(path)):
        return {}
    try:
        return Counter(_system_of(example) for _, example in read_examples(path))
    except FineTuningError:
        return {}


def context_of(source: str, longest: int, model_context: int | None) -> int:
    """Return the context that is needed: a power of two that training and measuring fit into."""
    trained = 0
    if directory.RUN_ID.fullmatch(source):
        plan = directory.plan_of(source)
        training = plan.get("training")
        trained = int(training.get("max_length") or 0) if isinstance(training, dict) else 0
    rounded = 1 << (max(MIN_CONTEXT, longest, trained) - 1).bit_length()
    return min(rounded, model_context) if model_context else rounded


def write_files(asking: PromptSpec, into: Path) -> None:
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


def _systems(run_dir: Path, source: ModelSource) -> Iterator[MeasuredAs]:
    """Yield the systems of an evaluation that are this model, the best one first."""
    plan, report = (directory.whole_json(run_dir / f"{name}.json") for name in ("plan", "report"))
    metric = str(report.get("main_metric") or "")
    sign = METRICS[metric].sign if metric in METRICS else 1.0
    results = {system.get("name"): system for system in report.get("systems") or ()}
    own: list[tuple[float, str, dict[str, Any]]] = []
    for system in plan.get("systems") or () if report else ():
        model, scored = system.get("model"), results.get(system.get("name")) or {}
        if isinstance(model, dict) and (source.load_from, source.adapter) == (
            model.get("load_from"),
            model.get("adapter"),
        ):
            score = (scored.get("scores") or {}).get(metric) or {}
            about = {"evaluation": run_dir.name, "metric": metric, "num": plan.get("num_examples")}
            said = _score(about | score, report.get("target") or {}, scored.get("target"))
            own.append((sign * float(score.get("value") or 0.0), said, system))
    for _, said, system in sorted(own, key=lambda one: -one[0]):
        # A run of an older version, or its schema is not what it was.
        with contextlib.suppress(FineTuningError, OSError, ValidationError, StopIteration):
            name, longest = str(system["name"]), int(system["max_new_tokens"])
            found = MeasuredAs(
                evaluation=run_dir.name, system=name, max_new_tokens=longest, score=said
            )
            spec = found.spec()
            schema, shots = spec.decoding.json_schema, spec.examples.num if spec.examples else 0
            digest = None if schema is None else sha256(workspace.existing(schema))
            if digest == (system.get("files_sha256") or {}).get(schema):
                update = {"json_schema": schema, "json_schema_sha256": digest, "num_shots": shots}
                yield found.model_copy(update=update)


def _score(found: dict[str, Any], target: dict[str, float], verdict: str | None) -> str:
    """Return what a system scored, and whether that met the target; empty if unknown."""
    if found.get("value") is None:
        return ""
    has_interval = found.get("ci_low") is not None
    interval = " [{ci_low:.3g}, {ci_high:.3g}]".format(**found) if has_interval else ""
    said = sentence("measured", interval=interval, **found)
    if verdict is not None:
        wanted = ", ".join(f"{name} {value:g}" for name, value in target.items())
        said += sentence("target", target=wanted, verdict=sentence(verdict))
    return f"{said}."


def _system_of(example: Example) -> str | None:
    parts = (turns_in(example, name) for name in ("messages", "prompt", "chosen"))
    first = next((turns[0] for turns in parts if turns), {})
    content = first.get("content")
    return content if first.get("role") in SYSTEM_ROLES and isinstance(content, str) else None


def _prepared(source: str) -> tuple[Path | None, tuple[str, ...]]:
    """Return the folder of a prepared training file, of a run or of those it came from.

    Also the columns that its prompts are made of.
    """
    from ft_tools.data.map.mapping_for_inference import mapping_beside

    run = source
    while directory.RUN_ID.fullmatch(run):
        path = file_of_run(run, "dataset")
        mapping = mapping_beside(path) if path is not None else None
        if path is not None and mapping is not None:
            return path.parent, tuple(dict.fromkeys(mapping.prompt_columns))
        run = directory.read_info(directory.find(run)).lineage.get("parent_run", "")
    return None, ()
