"""An abort of llama.cpp costs its format and not the run."""

import re

import pytest
from transformers import AutoTokenizer

from ft_tools.shipping import formats
from ft_tools.shipping.worker import shipped_formats
from tests.tiny.measuring_gguf import proof_of, shipment_in, write_gguf

pytestmark = pytest.mark.tiny


def test_a_file_that_llama_cpp_aborts_on_costs_its_format_and_not_the_run(tmp_path, tiny_model):
    shipment = shipment_in(tmp_path, tiny_model, "gguf:F32", "safetensors")
    # A token goes to more experts than there are.
    write_gguf(tmp_path / "scratch" / "source-f32.gguf", width=32, experts=(4, 5))
    proof = proof_of(tmp_path, AutoTokenizer.from_pretrained(tiny_model))
    aborted, said = shipped_formats.ship_format(shipment, formats.find("gguf:F32"), proof)
    assert (aborted.state, said) == ("failed", [])
    assert re.match(r"llama.cpp \(.*\) aborted: ", aborted.error), aborted.error
