"""An abort of llama.cpp costs its format and not the run."""

import json
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
    # What a run of an older version recorded is made again.
    old = {"format": "safetensors", "state": "made", "path": "gone", "fallback_tensors": {}}
    record = tmp_path / "scratch" / "safetensors.json"
    record.write_text(json.dumps({"result": old, "samples": []}))
    kept, _ = shipped_formats.ship_format(shipment, formats.find("safetensors"), proof)
    assert (kept.state, kept.path) == ("made", str(tmp_path / "out" / "merged"))
