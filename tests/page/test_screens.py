"""The page's table of screens and its state: complete, initialised once, consistent."""

import re

import pytest

from support.browsers.chosen_files import pictures
from support.paths import SITE

SOURCES = [SITE / "app.js", *sorted((SITE / "screens").glob("*.js"))]

TABLES = """async () => {
  const { initialState, NEEDS, SCREENS } = await import("/page/app.js");
  return { screens: Object.keys(SCREENS), needs: NEEDS, state: Object.keys(initialState()) };
}"""

# Draws a screen for an app with a new state; returns how many titles it has, or the error.
DRAW = """async (name) => {
  const { initialState, SCREENS } = await import("/page/app.js");
  const words = { catalogue: {}, date: String, time: String, number: { format: String } };
  const app = { say: (key) => key, words, state: initialState() };
  for (const name of ["back", "begin", "checkCopy", "go", "startOver"]) app[name] = () => {};
  try {
    const shown = document.createElement("main");
    shown.append(...SCREENS[name](app).flat(Infinity).filter(Boolean));
    return shown.querySelectorAll("h1").length;
  } catch (error) {
    return String(error);
  }
}"""


@pytest.fixture(scope="module")
def tables(page):
    return page.evaluate(TABLES)


@pytest.fixture(scope="module")
def source():
    return "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)


def test_the_table_has_exactly_the_screens_that_are_shown(tables, source):
    shown = set(re.findall(r'\b(?:go|replace|settle)\("(\w+)"', source))
    shown |= {
        name for pair in re.findall(r'yesNo\("\w+", "(\w+)", "(\w+)"\)', source) for name in pair
    }
    # the only names that are not written at the call
    assert set(re.findall(r"\breplace\(([a-z]\w*)\)", source)) == {"name", "screen"}
    shown |= set(re.findall(r'settle\(state\.secret \? "(\w+)" : "(\w+)"\)', source)[0])
    shown |= {"signIn", "claim", "status"}  # what `showProblem` returns to
    assert shown == set(tables["screens"])


def test_every_key_of_the_state_is_initialised(tables, source):
    used = set(re.findall(r"\bstate\.(\w+)", source))
    for names in re.findall(r"const \{([^}]*)\} = (?:app\.)?state;", source):
        used |= {name.strip() for name in names.split(",")}
    for pairs in re.findall(r"Object\.assign\(state, \{([^}]*)\}", source):
        used |= {pair.split(":")[0].strip() for pair in pairs.split(",")}
    assert used == set(tables["state"])


def test_what_a_screen_needs_is_a_key_of_the_state(tables):
    assert tables["needs"].keys() <= set(tables["screens"])
    for needs in tables["needs"].values():
        assert set(needs) <= set(tables["state"])


def test_a_screen_can_be_drawn_with_a_new_state_or_says_what_it_needs(page, tables):
    for name in tables["screens"]:
        if name not in tables["needs"]:
            assert page.evaluate(DRAW, name) == 1, name


def test_back_skips_a_request_that_was_refused(visit):
    visitor = visit()
    visitor.answer_questions()
    visitor.choose(pictures()[:1])
    visitor.press("continue")
    refusal = '{"code":"nothing_accepted"}'
    visitor.page.route("**/v1/cases", lambda route: route.fulfill(status=422, body=refusal))
    visitor.press("review.send")
    visitor.at("unsent.title")
    visitor.press("again")
    visitor.at("unsent.title")
    visitor.press("back")
    visitor.at("review.title")
    visitor.press("back")
    visitor.at("choose.title")
