"""Facts about the world, read from the TOML files beside this one; every row names its source."""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.errors import UnknownName


class Fact(BaseModel):
    """A row of a facts file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(min_length=8, description="Where the row comes from: an address or paper.")


class NamedFact(Fact):
    """A row that other names stand for too."""

    aliases: tuple[str, ...] = Field((), description="Other names of the same thing.")

    def spellings(self, name: str) -> set[str]:
        """Return every way to write the row's names, without case, spaces and dashes."""
        return {_plain(known) for known in (name, *self.aliases)}


class Gpu(NamedFact):
    """One accelerator, as its datasheet gives it."""

    memory_gib: float = Field(gt=0, description="Memory as the datasheet prints it.")
    usable_gib: float | None = Field(
        None, gt=0, description="Total memory that CUDA reports to PyTorch, where published."
    )
    usable_source: str | None = Field(None, description="Where usable_gib was published.")
    bf16_dense_tflops: float | None = Field(
        None, gt=0, description="Peak dense bf16 rate, no sparsity; null where none is printed."
    )
    fp16_dense_tflops: float | None = Field(
        None, gt=0, description="Peak dense fp16 rate, where a card without bf16 prints one."
    )
    ecc_in_memory: bool = Field(
        False, description="Whether error-correcting codes take a sixteenth of the memory."
    )
    has_bf16: bool = Field(True, description="Whether it computes in bf16 (Ampere and later).")
    is_apple: bool = Field(
        False, description="A Mac, whose GPU shares the machine's memory; it trains with MLX."
    )
    bandwidth_gb_per_second: float | None = Field(
        None, gt=0, description="Peak rate of the memory, for an Apple chip."
    )

    def spellings(self, name: str) -> set[str]:
        """Return them also without `RTX`, and with the card's own memory behind the name."""
        names = super().spellings(name)
        names |= {known.removeprefix("rtx") for known in names}
        memory = f"{self.memory_gib:g}"
        with_memory = {f"{known}{memory}{unit}" for known in names for unit in ("gb", "gib", "g")}
        return names | with_memory | {known.removesuffix("gb") for known in names}


class AppleChip(Fact):
    """An Apple chip, and the sizes of memory that it is sold with."""

    memory_gib: tuple[float, ...] = Field(min_length=1, description="Sizes of unified memory.")
    bandwidth_gb_per_second: float = Field(gt=0, description="Peak rate of the memory.")


class ModelFacts(NamedFact):
    """One published model: what its config.json says, and its published size."""

    config: dict[str, Any] = Field(description="Keys of config.json that fix the shapes.")
    total_params: int = Field(gt=0, description="Published parameter count, tied weights once.")
    licence: str = Field(description="Licence, as the model card names it.")


class Threshold(Fact):
    """A decision number."""

    value: float | int | str | tuple[float, ...] | tuple[str, ...]
    units: str
    why: str

    @property
    def number(self) -> float:
        """Return the value as a number.

        Raises:
            TypeError: The value is text or a list.
        """
        if not isinstance(self.value, int | float):
            raise TypeError(f"not a number: {self.value!r}")
        return float(self.value)


NO_GPU = {"cpu", "none", "no", "nogpu", "null"}
Row = TypeVar("Row", bound=NamedFact)


@cache
def gpus() -> Mapping[str, Gpu]:
    """Return every known GPU, keyed by name."""
    return _rows("gpus.toml", Gpu)


@cache
def apple_chips() -> Mapping[str, AppleChip]:
    """Return every known Apple chip, keyed by name."""
    rows = {name: AppleChip.model_validate(row) for name, row in table_of("apple.toml").items()}
    return MappingProxyType(rows)


@cache
def macs() -> Mapping[str, Gpu]:
    """Return every Apple chip with every size of its memory, keyed as `M4 Max 64GB`.

    `usable_gib` is the share that the system lets a process wire; `iogpu.wired_limit_mb` raises it.
    """
    found: dict[str, Gpu] = {}
    for name, chip in apple_chips().items():
        for memory in chip.memory_gib:
            is_small = memory <= number("apple.small_memory_gib")
            share = threshold("apple.wired_fraction_small" if is_small else "apple.wired_fraction")
            found[f"{name} {memory:g}GB"] = Gpu(
                memory_gib=memory,
                usable_gib=round(memory * share.number, 2),
                usable_source=share.source,
                is_apple=True,
                bandwidth_gb_per_second=chip.bandwidth_gb_per_second,
                source=chip.source,
            )
    return MappingProxyType(found)


