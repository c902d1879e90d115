"""Chromium, found and started with Playwright."""

import os
import shutil
from contextlib import contextmanager

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find_browser():
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def launched(playwright):
    browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
    try:
        yield browser
    finally:
        browser.close()
