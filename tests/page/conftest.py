"""Chromium, a service and visitors for the tests of the page."""

import json

import httpx
import pytest

from support.browsers.chromium import find_browser, launched
from support.browsers.visitor import NOTES, Visitor
from support.service_process import ServiceProcess, bearer


@pytest.fixture(scope="module")  # while Playwright runs, no other test can run an event loop
def browser():
    if find_browser() is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright, launched(playwright) as browser:
        yield browser


@pytest.fixture(scope="session")
def serving(tmp_path_factory):
    with ServiceProcess(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="session")
def operator(serving):
    """Return a function that runs an operator's command in this process and returns its JSON."""

    def run(*words):
        return json.loads(serving.command(*words, "--json").stdout)

    return run


@pytest.fixture(scope="session")
def add_platform(serving):
    """Return a function that adds a platform and returns an HTTP client with its key."""

    def add(name, scopes="feed,match,feedback"):
        headers = bearer(serving.platform(scopes, name))
        return httpx.Client(base_url=serving.address, headers=headers)

    return add


@pytest.fixture
def visit(browser, serving):
    """Return a function that opens the page in a new browser profile."""
    contexts = []

    def start(language="en", *, arrive=True, **options):
        options = {"viewport": {"width": 320, "height": 640}, "locale": language} | options
        context = browser.new_context(**options)
        context.set_default_timeout(120_000)  # longer than the page itself waits for anything
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(NOTES)
        visitor = Visitor(page, serving.address, language)
        if arrive:
            visitor.arrive()
        return visitor

    yield start
    for context in contexts:
        for opened in context.pages:  # a route may still be answering a request
            opened.unroute_all(behavior="ignoreErrors")
        context.close()


@pytest.fixture(scope="module")
def page(browser, serving):
    """A page whose scripts hash files without going through the screens."""
    page = browser.new_page()
    page.goto(serving.address + "/")
    yield page
    page.close()
