"""What has to hold before a plan is worth showing; each refusal names its cure."""

import importlib.util
import os
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ft_tools import anti_patterns
from ft_tools.data.judge.next_steps import rule_for
from ft_tools.data.report import AuditReport
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_if_small
from ft_tools.errors import BadInput, MissingExtra, Refused
from ft_tools.examples import remembered_test_sets
from ft_tools.examples.training_rows import DatasetFacts, Task
from ft_tools.lora import init_weights
from ft_tools.models import model_folder
from ft_tools.models.resolve import ModelSource
from ft_tools.runs.hardware import Device
from ft_tools.training.checks import argument_dependencies
from ft_tools.training.checks.trl_arguments import CHOICES
from ft_tools.training.request import TrainingRequest

CONTRADICTIONS = "contradictions"
TRACKERS_VARIABLE = "FINE_TUNING_LLM_TRACKERS"
LOCAL_TRACKERS = {"tensorboard": "tensorboard", "trackio": "trackio"}
# Names of packages of the trackers that send data elsewhere; the operator has to allow each.
NETWORK_TRACKERS = {"wandb": "wandb", "mlflow": "mlflow", "comet_ml": "comet_ml"}
TOKENIZER = "tokenizer_config.json"
MODEL_ARGUMENTS = {"attn_implementation", "use_kernels", "dtype"}
DTYPES = ("float32", "bfloat16", "float16")


def require_arguments(
    task: Task, method: str, peft: Mapping[str, Any], training: Mapping[str, Any]
) -> None:
    """Refuse values and combinations that the trainer would refuse later, or take and ruin a run.

    Raises:
        BadInput: A value is none of the known ones, or two do not go together.
        Refused: A tracker sends data elsewhere and the operator has not allowed it.
    """
    for name, value in {**peft, **training}.items():
        known = CHOICES.get((task, name)) or CHOICES.get(("any", name))
        for one in value if isinstance(value, list) else [value]:
            if known and one is not None and one not in known:
                raise BadInput(f"{name}={one!r}; known: {', '.join(map(str, sorted(known)))}")
    if method != "full":
        init_weights.require_start(peft.get("init_lora_weights"), method)
        _targets(peft)
    argument_dependencies.require_company(peft, training)
    _trackers(training.get("report_to") or [])
    for name, value in (training.get("model_init_kwargs") or {}).items():
        if name not in MODEL_ARGUMENTS:
            allowed = ", ".join(sorted(MODEL_ARGUMENTS))
            raise BadInput(f"training.model_init_kwargs.{name} is not supported; known: {allowed}")
        if name == "dtype" and value not in DTYPES:
            allowed = ", ".join(DTYPES)
            raise BadInput(
                f"training.model_init_kwargs.dtype={value!r}; known: {allowed}; left out, the plan "
                "chooses for the device"
            )
    if training.get("packing") and training.get("max_length") is None:
        raise BadInput("training.packing needs max_length: the length of a packed sequence")
    if task == "dpo":
        _preference_loss(training, method)


def require_reference(source: ModelSource, peft: Mapping[str, Any]) -> None:
    """Refuse an adapter beside which no reference is left as it was before training.

    Raises:
        BadInput: With what to do.
    """
    start, cure = peft.get("init_lora_weights"), "remove init_lora_weights"
    bias, bias_cure = str(peft.get("bias", "none")), "remove bias"
    if source.adapter:
        start = model_folder.adapter_says(Path(source.adapter), "init_lora_weights")
        bias = model_folder.adapter_says(Path(source.adapter), "bias") or "none"
        cure = f"merge_and_quantize {source.name} and pass the merged folder as `model`"
        bias_cure = cure
    init_weights.require_base_unchanged(start, cure)
    if bias != "none":
        raise BadInput(
            f"bias={bias!r} trains biases of the base, and DPO needs the base model unchanged as "
            f"its reference; {bias_cure}"
        )
    # Source: TRL 1.16, dpo_trainer.py: the copy leaves out what is named otherwise than layers are.
    if source.adapter and model_folder.trains_embeddings(Path(source.adapter)):
        raise BadInput(
            f"{source.name} is an adapter on an embedding, of which DPO's reference would keep no "
            f"copy; {cure}"
        )


