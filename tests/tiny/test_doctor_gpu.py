"""The self-test of a GPU, its first parts on the CPU: `doctor --gpu` runs the rest."""

import pytest

from ft_tools.doctor.self_test import Tried, as_text
from ft_tools.doctor.worker import gpu
from ft_tools.errors import Missing

pytestmark = [pytest.mark.tiny, pytest.mark.filterwarnings("ignore")]


def test_the_self_test_loads_in_16_and_4_bits_generates_and_reports_what_fails(workspace):
    gpu.make_model(workspace / "model", gpu.ON_CPU)
    gpu.make_data(workspace)
    test = gpu.SelfTest(workspace, on_gpu=False)
    test.check("load in 16 bits", lambda: gpu.loaded(test, None))
    test.check("load in 4 bits", lambda: gpu.loaded(test, gpu.NF4))
    test.check("generate", lambda: gpu.generated(test))
    assert [(one.state, one.detail) for one in test.checks] == [
        ("passed", "on cpu"), ("passed", "on cpu"), ("passed", "16 tokens"),
    ]  # fmt: skip

    def broken():
        raise ValueError("no such kernel")

    def absent():
        raise Missing("nothing here")

    test.check("broken", broken)
    test.check("absent", absent)
    test.check("halve", lambda: gpu.halved(test))
    assert [one.state for one in test.checks[3:]] == ["failed", "skipped", "skipped"]
    report = gpu.report_of(test, "2 cores")
    assert not report.passed
    assert "3 of 6 checks passed on 2 cores; failed: broken; 2 skipped" in as_text(report)
    assert gpu.report_of(
        gpu.SelfTest(workspace, False, [Tried(name="x", state="passed")]), "c"
    ).passed
