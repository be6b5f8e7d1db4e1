"""The self-test of a GPU on the CPU: its quick parts here, the whole where faults are injected."""

import json

import pytest

from ft_tools.doctor.self_test_report import SelfTestReport, Tried, as_text
from ft_tools.doctor.worker import gpu_self_test, materials
from ft_tools.errors import Missing

pytestmark = [pytest.mark.tiny, pytest.mark.filterwarnings("ignore")]


def test_the_self_test_loads_in_16_and_4_bits_generates_and_reports_what_fails(workspace):
    materials.make_model(workspace / "model", gpu_self_test.ON_CPU)
    materials.make_data(workspace)
    test = gpu_self_test.SelfTest(workspace, on_gpu=False)
    test.check("load in 16 bits", lambda: gpu_self_test.loaded(test, None))
    test.check("load in 4 bits", lambda: gpu_self_test.loaded(test, gpu_self_test.NF4))
    test.check("generate", lambda: gpu_self_test.generated(test))
    assert [(one.state, one.detail) for one in test.checks] == [
        ("passed", "on cpu"), ("passed", "on cpu"), ("passed", "16 tokens"),
    ]  # fmt: skip

    def broken():
        raise ValueError("no such kernel")

    def absent():
        raise Missing("nothing here")

    test.check("broken", broken)
    test.check("absent", absent)
    assert [one.state for one in test.checks[3:]] == ["failed", "skipped"]
    report = gpu_self_test.report_of(test, "2 cores")
    assert not report.passed
    assert "3 of 5 checks passed on 2 cores; failed: broken; 1 skipped" in as_text(report)
    for state, passed in (("passed", True), ("skipped", False)):
        alone = gpu_self_test.SelfTest(workspace, False, [Tried(name="x", state=state)])
        assert gpu_self_test.report_of(alone, "c").passed is passed


def test_the_memory_that_is_left_is_between_a_small_and_a_large_micro_batch(workspace):
    """With TRL's fused head there are no logits that could run out of a fixed 3 GiB."""
    materials.make_model(workspace / "model", gpu_self_test.ON_GPU)
    test = gpu_self_test.SelfTest(workspace, on_gpu=True)
    left = gpu_self_test._left_bytes(test, gpu_self_test.LARGE_LENGTH["cuda"])
    assert 0.5 * 2**30 < left < 3 * 2**30


@pytest.mark.faults
def test_the_whole_self_test_passes_on_the_cpu_and_its_report_can_be_sent(workspace):
    report = gpu_self_test.self_test(workspace / "self-test", use_gpu=False)
    states = {check.name: check.state for check in report.checks}
    assert set(states.values()) == {"passed"}, as_text(report)
    assert len(states) == 11
    (halved,) = (check for check in report.checks if check.name.startswith("halve"))
    assert int(halved.detail.rpartition(" ")[2]) < 64
    sent = report.model_dump_json()
    assert SelfTestReport.model_validate(json.loads(sent)) == report
    # Nothing of this machine's user is in it.
    assert str(workspace) not in sent + as_text(report)
