"""Take the calls that prepare_dataset offers, one after another, until files are written."""

from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.tool import prepare_dataset

MOST_CALLS = 4


def taken(report, **changes):
    """Return the report with the files; what a call changes is shown before it is confirmed."""
    for _ in range(MOST_CALLS):
        arguments = report.next_steps[0].arguments
        if is_confirmed := "confirm" in arguments:
            arguments = arguments | changes
        report = prepare_dataset(PrepareRequest(**arguments))
        if is_confirmed:
            return report
    raise AssertionError(f"{MOST_CALLS} calls write no file")
