"""The table at the end of `make attacks`: the `record_property("got", ...)` of each attack."""

import pytest

_GOT = "got"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each result that an attack recorded."""
    lines = [
        f"{report.nodeid.partition('attacks/test_')[2]}: {value}"
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if "promises/attacks/" in report.nodeid
        for key, value in report.user_properties
        if key == _GOT
    ]
    if lines:
        terminalreporter.section("results of the attacks")
        for line in lines:
            terminalreporter.write_line(line)
