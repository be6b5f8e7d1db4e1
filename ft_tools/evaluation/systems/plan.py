"""What asking each system would take, and whether its answers are known already."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from ft_tools import __version__, workspace
from ft_tools.contract import Report
from ft_tools.endpoints.client import require_key
from ft_tools.errors import MissingExtra, require_installed
from ft_tools.evaluation.findings import refusal
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.stress import HELD_OUT
from ft_tools.evaluation.systems import answers
from ft_tools.evaluation.systems.asking import Pool, asked_as, read_document, read_pool
from ft_tools.evaluation.systems.models import ModelFiles, model_files
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.formats.training_rows import CHARACTERS_PER_TOKEN
from ft_tools.metrics.answers import MAX_CLASSES, columns_of, has_classes
from ft_tools.models.resolve import ModelSource
from ft_tools.publish import sha256
from ft_tools.similarity.minilm import find_minilm


class SystemPlan(Report):
    """One system, and what asking it would take."""

    CONCISE = (
        *("name", "kind", "sent_to", "num_questions", "budget", "num_examples_removed"),
        *("reused_from", "num_reused", "max_new_tokens"),
    )
    # Plans of earlier versions, which may hold more, are read when their runs are resumed.
    model_config = ConfigDict(extra="ignore")

    name: str
    kind: str = Field(description="model, endpoint, majority, tf_idf or nearest_example.")
    model: ModelFiles | None = None
    sent_to: str | None = Field(None, description="Host that the texts are sent to.")
    num_questions: int = Field(0, description="Questions that would be asked.")
    estimated_input_tokens: int = Field(0, description="From the number of characters.")
    longest_input_tokens: int = Field(0, description="Of one question, counted in the same way.")
    budget: dict[str, float] = Field(
        default_factory=dict, description="max_calls and max_usd: never exceeded."
    )
    files_sha256: dict[str, str] = Field(
        default_factory=dict, description="Files that the system reads -> hash."
    )
    num_examples_removed: int = Field(
        0, description="Rows of examples.path that are held-out questions; they are not used."
    )
    answers_key: str = Field("", description="Hash of everything its answers depend on.")
    reused_from: str | None = Field(None, description="Run whose answers are used again.")
    num_reused: int = 0
    max_new_tokens: int


def plan_system(
    spec: SystemSpec,
    source: ModelSource | None,
    held_out_path: Path,
    sets: Mapping[str, Sequence[HeldOut]],
    settings: Mapping[str, Any],
    *,
    reuse: bool,
) -> SystemPlan:
    """Check a system and describe what asking it would take.

    Its `settings` are everything else that answers depend on, max_new_tokens among it.

    Raises:
        BadInput: The budget is too small, a key or file is missing, or there are no classes.
    """
    pool = _read_pool(spec, held_out_path, sets[HELD_OUT])
    grammar = require_grammar(spec, [example.reference for example in sets[HELD_OUT]])
    files = files_of(spec)
    max_new_tokens = spec.decoding.max_new_tokens or int(settings["max_new_tokens"])
    made = model_files(source) if source is not None else None
    # Which rows are asked is not in it: an answer is known by its row.
    own: dict[str, Any] = {"max_new_tokens": max_new_tokens, "grammar": grammar}
    own["pool"] = [example.line for example in pool.examples]
    key = _key(spec, made, files, {**settings, **own})
    run_id, known = answers.find(key) if reuse else ("", {})
    asked = [(kind, example) for kind, examples in sets.items() for example in examples]
    missing = [one for kind, one in asked if (kind, one.line) not in known]
    num_reused = len(asked) - len(missing)
    document = "" if spec.baseline else read_document(spec)
    shown = pool.examples[: spec.examples.num] if spec.examples else []
    inputs = [asked_as(spec, one, shown, document) for one in missing if not spec.baseline]
    turns = [[str(turn.get("content") or "") for turn in one.messages] for one in inputs]
    characters = [sum(map(len, texts)) for texts in turns]
    return SystemPlan(
        name=spec.name,
        kind=spec.kind,
        model=made,
        num_questions=len(missing),
        estimated_input_tokens=sum(characters) // CHARACTERS_PER_TOKEN,
        longest_input_tokens=max(characters, default=0) // CHARACTERS_PER_TOKEN,
        files_sha256=files,
        num_examples_removed=pool.num_removed,
        answers_key=key,
        reused_from=run_id if num_reused else None,
        num_reused=num_reused,
        max_new_tokens=max_new_tokens,
        **budget_of(spec, len(missing)),
    )


def _read_pool(spec: SystemSpec, held_out_path: Path, held_out: Sequence[HeldOut]) -> Pool:
    """Return the examples that a system learns from or is shown; refuse what it cannot use."""
    shots = spec.examples
    if shots is None:
        return Pool([], 0)
    pool = read_pool(shots, held_out_path, held_out)
    is_classifier = spec.baseline == "tf_idf"
    known = [one.reference for one in pool.examples if is_classifier]
    columns = columns_of(known).values()
    if is_classifier and not any(map(has_classes, columns)):
        counts = ", ".join(str(len(set(values))) for values in columns)
        found = {"num": len(pool.examples), "path": shots.path, "counts": counts}
        raise refusal("no_classes", most=MAX_CLASSES, **found)
    wanted = spec.baseline or shots.choose
    if wanted in {"nearest", "nearest_example"} and find_minilm() is None:
        raise MissingExtra("data", "all-MiniLM-L6-v2")
    return pool


def files_of(spec: SystemSpec) -> dict[str, str]:
    """Return path -> hash of the files that a system reads."""
    named = (spec.examples and spec.examples.path, spec.document, spec.decoding.json_schema)
    return {name: sha256(workspace.existing(name)) for name in named if name}


def budget_of(spec: SystemSpec, num_questions: int) -> dict[str, Any]:
    """Return where the texts of an endpoint go and what they may cost; nothing of a model.

    Raises:
        BadInput: Its key is not set, or its calls do not suffice.
    """
    endpoint = spec.endpoint
    if endpoint is None:
        return {}
    require_key(endpoint.key_variable)
    if num_questions > endpoint.max_calls:
        most = endpoint.max_calls
        raise refusal("calls_too_few", system=spec.name, num=num_questions, most=most)
    limits = {"max_calls": endpoint.max_calls, "max_usd": endpoint.max_usd}
    budget = {name: float(value) for name, value in limits.items() if value is not None}
    return {"sent_to": endpoint.host, "budget": budget}


def require_grammar(spec: SystemSpec, references: Sequence[str]) -> str | None:
    """Return the grammar of a model's answers; refuse one that cannot be enforced."""
    decoding = spec.decoding
    if decoding.json_schema is None and decoding.regex is None:
        return None
    # Its library takes a tenth of the time to a first answer.
    from ft_tools.metrics.schema import load_schema

    path = decoding.json_schema
    schema = load_schema(workspace.existing(path)) if path is not None else None
    if spec.model is None:
        return None
    require_installed("eval", "llguidance")
    from ft_tools.evaluation.systems.grammar import grammar_of

    return grammar_of(decoding, schema, references)


def _key(
    spec: SystemSpec,
    files: ModelFiles | None,
    hashes: Mapping[str, str],
    settings: Mapping[str, Any],
) -> str:
    """Hash what the answers depend on: not the name, the price or how fast it may be asked."""
    endpoint = spec.endpoint
    asked = [endpoint.url, endpoint.model, endpoint.response_format] if endpoint else []
    if endpoint is not None and endpoint.sampling:
        asked.append(json.dumps(endpoint.sampling, sort_keys=True))
    parts = {
        "version": __version__,
        "spec": spec.model_dump(mode="json", exclude={"name", "model", "price", "endpoint"}),
        "model": files.model_dump(mode="json", exclude={"name"}) if files else None,
        "endpoint": asked or None,
        "files": sorted(hashes.values()),
        "settings": dict(settings),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
