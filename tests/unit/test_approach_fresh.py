"""Two hundred and twenty situations, collected after the table was frozen; all tuned on by now.

`python -m tests.unit.test_approach_fresh` prints what is not acceptable.
"""

import sys
import tomllib
from pathlib import Path

from tests.unit.test_approach_threads import (
    MOST_TOKENS,
    answer,
    are_verdicts_acceptable,
    is_first_acceptable,
    tokens,
)

CASES = tomllib.loads(Path(__file__).with_name("scenarios_fresh.toml").read_text())["cases"]


def unacceptable():
    """Return a line for each first step and verdict that the expert would not give."""
    for case in CASES:
        report = answer(case["blind"])
        if not is_first_acceptable(case, "blind"):
            yield f"{case['id']} first: {report.approach} ({report.row})"
        if not are_verdicts_acceptable(case, "blind"):
            given = {each.approach: each.verdict for each in report.verdicts}
            yield f"{case['id']} verdicts: {given}"


def test_first_steps_and_verdicts_are_those_of_the_expert():
    assert list(unacceptable()) == []


def test_no_path_holds_a_step_that_was_called_harmful():
    taken = {case["id"]: {step.approach for step in answer(case["blind"]).path} for case in CASES}

    assert [c["id"] for c in CASES if not taken[c["id"]].isdisjoint(c.get("never", []))] == []


def test_what_is_allowed_on_a_condition_says_it():
    for case in CASES:
        said = {each.approach: each.condition for each in answer(case["blind"]).verdicts}
        assert all(said[each] for each in case.get("conditions", [])), case["id"]


def test_the_reports_are_short():
    assert [c["id"] for c in CASES if tokens(answer(c["blind"])) > MOST_TOKENS] == []


def test_there_are_two_hundred_and_twenty_situations_each_with_a_source_of_its_own():
    assert len({case["source"] for case in CASES}) == len(CASES) == 220


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in unacceptable()))
