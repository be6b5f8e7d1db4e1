"""Two ranks meet as a sharded run's do, load a model, and say what each of them has.

`python -m torch.distributed.run ... -m tests.tiny.meeting MODEL SHARDING`; a JSON line a rank.
"""

import json
import sys

import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM

from ft_tools.training.worker import loading, together


class Place:
    sharding = ""


class Device:
    name = "cpu"


class Plan:
    place, device = Place, Device
    training = {"ddp_timeout": 4321}  # noqa: RUF012


def main():
    Place.sharding = sys.argv[2]
    together.meet(Plan)
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], **loading.placement(Plan))
    weight = model.model.layers[0].self_attn.q_proj.weight
    has_it = weight.device.type != "meta" and bool(weight.abs().sum() > 0)
    default = dist.distributed_c10d._get_default_group()
    waits = default._get_backend(weight.device if has_it else torch.device("cpu"))
    line = {"rank": dist.get_rank(), "has_weights": has_it}
    line["timeout"] = waits.options._timeout.total_seconds()
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    together.wait()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
