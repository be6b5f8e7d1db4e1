"""Real schedulers for the tests of this folder; they run when asked, and skip otherwise."""

import os
import shutil
import socket
import subprocess
import time
import venv
from pathlib import Path

import pytest

from benchmarks.small_models import untrained_llama
from ft_tools import workspace as workspace_module
from ft_tools.runs.launchers import attend
from ft_tools.runs.processes import start
from tests.tiny.conftest import make_tokenizer

ASKED = "FINE_TUNING_LLM_TEST_CLUSTER"
TOOLS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fine-tuning-llm-tests"
"""Where the packages under test are installed once, each in an environment of its own."""
SLURM = ("slurm-wlm", "munge")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=20
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=2 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=urgent Nodes=ALL PriorityTier=10
"""


def pytest_runtest_setup():
    """Skip before any fixture: those of the session start schedulers."""
    if not os.environ.get(ASKED):
        pytest.skip("needs packages that `make test-cluster` installs; not asked for")


@pytest.fixture(autouse=True)
def _own_places(workspace, monkeypatch):
    monkeypatch.setenv(workspace_module.CACHE_VARIABLE, str(workspace / "cache"))
    monkeypatch.setenv(attend.LOOK_VARIABLE, "0.5")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv(start.WORKERS_VARIABLE, "fault_workers")
    faults = Path(__file__).parent.parent / "faults"
    monkeypatch.setenv("PYTHONPATH", str(faults), prepend=os.pathsep)


@pytest.fixture
def tiny_model_in(workspace):
    """Write a tiny model into the test's workspace; its name as a model argument."""
    make_tokenizer().save_pretrained(workspace / "tiny-llama")
    untrained_llama().save_pretrained(workspace / "tiny-llama")
    return "tiny-llama"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(claim, seconds=30.0):
    until = time.monotonic() + seconds
    while not (said := claim()):
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.2)
    return said


def said(*argv, **options):
    """Run a program; what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def environment_with(name, *packages, options=()):
    """Give the bin folder of an environment with these packages; made when it is missing."""
    folder = TOOLS / name
    marker = folder / "installed"
    if not marker.exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", *options]
        said(*pip, *packages)
        marker.touch()
    return folder / "bin"


@pytest.fixture(scope="session")
def slurm_configuration(tmp_path_factory):
    """Start a Slurm of one machine that passes for two, and end it afterwards."""
    if os.geteuid():
        pytest.skip("a Slurm of our own needs root")
    if shutil.which("slurmctld") is None:
        said("apt-get", "install", "-y", *SLURM)
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    ports = [free_port() for _ in range(3)]
    host = socket.gethostname().partition(".")[0]
    where = {"port": ports[0], "first": ports[1], "second": ports[2]}
    text = CONFIGURATION.format(host=host, folder=folder, **where)
    (folder / "slurm.conf").write_text(text)
    munge_ran = subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0
    if not munge_ran:
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge")
        said("runuser", "-u", "munge", "--", "munged")
    around = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    for daemon in (["slurmctld"], ["slurmd", "-N", "n1"], ["slurmd", "-N", "n2"]):
        said(*daemon, env=around)
    try:
        eventually(lambda: said("sinfo", "-h", "-o", "%D %T", env=around).strip() == "2 idle")
        yield folder / "slurm.conf"
    finally:
        # A step that ends after the controller would wait for it for ever.
        subprocess.run(["scancel", "--user=root"], env=around, check=False, capture_output=True)
        eventually(lambda: not said("squeue", "--noheader", env=around), 60)
        said("scontrol", "shutdown", env=around)
        eventually(lambda: not list(folder.glob("*.pid")), 60)
        if not munge_ran:
            subprocess.run(["munged", "--stop"], check=False, capture_output=True)


@pytest.fixture
def slurm(slurm_configuration, monkeypatch):
    """Have sbatch and its like speak to the Slurm of these tests."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_configuration))


@pytest.fixture(scope="session")
def ray_cluster():
    """Start a Ray cluster of one machine; the address of its job server."""
    folder = environment_with("ray", "ray[default]")
    port = str(free_port())
    around = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    begin = ["start", "--head", "--num-cpus=2", "--dashboard-host=127.0.0.1"]
    ports = [f"--port={free_port()}", f"--dashboard-port={port}"]
    said(folder / "ray", *begin, *ports, env=around)
    try:
        yield folder, f"http://127.0.0.1:{port}"
    finally:
        subprocess.run([folder / "ray", "stop"], env=around, check=False, capture_output=True)


@pytest.fixture
def ray(ray_cluster, monkeypatch):
    """Put Ray's program on PATH; the address of its job server."""
    folder, address = ray_cluster
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    path = os.pathsep.join([os.environ["PATH"], str(folder)])
    monkeypatch.setenv("PATH", path)
    return address
