"""Accessibility: keyboard, small screens, writing directions, axe."""

import os
import re

import pytest

from support.browsers.axe import Axe
from support.browsers.chosen_files import pictures
from support.browsers.visitor import LANGUAGES, catalogue

OVERFLOWING = """() => [...document.querySelectorAll("header *, main *")]
  .filter((e) => e.checkVisibility() && !e.closest(".unseen, option"))
  .map((e) => [e, e.getBoundingClientRect()])
  .filter(([e, r]) => r.right > innerWidth + 0.5 || r.left < -0.5
    || (e.localName !== "select" && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0
        && getComputedStyle(e).display !== "inline"))
  .map(([e]) => e.outerHTML.slice(0, 120))"""


SMALL_TARGETS = """() => [...document.querySelectorAll("button, a, select, input, summary")]
  .filter((e) => e.checkVisibility())
  .map((e) => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
  .filter(([, r]) => r.width < 24 || r.height < 24).map(([e]) => e)"""


# A walk takes a dozen seconds: one for each script and the longest words, all in the long profile.
WALKED = LANGUAGES if os.environ.get("HYPOTHESIS_PROFILE") == "long" else ("en", "fr", "ar", "hi")


@pytest.fixture(scope="session")
def platforms(add_platform):
    """Add a platform of each kind, so that a case shows the texts for each."""
    for name, scopes in (("All", "feed,match,feedback"), ("Asks", "match"), ("Part", "veil,match")):
        add_platform(name, scopes).close()


def test_every_step_by_keyboard(visit):
    """Tab and Enter alone; every step moves the focus to the new screen's title."""
    visitor = visit()
    page = visitor.page
    # Intercept file choosers from now on: if that begins with the key press, the browser may open
    # the chooser first and never report it.
    page.on("filechooser", lambda _: None)

    def reach(name):
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == visitor.say(name):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none"
                return
        pytest.fail(f"{name} cannot be reached by Tab")

    def enter(name, title):
        reach(name)
        page.keyboard.press("Enter")
        visitor.at(title)
        assert page.evaluate("document.activeElement.localName") == "h1"

    enter("start.go", "adult.title")
    enter("adult.yes", "depicted.title")
    enter("depicted.yes", "having.title")
    enter("having.yes", "reason.title")
    enter("reason.threatened", "choose.title")
    reach("choose.button")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(pictures())
    page.locator("button.main:enabled").wait_for()
    assert "3" in page.locator("#news").text_content()
    enter("continue", "review.title")
    enter("review.send", "receipt.title")
    secret = page.locator(".secret").all_inner_texts()
    enter("receipt.done", "next.title")
    enter("next.finish", "start.title")
    enter("start.have", "signIn.title")
    for text in secret:
        page.keyboard.press("Tab")
        page.keyboard.type(text)
    page.keyboard.press("Enter")
    visitor.at("status.title")
    enter("status.withdraw", "withdraw.all")
    enter("withdraw.yes", "status.title")
    visitor.sees("status.withdrawn")


@pytest.mark.parametrize("language", WALKED)
def test_nothing_is_cut_off_on_a_small_phone(visit, platforms, language):
    visitor = visit(language, arrive=False)
    count = 0
    for name in visitor.every_screen():
        count += 1
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 320, name
        assert visitor.page.evaluate(OVERFLOWING) == [], name
        assert visitor.page.evaluate(SMALL_TARGETS) == [], name
        assert visitor.page.title() == "Clearinghouse"
        shown = visitor.page.locator("body").inner_text()
        assert not re.search(
            r"\b(start|adult|choose|review|refused|status|platform)\.\w|undefined", shown
        )
    assert count > 20
    assert visitor.errors == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_right_to_left_languages_mirror_the_screens(visit, language):
    visitor = visit(language, viewport={"width": 800, "height": 600})
    mirrored = language in {"ar", "ur"}
    page = visitor.page
    assert page.evaluate("document.documentElement.lang") == language
    exit_box = page.locator("#exit").bounding_box()
    assert (exit_box["x"] < 400) == mirrored
    visitor.press("start.have")
    assert (page.locator("h1").evaluate("e => getComputedStyle(e).direction") == "rtl") == mirrored
    assert page.locator("#number").evaluate("e => getComputedStyle(e).direction") == "ltr"


def test_choosing_another_language_keeps_the_screen(visit):
    visitor = visit()
    visitor.press("start.go")
    visitor.page.select_option("#languages", "es")
    visitor.words = catalogue("es")
    visitor.at("adult.title")
    assert visitor.page.evaluate("document.documentElement.lang") == "es"


@pytest.mark.parametrize("language", ["en", "ar"])
def test_axe_finds_nothing(visit, platforms, language):
    pytest.importorskip("axe_playwright_python", reason="axe is not installed")
    # without motion, so that no colour is measured during a transition
    visitor = visit(language, arrive=False, reduced_motion="reduce")
    axe = Axe(visitor.page)
    checked = 0
    for name in visitor.every_screen():
        for theme in ("light", "dark"):
            visitor.page.emulate_media(color_scheme=theme)
            problems, passes = axe.look()
            assert problems == [], (name, theme)
            assert passes > 10
        checked += 1
    assert checked > 20
