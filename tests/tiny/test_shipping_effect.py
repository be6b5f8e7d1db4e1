"""How much of an adapter's effect a format keeps."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ft_tools.shipping import quality
from ft_tools.shipping.worker.proof import HeldOut, Proof

pytestmark = pytest.mark.tiny

WORDS, IDS = 32, list(range(24))


class Table(torch.nn.Module):
    """A model whose logits are a table, one row per token."""

    device = torch.device("cpu")

    def __init__(self, rows):
        super().__init__()
        self.rows = torch.tensor(rows)

    def forward(self, batch):
        return SimpleNamespace(logits=self.rows[batch])


@pytest.fixture
def measured(tmp_path):
    """Give what measures a format that keeps a share of the adapter's effect."""
    random = np.random.default_rng(0)
    base = random.normal(size=(WORDS, WORDS)).astype(np.float32)
    effect = random.normal(size=(WORDS, WORDS)).astype(np.float32)
    proof = Proof(None, HeldOut("given", [IDS], [], []), tmp_path / "rows.f32", WORDS)
    proof.fill(Table(base + effect))
    proof.fill_base(Table(base))

    def measure(share, noise=0.0):
        drawn = noise * np.random.default_rng(1).normal(size=base.shape).astype(np.float32)
        rows = base + share * effect + drawn
        return quality.summarise(proof.measure([rows[IDS]]), True)

    return measure


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_of_the_adapters_effect_that_a_format_keeps_is_measured(measured, share):
    found, why = measured(share)
    assert found.effect_kept_fraction == pytest.approx(share, abs=1e-3)
    assert (why.id == "adapter_erased") == (share == 0.0)


def test_rounding_noise_is_no_lost_effect(measured):
    (found, _), (exact, _) = measured(1.0, noise=0.1), measured(1.0)
    assert found.effect_kept_fraction == pytest.approx(1.0, abs=0.02)
    assert found.mean_kl > exact.mean_kl
