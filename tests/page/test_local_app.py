"""The page served by `nciihash app` on the user's own machine."""

import re
import subprocess
import sys

from support.browsers.chosen_files import pictures
from support.browsers.leaks import leaks


def test_the_page_from_this_machine_opens_a_case_elsewhere(visit, serving):
    """The page sends its requests to loopback, which forwards them to the service."""
    command = [sys.executable, "-m", "nciihash", "app", "--no-browser", "--server", serving.address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        address = re.fullmatch(r"clearinghouse: the page is at (http://127\.0\.0\.1:\d+)/\n", line)[
            1
        ]
        visitor = visit(arrive=False)
        visitor.url = address
        visitor.arrive()
        before = serving.cases()
        secret = visitor.open_case(pictures())
        assert serving.cases() == before + 1
        visitor.press("receipt.done")
        visitor.press("next.finish")
        visitor.sign_in(secret[0], "not these words")
        visitor.sees("error.credentials_wrong")
        visitor.sign_in(*secret)
        visitor.at("status.title")
        visitor.press("status.withdraw")
        visitor.press("withdraw.yes")
        visitor.sees("status.withdrawn")
        assert leaks(visitor) == [f"request: {address}/", f"request: DELETE {address}/v1/case"]
    finally:
        process.terminate()
        output = process.communicate(timeout=30)
    assert output == ("", ""), "nothing is logged"
