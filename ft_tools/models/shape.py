"""The shape of a model: the matrices of a block, and the parameters they add up to."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

ALL_LINEAR = "all-linear"
PLAIN_NAME = re.compile(r"[\w.-]+")
# They choose experts or gate a shared one; trained on little data, the choice collapses.
# Source: https://huggingface.co/docs/peft/package_reference/lora, "router" in MoE recipes
ROUTERS = {"gate", "router", "shared_expert_gate"}


class Linear(NamedTuple):
    """A weight matrix of a block, shaped (d_out, d_in), under the name PEFT knows it by."""

    name: str
    d_out: int
    d_in: int
    bias: bool = False
    copies: int = 1
    """How often a block has it: once, or for each expert."""

    @property
    def params(self) -> int:
        """Return the number of parameters, the bias among them."""
        return self.d_out * (self.d_in + self.bias)


class Block(BaseModel):
    """A kind of block, and how many of them a model has."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    kind: str
    """What it is made of, as classes of transformers."""
    count: int
    params: int
    """Parameters of one such block, all of them."""
    expert_params: int = 0
    """Parameters of one such block's fused experts."""
    linears: tuple[Linear, ...] = ()
    adapted: tuple[Linear, ...] = ()
    """Those of them that "all-linear" adapts: no router, and nothing that PEFT refuses."""
    experts: tuple[Linear, ...] = ()
    """Its fused experts, which PEFT adapts as `target_parameters`."""
    unadapted: tuple[str, ...] = ()
    """Parameters of state-space and linear-attention layers, which no adapter can take."""
    converted: tuple[Linear, ...] = ()
    """Router and experts under their former names, by which PEFT finds them in some families; a
    matrix of doubled rank has twice the width."""


