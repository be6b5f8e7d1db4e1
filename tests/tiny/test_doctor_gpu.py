"""The self-test of a GPU, on the CPU: its report here, the whole where faults are injected."""

import json

import pytest

from ft_tools.doctor.worker.gpu_self_test import SelfTestReport, as_text, check, self_test
from ft_tools.errors import Missing

pytestmark = [pytest.mark.tiny, pytest.mark.filterwarnings("ignore")]


def test_what_fails_or_is_missing_is_a_finding_and_stops_nothing():
    def absent():
        raise Missing("nothing here")

    found = [check("fine", lambda: "16 tokens"), check("broken", lambda: 1 / 0)]
    found.append(check("absent", absent))
    assert [one.state for one in found] == ["passed", "failed", "skipped"]
    assert found[1].detail.startswith("ZeroDivisionError")
    report = SelfTestReport(device="c", on_gpu=False, versions={}, checks=found, passed=False)
    assert "1 of 3 checks passed on c" in as_text(report)


@pytest.mark.faults
def test_the_whole_self_test_passes_on_the_cpu_and_its_report_can_be_sent(workspace):
    report = self_test(workspace / "self-test", use_gpu=False)
    assert [one.state for one in report.checks] == ["passed"] * 6, as_text(report)
    assert report.passed
    sent = report.model_dump_json()
    assert SelfTestReport.model_validate(json.loads(sent)) == report
    # Nothing of this machine's user is in it.
    assert str(workspace) not in sent + as_text(report)
