"""What create_dataset takes."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from ft_tools.advice.request import Teacher as Provider
from ft_tools.creation.traces.log import Keep
from ft_tools.data.map.mapping import Replacements
from ft_tools.evaluation.systems.spec import PASSAGE, QUESTION, SystemSpec
from ft_tools.formats.variations import Variation
from ft_tools.metrics.checks.request import MOST_CHECKS, Check, Judge, check_names
from ft_tools.runs.request import LaunchRequest

CreationKind = Literal["answers", "documents", "traces", "variations"]
INPUTS, COPIES = "variations by a teacher", "exact variations"
ASKING = ("answers", "documents", INPUTS)
"""Of the modes, two of which are kind=variations, those in which somebody is asked."""
READ_BY: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("prompt_column", "samples", "keep_per_prompt", "prefer"), ("answers",)),
    **dict.fromkeys(("teacher.template", "teacher.passages", "teacher.document"), ("answers",)),
    **dict.fromkeys(("keep", "marks", "replace"), ("traces",)),
    **dict.fromkeys(("passage_characters", "questions_per_passage", "template"), ("documents",)),
    **dict.fromkeys(("unanswerable_fraction", "unanswerable_answer"), ("documents",)),
    **dict.fromkeys(("teacher", "budget_usd", "checks", "marked", "num_rows"), ASKING),
    **dict.fromkeys(("pilot_rows", "batch"), ASKING),
    "teacher.examples": ("answers", "documents"),
    "variations": (COPIES,),
    "attributes": (INPUTS,),
}
"""Argument -> the modes that read it; others are for all."""


class TeacherSpec(SystemSpec):
    """Who answers: an endpoint or a model, and how it is asked, as a system of `evaluate`."""

    name: str = Field("teacher", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")

    @model_validator(mode="after")
    def _is_no_baseline(self) -> Self:
        if self.baseline is not None:
            raise ValueError("a teacher is an endpoint or a model, not a baseline")
        return self

    @property
    def model_name(self) -> str:
        """Return the name of the model: at its endpoint, or here."""
        return self.endpoint.model if self.endpoint else self.model or ""

    @property
    def sampling(self) -> dict[str, float]:
        """Return how answers are drawn; what the endpoint is asked for comes last."""
        more = self.endpoint.sampling if self.endpoint else {}
        return {"temperature": self.decoding.temperature} | more


class VariedCopies(Variation):
    """An exact change, and how many copies it makes."""

    share: float = Field(1.0, gt=0, le=1, description="Of the rows that are copied.")
    copies: int = Field(1, ge=1, le=200, description="Copies of each; those that differ are kept.")


class CreateRequest(LaunchRequest):
    """Make training rows from prompts, documents, logs or examples; `confirm` starts the plan."""

    source: str = Field(description="File or folder.")
    kind: CreationKind = Field(description="What is made of source.")
    teacher: TeacherSpec | None = Field(None, description="{endpoint} or {model}.")
    output_dir: str | None = Field(None, description="New folder for the files.")
    budget_usd: float | None = Field(
        None, gt=0, description="Of teacher and judges, never exceeded; needs known prices."
    )
    checks: list[Check] = Field(
        default_factory=list,
        max_length=MOST_CHECKS,
        description="Kept is an answer that scores 1 in each.",
    )
    test: str | None = Field(
        None,
        description="Your held-out rows as JSONL: nothing that they ask, by words or by meaning, "
        "is in the files.",
    )
    test_similarity: float = Field(
        0.83,
        gt=0,
        le=1,
        description="Cosine of MiniLM from which a row paraphrases a test question; 1: copies "
        "alone are left out.",
    )
    prompt_column: str | None = Field(
        None,
        max_length=200,
        description="Of answers: column with the prompt; null: `messages` or `prompt`.",
    )
    samples: int = Field(1, ge=1, le=64, description="Answers to each prompt.")
    keep_per_prompt: int = Field(1, ge=1, le=8, description="Of the answers that pass.")
    prefer: Literal["shortest", "judged"] = Field(
        "shortest",
        description="Of several that pass; judged: the best by the judge of `checks`, then the "
        "shortest.",
    )
    pilot_rows: int = Field(
        20, ge=0, le=500, description="Prompts of the pilot; 0: no pilot, and no interval."
    )
    batch: bool = Field(
        False,
        description="Ask through the endpoint's batch interface (/files, /batches): within 24 "
        "hours, at teacher.price.",
    )
    num_rows: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Of answers and documents: prompts or passages that are used, chosen by seed; "
        "of variations by a teacher: rows to ask for (default 100).",
    )
    variations: list[VariedCopies] = Field(
        default_factory=list,
        max_length=40,
        description="Exact changes of rows whose answer is known, such as "
        '{"change": "swapped_values", "field": "street", "values": [...], "copies": 3}; no teacher '
        "is asked.",
    )
    attributes: dict[str, list[str]] = Field(
        default_factory=dict,
        max_length=12,
        description="Of variations by a teacher: attribute -> values, such as topic or tone; each "
        "request names one of each.",
    )
    passage_characters: int = Field(
        3000, ge=200, le=40_000, description="Of documents: longest passage."
    )
    questions_per_passage: int = Field(3, ge=1, le=20, description="Of documents.")
    template: str = Field(
        f"{PASSAGE}\n\n{QUESTION}",
        max_length=4000,
        description="Of documents: user turn with {passage} and {question}; ask the model in it.",
    )
    unanswerable_fraction: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="Of documents: rows with a question to another document's passage.",
    )
    unanswerable_answer: str = Field(
        "The text does not say.", min_length=1, max_length=500, description="Their answer."
    )
    keep: Keep | None = Field(
        None,
        description='Of traces: sign -> what passes, such as {"helpful [HUMAN]": ">=0.8"}, or '
        "not_failed; null: the plan lists the signs.",
    )
    marks: str | None = Field(
        None,
        description="Of traces: table with the column session; its others are signs, too.",
    )
    replace: Replacements = Field(
        default_factory=dict,
        max_length=40,
        description="Of traces: regular expression, such as a name -> text that stands for it, in "
        "every turn, system prompts, calls and results of tools.",
    )
    marked: str | None = Field(
        None,
        description="JSONL with question, answer and label (good or bad), at least 20 rows: the "
        "judge of `checks` is compared with it in the pilot.",
    )
    provider: Provider | None = Field(
        None, description="Whose terms the teacher has; null: by the model's name."
    )
    product_use: Literal["internal", "sold"] | None = Field(
        None, description="Of the trained model; sold: or given away."
    )
    validation_fraction: float = Field(0.1, ge=0, le=0.5, description="Share for validation.")
    seed: int = Field(0, ge=0, description="Of every draw.")
    accept_findings: list[str] = Field(
        default_factory=list, description="Accepted by the user: teacher_terms."
    )
    accept_reason: str = Field(
        "", max_length=500, description="Why the user accepts them; kept in the plan."
    )

    @property
    def judges(self) -> dict[str, Judge]:
        """Return the checks that are judges, by name."""
        named = zip(check_names(self.checks), self.checks, strict=True)
        return {name: check for name, check in named if isinstance(check, Judge)}

    @property
    def mode(self) -> str:
        """Return the kind, the two of variations apart."""
        kind = COPIES if self.variations else INPUTS
        return kind if self.kind == "variations" else self.kind

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_names(self.checks)
        usual, teacher = type(self).model_construct(source="", kind=self.kind), self.teacher
        given = {name for name, value in self if value != getattr(usual, name)}
        given |= {f"teacher.{name}" for name, value in teacher or () if value is not None}
        unread = (name for name in sorted(given & READ_BY.keys()) if self.mode not in READ_BY[name])
        other = next(unread, "")
        is_here = teacher is not None and teacher.endpoint is None
        shots, several = teacher.examples if teacher else None, self.samples > 1
        problems = {
            "kind='variations' takes either options.variations (exact changes), or a teacher "
            "with options.attributes": self.kind == "variations"
            and bool(self.variations) == bool(self.attributes),
            f"{other} is for {', '.join(READ_BY.get(other, ()))}; it is not read for "
            f"{self.mode}": other,
            "template must contain {passage} and {question}": PASSAGE not in self.template
            or QUESTION not in self.template,
            f"kind={self.kind!r} requires teacher: who answers": self.mode in ASKING
            and teacher is None,
            "accept_findings requires accept_reason: one sentence on why": self.accept_findings
            and not self.accept_reason.strip(),
            "keep_per_prompt is above samples": self.keep_per_prompt > self.samples,
            "prefer='judged' needs samples above 1, and one judge among checks": self.prefer
            == "judged"
            and not (several and len(self.judges) == 1),
            "teacher.examples: set choose to first or random": shots and shots.choose == "nearest",
            "batch needs teacher.endpoint": self.batch and is_here,
            "a local model decodes greedily: set samples to 1, or serve it as an endpoint": several
            and is_here,
            "samples above 1 need teacher.decoding.temperature, such as 0.8": several
            and teacher
            and not teacher.sampling.get("temperature"),
        }
        if problem := next((text for text, is_wrong in problems.items() if is_wrong), ""):
            raise ValueError(problem)
        return self