def require_number_format(method: str, device: Device, training: Mapping[str, Any]) -> None:
    """Refuse to train whole weights in numbers that float16's gradient scaler cannot take.

    Raises:
        BadInput: With what to remove.
    """
    asked = (training.get("model_init_kwargs") or {}).get("dtype")
    if method == "full" and device.precision == "float16" and asked in {"float16", "bfloat16"}:
        raise BadInput(
            f"training.model_init_kwargs.dtype={asked!r}: {device.model} computes in float16, "
            "whose gradients are scaled, and trained weights have to be float32; remove dtype"
        )


def require_marks(training: Mapping[str, Any], dataset: DatasetFacts) -> None:
    """Refuse marks that KTO cannot learn from.

    Raises:
        BadInput: They are all alike, a micro-batch has one answer, or the order is not kept.
    """
    if dataset.num_good in {0, dataset.num_examples}:
        alike = "good" if dataset.num_good else "bad"
        raise BadInput(
            f"every answer of {dataset.path} is marked {alike}; KTO needs both kinds. Good answers "
            "alone are trained with launch_sft"
        )
    if training["loss_type"] != "kto":
        return
    # The loss compares each answer with the one before it in its micro-batch.
    if training["per_device_train_batch_size"] < 2:
        raise BadInput(
            "training.per_device_train_batch_size=1: the kto loss compares the answers of a "
            'micro-batch; use 2 or more, or loss_type="apo_zero_unpaired"'
        )
    if training.get("train_sampling_strategy", "sequential") != "sequential":
        raise BadInput(
            "training.train_sampling_strategy: the kto loss needs a fixed order, and the run "
            "shuffles the examples once; remove it"
        )


def require_steps(training: Mapping[str, Any]) -> None:
    """Refuse evaluations without a checkpoint.

    Raises:
        BadInput: `save_steps` is not a multiple of `eval_steps`.
    """
    evaluates, saves = training.get("eval_steps"), training.get("save_steps")
    if training.get("eval_strategy") == "steps" and evaluates and saves and saves % evaluates:
        raise BadInput(
            f"training.save_steps={saves:g} is not a multiple of eval_steps={evaluates:g}; the "
            "best model must have a checkpoint"
        )


def require_held_out(
    request: TrainingRequest, dataset: DatasetFacts, validation: DatasetFacts | None
) -> None:
    """Refuse to validate on trained examples.

    Raises:
        Refused: By the rule `train_validation_leak`.
    """
    same = validation is not None and validation.sha256 == dataset.sha256
    if same and "train_validation_leak" not in request.accept_findings:
        observed = "dataset and validation are the same file"
        cure = "audit_dataset with output_dir splits off a part that is not trained on."
        raise anti_patterns.refusal("train_validation_leak", observed, cure)


def require_watched(request: TrainingRequest, epochs: float, *, evaluates: bool) -> None:
    """Refuse to repeat examples without an evaluation on held-out ones.

    Raises:
        Refused: By the rule `validation_unwatched`.
    """
    is_accepted = "validation_unwatched" in request.accept_findings
    if not evaluates and epochs > 1 and not is_accepted:
        if request.validation is not None:
            observed = f"{epochs:g} epochs and eval_strategy='no'"
            raise anti_patterns.refusal(
                "validation_unwatched", observed, "Leave eval_strategy out."
            )
        observed = f"{epochs:g} epochs and no validation file"
        cure = (
            "Pass `validation` (audit_dataset with output_dir splits one off), or train for one "
            "epoch."
        )
        raise anti_patterns.refusal("validation_unwatched", observed, cure)


