"""The shape of a model: the matrices of a block, and the parameters they add up to."""

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

ALL_LINEAR = "all-linear"


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


class ModelShape(BaseModel):
    """All that memory and adapters depend on, from config.json alone; every block is alike."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    linears: tuple[Linear, ...]
    """The nn.Linear modules of one block; fused experts are none of them."""
    expert_linears: tuple[Linear, ...] = ()
    """Router and experts, fused parameters that PEFT adapts under their former module names."""
    num_norms: int
    """Normalisations over the hidden size, in one block."""
    normed_width: int
    """Elements per token that the q and k norms see; 0 without them."""
    norm_params: int
    """Parameters of all normalisations of one block."""
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
    max_positions: int | None = None
    notes: tuple[str, ...] = ()

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
    def expert_params(self) -> int:
        """Return the parameters of one block's experts, all of them together."""
        matrices = 3 if self.gated else 2
        return self.num_experts * matrices * self.hidden_size * self.intermediate_size

    @property
    def router_params(self) -> int:
        """Return the parameters of one block's router."""
        return self.num_experts * self.hidden_size

    @property
    def linear_params(self) -> int:
        """Return the parameters of one block's nn.Linear weights, without biases and experts."""
        return sum(linear.d_out * linear.d_in for linear in self.linears)

    @property
    def layer_params(self) -> int:
        """Return the parameters of one block."""
        dense = sum(linear.params for linear in self.linears)
        return dense + self.expert_params + self.router_params + self.norm_params

    @property
    def total_params(self) -> int:
        """Return the parameters of the whole model, tied weights counted once.

        Parameters, not bytes: two bytes each in bf16.
        """
        blocks = self.num_layers * self.layer_params
        return blocks + self.embedding_params + self.head_params + self.outer_params

    @property
    def active_params(self) -> int:
        """Return the parameters that one token uses: experts it is not routed to left out."""
        if not self.num_experts:
            return self.total_params
        idle = self.num_experts - self.experts_per_token
        return self.total_params - self.num_layers * self.expert_params * idle // self.num_experts

    def targets(self, target_modules: str | tuple[str, ...] = ALL_LINEAR) -> tuple[Linear, ...]:
        """Return the matrices of a block that LoRA would adapt.

        Args:
            target_modules: Names, matched as PEFT does (whole or after a dot), or "all-linear",
                which is every nn.Linear of the block, and router and experts in those families
                where PEFT finds them; not the output head.

        Returns:
            Matrices of one block. Empty when no name matches.
        """
        known = self.linears + self.expert_linears
        if target_modules == ALL_LINEAR:
            return known
        names = (target_modules,) if isinstance(target_modules, str) else target_modules
        return tuple(
            linear
            for linear in known
            if any(linear.name == n or linear.name.endswith(f".{n}") for n in names)
        )

    def lora_params(self, rank: int, target_modules: str | tuple[str, ...] = ALL_LINEAR) -> int:
        """Count the trainable parameters that LoRA adds.

        Each adapted matrix W, shaped (d_out, d_in), gains A, shaped (rank, d_in), and B, shaped
        (d_out, rank); so it gains rank * (d_in + d_out) parameters.

        Returns:
            Parameters, not bytes. DoRA's magnitudes and `modules_to_save` are not among them.

        Source: Hu et al. 2021, section 4.1, https://arxiv.org/abs/2106.09685
        """
        adapted = self.targets(target_modules)
        return self.num_layers * sum(rank * m.copies * (m.d_out + m.d_in) for m in adapted)
