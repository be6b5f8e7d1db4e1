"""Where a run executes: its device, its processes, what a scheduler would be given."""

from typing import Any

from ft_tools import facts
from ft_tools.formats.trl_formats import Task
from ft_tools.runs.hardware.devices import Device, find_device
from ft_tools.runs.launchers.attend import shown_job
from ft_tools.runs.launchers.launcher import LocalOptions, Options
from ft_tools.runs.launchers.table import LAUNCHERS, Place, parse, place_of, require_programs
from ft_tools.runs.processes.start import WORKERS
from ft_tools.training.checks.engine import require_machine
from ft_tools.training.findings import refusal
from ft_tools.training.request import TrainingRequest

REMOTE_CPU = "unknown cores"


def find_place(request: TrainingRequest, task: Task) -> tuple[Device, Place]:
    """Return the device of each process, and the place with what would be submitted.

    Raises:
        BadInput: An option is unknown or cannot be used, or there are fewer cards than processes.
        Missing: The backend's program is not on this machine.
    """
    require_machine(request)
    options = parse(request.backend, request.backend_options)
    require_programs(request.backend, options)
    _require_engine(request, options)
    place = place_of(request.backend, options)
    if place.exported_for:
        device = _device_there(options)
    elif isinstance(options, LocalOptions):
        device = find_device(options.device, options.processes)
        if device.name == "cpu" and options.sharding != "ddp":
            raise refusal("sharding_needs_gpus", sharding=options.sharding)
    else:
        device = _device_there(options)
        job = shown_job(task, WORKERS[task], options)
        launcher = LAUNCHERS[request.backend]
        files, command = launcher.files(job), launcher.submit(job)
        place = place.model_copy(update={"files": files, "commands": [command]})
    asked = {"bfloat16": "bf16", "float16": "fp16"}.get(device.precision, "")
    if request.training.get(asked) is False:
        device = device.model_copy(update={"precision": "float32"})
    return device, place


def share_batch(training: dict[str, Any], num_processes: int) -> None:
    """Divide a step's examples among the processes, so that a step stays the same step.

    `per_device_train_batch_size` times `gradient_accumulation_steps` of a request is what one step
    sees, however many processes share the work: each takes its part of the micro-batches.

    Args:
        training: Changed in place.
        num_processes: Of all machines.

    Raises:
        BadInput: The examples of a step cannot be divided.

    >>> four = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    >>> share_batch(four, 8)
    >>> four
    {'per_device_train_batch_size': 2, 'gradient_accumulation_steps': 1}
    """
    if num_processes == 1:
        return
    micro = training["per_device_train_batch_size"]
    effective = micro * training["gradient_accumulation_steps"]
    if effective % num_processes:
        raise refusal("batch_not_divisible", effective=effective, processes=num_processes)
    each = effective // num_processes
    micro = max(size for size in range(1, min(micro, each) + 1) if each % size == 0)
    training["per_device_train_batch_size"] = micro
    training["gradient_accumulation_steps"] = each // micro


def _require_engine(request: TrainingRequest, options: Options) -> None:
    if options.sharding == "fsdp" and request.method == "qlora":
        raise refusal("sharded_4_bit", sharding=options.sharding)
    if options.sharding == "fsdp" and request.training.get("precompute_ref_log_probs"):
        raise refusal("sharded_reference", sharding=options.sharding)


def _device_there(options: Options) -> Device:
    """Return the device of another machine, from its name; it cannot be looked at from here."""
    if not options.gpu:
        return Device(name="cpu", model=REMOTE_CPU, memory_gib=0.0, precision="float32")
    card = facts.gpu(options.gpu)
    precision: Any = "bfloat16" if card.has_bf16 else "float16"
    memory = card.usable_gib or card.memory_gib
    return Device(name="cuda", model=options.gpu, memory_gib=memory, precision=precision)