def require_audited(
    request: TrainingRequest, task: Task, dataset: DatasetFacts, validation: DatasetFacts | None
) -> list[str]:
    """Refuse data with errors that nobody accepted.

    Returns:
        Warnings: what the audit would not stop a run for.

    Raises:
        Refused: By the rule `no_quality_filter` `test_row` or `verdict_column`.
    """
    _require_decision(request, dataset)
    hashes = (dataset.sha256, validation.sha256 if validation else "")
    report = _audit(request.dataset, request.validation, task, hashes)
    if report is None:
        return [
            "the dataset is too large to be audited in this call; run audit_dataset and check its "
            "errors before you confirm"
        ]
    accepted = set(request.accept_findings)
    if "train_validation_leak" in accepted:
        accepted.add("validation_leak")
    _require_agreement(report, accepted)
    findings = report.findings
    errors = [finding for finding in findings if finding.severity == "error"]
    open_errors = [finding for finding in errors if finding.id not in accepted]
    if open_errors and "no_quality_filter" not in accepted:
        observed = "; ".join(
            f"{finding.id}: {finding.count} (lines {', '.join(map(str, finding.lines))})"
            for finding in open_errors
        )
        ids = [finding.id for finding in open_errors]
        cure = (
            "audit_dataset with output_dir writes files without these examples; or the user "
            f"accepts them: accept_findings={ids!r} with accept_reason."
        )
        raise anti_patterns.refusal("no_quality_filter", observed, cure)
    return [
        f"audit: {finding.count} examples with {finding.id}; {finding.cure}"
        for finding in findings
        if finding.severity == "warning"
    ]


def _require_agreement(report: AuditReport, accepted: set[str]) -> None:
    """Refuse answers that contradict each other.

    Raises:
        Refused: By the rule `no_quality_filter`.
    """
    found = next((reason for reason in report.reasons if reason.id == CONTRADICTIONS), None)
    if found is None or accepted & {CONTRADICTIONS, "conflicting_targets", "no_quality_filter"}:
        return
    share = f"{float(found.observed or 0):.1%}"
    observed = f"{share} of the examples have a prompt with different answers"
    rule, _ = rule_for(report.duplicates.num_with_majority if report.duplicates else 0)
    cure = (
        f"audit_dataset with contradictions={rule!r} and output_dir writes a file without them; or "
        f"the user accepts them: accept_findings=[{CONTRADICTIONS!r}] with accept_reason."
    )
    raise anti_patterns.refusal("no_quality_filter", observed, cure)


def _require_decision(request: TrainingRequest, dataset: DatasetFacts) -> None:
    """Refuse a file of any size that holds test rows, or a column that may mark bad rows.

    Raises:
        Refused: By the rule `test_row` or `verdict_column`.
    """
    if dataset.num_test_rows and "test_row" not in request.accept_findings:
        observed = f"{dataset.num_test_rows} of {dataset.num_examples} examples are test rows"
        cure = (
            "audit_dataset with output_dir writes a file without them. Test sets are remembered "
            f"in {remembered_test_sets.FOLDER}; delete the file of what is no test set any more."
        )
        raise anti_patterns.refusal("test_row", observed, cure)
    if not dataset.verdict_columns or "verdict_column" in request.accept_findings:
        return
    names = ", ".join(dataset.verdict_columns)
    cure = (
        "audit_dataset with `verdicts` and output_dir writes a file without the bad rows; it lists "
        "the other choices."
    )
    raise anti_patterns.refusal(
        "verdict_column", f"unread columns that may mark rows: {names}", cure
    )


@lru_cache(maxsize=8)
def _audit(
    dataset: str, validation: str | None, task: Task, hashes: tuple[str, str]
) -> AuditReport | None:
    """Audit the files with these hashes, which keep an answer from outliving its files."""
    return audit_if_small(
        AuditRequest(
            path=dataset,
            validation_path=validation,
            task="sft" if task == "sft" else "dpo",
            near_duplicates="off",
        )
    )


def require_trainable(source: ModelSource, request: TrainingRequest) -> None:
    """Refuse a model that cannot be trained in this way.

    Raises:
        BadInput: It is a GGUF file, or arguments do not go with an adapter.
        MissingExtra: bitsandbytes is needed and not installed.
    """
    if source.kind == "gguf":
        raise BadInput(
            f"{source.name} is a GGUF file, made for inference; name the model it was made from"
        )
    if source.adapter and request.method == "full":
        raise BadInput(
            f"method='full' cannot start from the adapter of {source.name}; merge_and_quantize it "
            "and pass the merged folder, or use method='lora'"
        )
    if source.adapter and request.peft:
        raise BadInput(
            f"peft={dict(request.peft)!r}: training continues the adapter of {source.name}, whose "
            "shape is fixed; leave peft empty"
        )
    if request.method == "full" and request.peft:
        raise BadInput("peft is for lora and qlora; leave it empty with method='full'")
    needs_bitsandbytes = request.method == "qlora" and request.engine != "mlx"
    if needs_bitsandbytes and importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtra("train", "bitsandbytes")


