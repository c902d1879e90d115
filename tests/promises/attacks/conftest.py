"""Show what each attack got: `make attacks` ends with a table of `record_property("got", ...)`."""

import pytest

_GOT = "got"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line for each figure that an attack recorded."""
    lines = [
        f"{report.nodeid.partition('attacks/test_')[2]}: {value}"
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if "promises/attacks/" in report.nodeid
        for key, value in report.user_properties
        if key == _GOT
    ]
    if lines:
        terminalreporter.section("what the attacks got")
        for line in lines:
            terminalreporter.write_line(line)