class ModelShape(BaseModel):
    """All that memory and adapters depend on.

    For families with a row it comes from config.json alone, for others from the real class.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    name: str
    model_type: str
    num_layers: int
    hidden_size: int
    intermediate_size: int
    """Width of the MLP, of one expert where there are experts."""
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    tied: bool
    """Whether the output head is the embedding matrix itself."""
    gated: bool
    """Whether the MLP has a gate beside the up projection."""
    num_norms: int
    """Normalisations over the hidden size, in one block."""
    normed_width: int
    """Elements per token that the q and k norms see; 0 without them."""
    num_experts: int = 0
    experts_per_token: int = 0
    shared_width: int = 0
    """Intermediate width of the shared expert, which every token passes."""
    outer_params: int
    """Parameters outside the blocks but for the embedding and the head: final norm, positions."""
    layer_norms: bool = False
    """LayerNorm, which keeps nothing to scale, instead of RMSNorm."""
    fp32_norms: bool = False
    """Whether norms scale in fp32, as in Gemma and OLMo 2."""
    pre_norms: bool = True
    """Whether attention and MLP have a norm before them."""
    post_norms: bool = False
    """Whether attention and MLP have a norm after them."""
    composed_gelu: bool = False
    """Whether the activation is `gelu_new`, which is written out and keeps each step."""
    softcap: bool = False
    """Whether attention scores (and then the logits too) are soft-capped, as in Gemma 2."""
    window: int = 0
    """Tokens that a block with a window attends to."""
    num_windowed: int = 0
    """Blocks that have one."""
    max_positions: int | None = None
    notes: tuple[str, ...] = ()
    quantized: str = ""
    """How the checkpoint is quantized already, a kind of `models.quantized`; empty if it is not."""
    blocks: tuple[Block, ...]
    """The kinds of blocks; one for families with a row, in which every block is alike."""
    is_described: bool = False
    """Whether it was read off the class, because the family has no row."""
    outer_linears: tuple[Linear, ...] = ()
    """Linear layers outside the blocks, the head not among them: towers, projections."""
    outer_adapted: tuple[Linear, ...] = ()
    """Those that PEFT adapts by name."""
    peft_agrees: bool = True
    """Whether PEFT's own "all-linear", with `excluded`, is what `targets` returns for it."""
    text_path: str = "model"
    """Path of the language model inside the loaded class."""
    stack: str = "model.layers"
    """Path of its list of blocks."""
    excluded: str = ""
    """What PEFT is to leave alone, a regular expression over module names; empty if nothing."""
    has_sdpa: bool = True
    config: dict[str, Any] = {}
    """The config.json that it was read from, for a trace of the same class."""

    @property
    def linears(self) -> tuple[Linear, ...]:
        """Return the nn.Linear modules of the blocks, of each name the largest."""
        found: dict[str, Linear] = {}
        for linear in (linear for block in self.blocks for linear in block.linears):
            if linear.name not in found or found[linear.name].params < linear.params:
                found[linear.name] = linear
        return tuple(found.values())

    @property
    def q_width(self) -> int:
        """Return the width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Return the width of all key heads together (the value heads have as much)."""
        return self.num_kv_heads * self.head_dim

    @property
    def embedding_params(self) -> int:
        """Return the parameters of the token embedding."""
        return self.vocab_size * self.hidden_size

    @property
    def head_params(self) -> int:
        """Return the parameters that the output head has of its own; 0 when tied."""
        return 0 if self.tied else self.embedding_params

    @property
    def linear_weights(self) -> int:
        """Return the parameters of all nn.Linear weights but the head's, without biases."""
        inside = sum(block.count * _weights(block.linears) for block in self.blocks)
        return inside + _weights(self.outer_linears)

    @property
    def expert_weights(self) -> int:
        """Return the parameters of all fused experts."""
        return sum(block.count * block.expert_params for block in self.blocks)

    @property
    def layer_params(self) -> int:
        """Return the parameters of a block, of the largest kind."""
        return max(block.params for block in self.blocks)

    @property
    def layer_linear_weights(self) -> int:
        """Return the parameters of a block's nn.Linear weights, of the largest kind."""
        return max(_weights(block.linears) for block in self.blocks)

    @property
    def layer_expert_weights(self) -> int:
        """Return the parameters of a block's fused experts, of the largest kind."""
        return max(block.expert_params for block in self.blocks)

    @property
    def total_params(self) -> int:
        """Return the parameters of the whole model, tied weights counted once.

        Parameters, not bytes: two bytes each in bf16.
        """
        blocks = sum(block.count * block.params for block in self.blocks)
        return blocks + self.embedding_params + self.head_params + self.outer_params

    def targets(
        self,
        target_modules: str | tuple[str, ...] = ALL_LINEAR,
        target_parameters: tuple[str, ...] = (),
    ) -> tuple[Linear, ...]:
        """Return the matrices of a block that LoRA would adapt.

        Args:
            target_modules: Names, matched as PEFT does (whole or after a dot), or "all-linear",
                which is every nn.Linear of the block but routers and what PEFT refuses.
            target_parameters: Names of fused experts, matched alike.

        Returns:
            Matrices of one block of each kind. Empty when no name matches.
        """
        wanted = self._wanted(target_modules)
        found = [t for _, t in self._targets(wanted, target_parameters)]
        return tuple(dict.fromkeys(found))

    @property
    def taken_names(self) -> frozenset[str]:
        """Return the names that PEFT takes for fused experts and routers, in every block."""
        return frozenset(last_name(m.name) for block in self.blocks for m in block.converted)

    def _targets(
        self, wanted: Callable[[str], bool] | None, parameters: tuple[str, ...]
    ) -> Iterator[tuple[int, Linear]]:
        """Yield what is adapted, and how many blocks have it; by name also a router.

        Where PEFT takes a name for the fused experts, a linear layer of that name is not adapted.
        """
        taken = self.taken_names
        for block in self.blocks:
            found = list(block.adapted)
            if wanted is not None:
                own = [m for m in block.linears if last_name(m.name) not in taken]
                found = [m for m in [*own, *block.converted] if wanted(m.name)]
            found += [m for m in block.experts if is_named(m.name, parameters)]
            yield from ((block.count, m) for m in found)

    def _wanted(self, target_modules: str | tuple[str, ...]) -> Callable[[str], bool] | None:
        """Return the test by which PEFT chooses modules, over names inside a block; None for all.

        Names match whole or after a dot; one text with other signs is a pattern over whole paths.
        """
        if target_modules == ALL_LINEAR:
            return None
        if isinstance(target_modules, str) and not PLAIN_NAME.fullmatch(target_modules):
            pattern = re.compile(target_modules)
            paths = [f"{self.stack}.0{middle}." for middle in ("", ".self_attn", ".mlp")]
            return lambda name: any(pattern.fullmatch(path + name) for path in paths)
        names = (target_modules,) if isinstance(target_modules, str) else target_modules
        return lambda name: is_named(name, names)

    def lora_params(
        self,
        rank: int,
        target_modules: str | tuple[str, ...] = ALL_LINEAR,
        target_parameters: tuple[str, ...] = (),
    ) -> int:
        """Count the trainable parameters that LoRA adds.

        Each adapted matrix W, shaped (d_out, d_in), gains A, shaped (rank, d_in), and B, shaped
        (d_out, rank); so it gains rank * (d_in + d_out) parameters.

        Returns:
            Parameters, not bytes. DoRA's magnitudes and `modules_to_save` are not among them.

        Source: Hu et al. 2021, section 4.1, https://arxiv.org/abs/2106.09685
        """
        wanted = self._wanted(target_modules)
        inside = sum(
            count * m.copies * (m.d_out + m.d_in)
            for count, m in self._targets(wanted, target_parameters)
        )
        outer = [m for m in self.outer_adapted if wanted is not None and wanted(m.name)]
        return rank * (inside + sum(m.copies * (m.d_out + m.d_in) for m in outer))


def _weights(linears: tuple[Linear, ...]) -> int:
    return sum(linear.d_out * linear.d_in for linear in linears)


def last_name(path: str) -> str:
    """Return the last part of a module's path."""
    return path.rpartition(".")[2]


def is_named(name: str, names: Iterable[str]) -> bool:
    """Return whether one of some names means this one: it is the whole, or what follows a dot."""
    return any(name == n or name.endswith(f".{n}") for n in names)


def adapted_of(
    linears: Iterable[Linear],
    *,
    is_excluded: Callable[[str], bool] = lambda name: False,
    taken: Iterable[str] = (),
) -> tuple[Linear, ...]:
    """Return those linear layers of a block that "all-linear" adapts."""
    left = ROUTERS.union(taken)
    return tuple(
        linear
        for linear in linears
        if not is_excluded(linear.name)
        and last_name(linear.name) not in left
        and not linear.name.endswith("router.proj")
    )