def require_template(
    source: ModelSource, task: Task, dataset: DatasetFacts, request: TrainingRequest
) -> None:
    """Refuse conversations for a model that has no chat template.

    Of a model that is not on this machine the small files tell it; the run asks once more.

    Raises:
        Refused: By the rule `dpo_before_sft`, for preference pairs on a base model.
        BadInput: The examples are messages and nothing renders them.
    """
    base = source.path or source.files
    if base is None:
        return
    folder = Path(model_folder.tokenizer_folder(source.adapter, base))
    if model_folder.chat_template(folder) is not None:
        return
    if source.path is None and not (folder / TOKENIZER).is_file():
        return
    if not source.adapter:
        require_instruct(source.name, task, request.accept_findings)
    given = request.training.get("chat_template_path")
    if "messages" in dataset.format and not given:
        raise BadInput(
            f"{source.name} has no chat template, and {dataset.path} has messages; name the "
            "instruct model, pass training.chat_template_path (a .jinja file in the workspace), or "
            "use `prompt` and `completion` of plain text"
        )


def require_instruct(name: str, task: Task, accepted: Collection[str]) -> None:
    """Refuse preferences for a model without a chat template.

    Raises:
        Refused: By the rule `dpo_before_sft`.
    """
    if task != "sft" and "dpo_before_sft" not in accepted:
        observed = f"{name} has no chat template, so it is not instruction-tuned"
        cure = "Run launch_sft first and pass its run id as `sft_run`, or name an instruct model."
        raise anti_patterns.refusal("dpo_before_sft", observed, cure)


def _targets(peft: Mapping[str, Any]) -> None:
    targets = peft.get("target_modules") or []
    if "lm_head" in ([targets] if isinstance(targets, str) else targets):
        raise BadInput(
            "peft.target_modules: TRL computes the loss from lm_head.weight directly, so an "
            'adapter on lm_head is never trained; remove it, or use modules_to_save=["lm_head"]'
        )


def _trackers(names: list[str]) -> None:
    allowed = {n for n in os.environ.get(TRACKERS_VARIABLE, "").split(",") if n}
    for name in names:
        package = LOCAL_TRACKERS.get(name) or NETWORK_TRACKERS.get(name)
        if package is None:
            known = ", ".join(sorted({*LOCAL_TRACKERS, *NETWORK_TRACKERS}))
            raise BadInput(f"training.report_to={name!r}; known: {known}")
        if name in NETWORK_TRACKERS and name not in allowed:
            raise Refused(
                f"training.report_to={name!r} sends the run's data to a server; who runs this "
                f"server allows it with {TRACKERS_VARIABLE}={name}. Without it: metrics.jsonl and "
                "report.html of the run, tensorboard or trackio"
            )
        if importlib.util.find_spec(package) is None:
            raise BadInput(
                f"training.report_to={name!r}: {package} is not installed; pip install {package}"
            )


def _preference_loss(training: Mapping[str, Any], method: str) -> None:
    losses = training.get("loss_type") or ["sigmoid"]
    given = training.get("loss_weights")
    if given is not None and len(given) != len(losses):
        raise BadInput(
            f"training.loss_weights has {len(given)} numbers for {len(losses)} losses {losses!r}; "
            "give one each"
        )
    if "exo_pair" in losses and not training.get("label_smoothing"):
        raise BadInput(
            "training.loss_type=['exo_pair'] needs label_smoothing above 0; 1e-3 is usual"
        )
    divergence = training.get("f_divergence_type", "reverse_kl")
    allowed = CHOICES["dpo", "f_divergence_losses"]
    if divergence != "reverse_kl" and not set(losses) <= allowed:
        raise BadInput(
            f"training.f_divergence_type={divergence!r} works with {', '.join(sorted(allowed))}, "
            f"not with {losses!r}"
        )
    if training.get("use_weighting") and {"aot", "aot_unpaired"} & set(losses):
        raise BadInput("training.use_weighting does not work with the losses aot and aot_unpaired")
    if training.get("sync_ref_model") and method != "full":
        raise BadInput("training.sync_ref_model does not work with an adapter; remove it")
