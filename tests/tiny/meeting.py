"""Two ranks meet as a sharded run's do, load a model, and say what each of them has.

`python -m tests.tiny.meeting MODEL SHARDING`; a JSON line a rank. Loads the libraries once, and
forks a rank each with what torchrun would set.
"""

import json
import os
import socket
import sys
import traceback

import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM

from ft_tools.training.worker import loading, ranks_agree


class Place:
    sharding = ""


class Device:
    name = "cpu"


class Plan:
    place, device = Place, Device
    training = {"ddp_timeout": 4321}  # noqa: RUF012


NUM_RANKS = 2


def rank_of(number, port):
    """Fork a rank; its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        own = {"RANK": number, "WORLD_SIZE": NUM_RANKS, "MASTER_PORT": port}
        own |= {"LOCAL_RANK": number, "LOCAL_WORLD_SIZE": NUM_RANKS}
        os.environ.update({name: str(value) for name, value in own.items()})
        os.environ["MASTER_ADDR"] = "127.0.0.1"
        meet_and_load()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def main():
    """Let the ranks meet; 0 if each of them ended well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = [rank_of(number, port) for number in range(NUM_RANKS)]
    codes = [os.waitpid(pid, 0)[1] for pid in pids]
    return int(any(codes))


def meet_and_load():
    Place.sharding = sys.argv[2]
    ranks_agree.meet(Plan)
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], **loading.placement(Plan))
    weight = model.model.layers[0].self_attn.q_proj.weight
    has_it = weight.device.type != "meta" and bool(weight.abs().sum() > 0)
    default = dist.distributed_c10d._get_default_group()
    waits = default._get_backend(weight.device if has_it else torch.device("cpu"))
    line = {"rank": dist.get_rank(), "has_weights": has_it}
    line["timeout"] = waits.options._timeout.total_seconds()
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    ranks_agree.wait()
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
