"""How rows of each kind are asked for, what is sent, and what a reply is kept under."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ft_tools import workspace
from ft_tools.creation import documents, prompts
from ft_tools.creation.prompts import Candidate, Prompt
from ft_tools.creation.request import CreateRequest, TeacherSpec
from ft_tools.endpoints.client import Question, question_for, schema_option
from ft_tools.evaluation.systems.models import ModelFiles
from ft_tools.evaluation.systems.plan import files_of
from ft_tools.metrics.checks.scorer import file_hashes
from ft_tools.metrics.schema import load_schema
from ft_tools.publish import sha256

DEFAULT_TOKENS = 1024
"""Of a reply."""


class Asking(NamedTuple):
    """How rows of a kind are asked for."""

    prompts: Callable[[CreateRequest, Path], Iterator[Prompt]]
    read: Callable[[CreateRequest, Prompt, str], list[Candidate]]
    """Return the rows of a reply; raises Malformed."""
    schema: dict[str, Any] | None = None
    """What the endpoint constrains its reply to."""


TEXT = {"type": "string"}
INPUT = prompts.object_schema(input=TEXT, answer=TEXT)
KINDS: Mapping[str, Asking] = {
    "answers": Asking(prompts.prompts_of_rows, prompts.read_answer),
    "documents": Asking(documents.prompts_of_passages, documents.read_examples, documents.SCHEMA),
    "variations": Asking(prompts.prompts_for_inputs, prompts.read_input, INPUT),
}


@dataclass(frozen=True)
class Requests:
    """The requests of a creation to its teacher."""

    request: CreateRequest
    teacher: TeacherSpec
    files: ModelFiles | None = None
    """Of a local model."""

    @property
    def max_tokens(self) -> int:
        """Return the most tokens of a reply."""
        return self.teacher.decoding.max_new_tokens or DEFAULT_TOKENS

    @property
    def max_usd(self) -> float | None:
        """Return the budget in USD: the lower one of the request's and the endpoint's."""
        endpoint = self.teacher.endpoint
        given = [self.request.budget_usd, endpoint.max_usd if endpoint else None]
        return min((one for one in given if one is not None), default=None)

    @cached_property
    def schema(self) -> dict[str, Any] | None:
        """Return the JSON Schema that replies are constrained to; None without one."""
        if (named := self.teacher.decoding.json_schema) is not None:
            return load_schema(workspace.existing(named))
        return KINDS[self.request.kind].schema

    @cached_property
    def options(self) -> dict[str, Any]:
        """Return the fields of each request to an endpoint beside messages and model."""
        options: dict[str, Any] = {"temperature": self.teacher.decoding.temperature}
        if self.schema is not None and self.teacher.endpoint is not None:
            options |= schema_option(self.teacher.endpoint.response_format, self.schema)
        return options

    def questions(self, prompt: Prompt) -> list[Question]:
        """Return the question of each sample of a prompt."""
        endpoint, messages = self.teacher.endpoint, prompt.messages
        samples = range(self.request.samples)
        if endpoint is not None:
            most, options = self.max_tokens, self.options
            return [question_for(endpoint, messages, most, at, **options) for at in samples]
        digest = self.files.files_sha256 if self.files else ""
        how = self.teacher.decoding.model_dump(mode="json")
        parts = [messages, self.max_tokens, self.schema, how, digest]
        body = json.dumps(parts, ensure_ascii=False).encode()
        return [Question(messages, body, self.max_tokens, at) for at in samples]


def hashes_of(request: CreateRequest) -> dict[str, str]:
    """Return path -> SHA-256 of the files that the teacher or a check reads."""
    own = files_of(request.teacher) if request.teacher else {}
    if request.marked:
        own |= {request.marked: sha256(workspace.existing(request.marked))}
    return own | file_hashes(request.checks)


def prompt_sha256(prompt: Prompt) -> str:
    """Return the hash of the messages that are sent."""
    return hashlib.sha256(json.dumps(prompt.messages, ensure_ascii=False).encode()).hexdigest()