@cache
def models() -> Mapping[str, ModelFacts]:
    """Return every model of the catalog, keyed by its Hub id."""
    return _rows("models.toml", ModelFacts)


@cache
def thresholds() -> Mapping[str, Threshold]:
    """Return every decision number, keyed by its dotted id."""
    return MappingProxyType(
        {key: Threshold.model_validate(row) for key, row in _leaves(table_of("thresholds.toml"))}
    )


def gpu(name: str) -> Gpu:
    """Look a GPU up by name or alias; case, spaces, dashes and the vendor's name don't matter.

    A Mac is named by its chip and the size of its memory.

    Raises:
        UnknownName: No row has that name; the message lists the nearest ones first.

    >>> gpu("nvidia a100 80gb").memory_gib, gpu("Apple M4 Max 64 GB").usable_gib
    (80.0, 48.0)
    """
    cure = "pass gpu_memory_gib, the GPU's memory in GiB"
    plain, named = _plain(name), name.lower()
    is_mac = "mac" in named or "apple" in named
    # "M4 Max" is no "M4" with more words; "Tesla M40" is none at all.
    chips = sorted(apple_chips(), key=len, reverse=True)
    chip = next((c for c in chips if _plain(c) == plain or (is_mac and _plain(c) in plain)), None)
    if chip is not None and plain not in map(_plain, macs()):
        cure = f"name the chip and its memory, as in {_sizes_of(chip)[0]!r}"
        raise UnknownName("GPU", name, _sizes_of(chip), cure)
    if is_mac and plain not in map(_plain, macs()):
        cure = "a Mac is named by its chip and memory (Apple menu, About This Mac): 'M4 Max 64GB'"
        raise UnknownName("GPU", name, (), cure)
    if _plain(name) in NO_GPU:
        raise UnknownName("GPU", name, (), "leave it out where there is no GPU")
    return _find("GPU", name, {**gpus(), **macs()}, cure)


def _sizes_of(chip: str) -> list[str]:
    return [name for name in macs() if name.rpartition(" ")[0] == chip]


def model(name: str) -> ModelFacts:
    """Look a model up by its Hub id or by that of a model with the same shapes.

    Raises:
        UnknownName: No row has that name; the message lists the nearest ones first.

    >>> model("meta-llama/Meta-Llama-3-8B-Instruct").total_params
    8030261248
    """
    cure = "check the spelling, or pass a folder with its config.json"
    return _find("model", name, models(), cure)


def threshold(threshold_id: str) -> Threshold:
    """Look a decision number up.

    Raises:
        UnknownName: No row has that id.

    >>> threshold("lora.rank_style").value
    8
    """
    if threshold_id not in thresholds():
        raise UnknownName("threshold", threshold_id, thresholds())
    return thresholds()[threshold_id]


def number(threshold_id: str) -> float:
    """Return the value of a threshold that is a number.

    >>> number("lora.rank_style")
    8.0
    """
    return threshold(threshold_id).number


@cache
def table_of(file: str, package: str = "facts") -> dict[str, Any]:
    """Return a table of the package whole, for code that gives its rows a type of its own."""
    text = files(f"ft_tools.{package}").joinpath(file).read_text(encoding="utf-8")
    return tomllib.loads(text)


def _rows(file: str, row_type: type[Row]) -> Mapping[str, Row]:
    return MappingProxyType(
        {name: row_type.model_validate(row) for name, row in table_of(file).items()}
    )


def _leaves(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Walk nested tables down to the rows, which have a `value`."""
    for key, below in table.items():
        if "value" in below:
            yield prefix + key, below
        else:
            yield from _leaves(below, f"{prefix}{key}.")


def _plain(name: str) -> str:
    kept = "".join(c for c in name.lower() if c.isalnum())
    for word in ("nvidia", "geforce", "tesla", "amd", "instinct", "apple"):
        kept = kept.removeprefix(word)
    return kept


def _lookup(name: str, table: Mapping[str, Row]) -> Row | None:
    if name in table:
        return table[name]
    wanted = _plain(name)
    for known, row in table.items():
        if wanted in row.spellings(known):
            return row
    return None


def _find(kind: str, name: str, table: Mapping[str, Row], cure: str) -> Row:
    row = _lookup(name, table)
    if row is None:
        raise UnknownName(kind, name, table, cure)
    return row
