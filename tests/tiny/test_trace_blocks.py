"""One block of each kind stands for all of them when activations are traced."""

import pytest

from benchmarks import family_rows
from ft_tools.memory.worker.trace import profile

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),
]

OPTIONS = {
    "method": "full",
    "rank": 4,
    "target_modules": "all-linear",
    "target_parameters": (),
    "excluded": "",
    "dropout": 0.0,
    "adapter_bytes": 4,
    "dtype": "bfloat16",
    "quantization": None,
    "checkpointing": True,
    "autocast": False,
    "sequences": 1,
    "seq_len": 0,
    "foreach": False,
    "eager": False,
    "flash": False,
    "trl_head": False,
}


def test_blocks_that_a_text_passes_by_are_neither_traced_nor_a_reason_to_trace_all():
    config = family_rows.config("mllama")
    assert config["text_config"]["cross_attention_layers"] == [1]
    question = {"config": config, "options": OPTIONS, "lengths": (32, 64)}
    short, whole = profile(question), profile(question | {"whole": True})
    assert (short["num_traced"], whole["num_traced"]) == (2, 4)
    for one, all_of_them in zip(short["points"], whole["points"], strict=True):
        # A fourth block that is run would be a third more.
        for name in ("saved", "forward", "backward"):
            assert one[name] == pytest.approx(all_of_them[name], rel=0.15), name
