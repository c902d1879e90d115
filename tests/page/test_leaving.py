"""Leaving the page at once, and going back while files are hashed."""

import numpy as np
import pytest

from golden.pictures import waves
from support.browsers.chosen_files import pictures, png
from support.browsers.visitor import ELSEWHERE
from support.hashes import by_python


@pytest.mark.parametrize("way", ["button", "Escape", "Shift"])
def test_leaving_is_immediate_and_clears_the_page(visit, way):
    visitor = visit()
    page = visitor.page
    page.route(
        ELSEWHERE, lambda route: route.fulfill(body="<h1>Elsewhere</h1>", content_type="text/html")
    )
    secret = visitor.open_case(pictures())
    page.on("dialog", lambda dialog: pytest.fail("leaving must not ask"))
    if way == "button":
        visitor.press("exit")
    elif way == "Escape":
        page.keyboard.press("Escape")
    else:
        for _ in range(3):
            page.keyboard.press("Shift")
    page.wait_for_url(ELSEWHERE)
    page.go_back()
    assert secret[1] not in page.content()


def test_typing_capitals_does_not_leave(visit):
    visitor = visit()
    visitor.press("start.have")
    visitor.page.locator("#number").focus()
    visitor.page.keyboard.type("ABC")
    for letter in "DEFG":
        visitor.page.keyboard.press(f"Shift+{letter}")
    visitor.at("signIn.title")


def test_going_back_ends_the_hashing_and_a_new_case_is_not_disturbed(visit, tmp_path):
    visitor = visit()
    big = tmp_path / "big.png"
    big.write_bytes(png(np.tile(waves(300, 300), (10, 10, 1)), compress_level=1))
    for _ in range(2):
        visitor.answer_questions()
        visitor.page.set_input_files("#files", big)
        visitor.page.locator("#file-1").wait_for()
        for _ in range(5):
            visitor.press("back")
        visitor.at("start.title")
    visitor.answer_questions()
    visitor.choose(pictures()[:1])
    visitor.press("continue")
    visitor.unfold()
    found = visitor.page.locator("ol li:first-child > code").all_inner_texts()
    assert found == [by_python(pictures()[0]["buffer"])[0]]
