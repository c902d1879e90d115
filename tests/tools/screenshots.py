"""Take screenshots of every screen of the survivor's page.

PYTHONPATH=tests python tests/tools/screenshots.py FOLDER
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from support.browsers.chromium import launched
from support.browsers.visitor import NOTES, Visitor
from support.service_process import ServiceProcess

PHONE = {"viewport": {"width": 320, "height": 640}, "device_scale_factor": 2}
DESK = {"viewport": {"width": 1280, "height": 800}}
SERIES = {
    "phone": ("en", PHONE),
    "desk": ("en", DESK),
    "dark": ("en", PHONE | {"color_scheme": "dark"}),
    "arabic": ("ar", PHONE),
    "hindi": ("hi", PHONE),
}


def main(folder):
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        service = ServiceProcess(Path(temporary), forked=False)
        service.platform(name="Example Social")
        try:
            with launched(playwright) as browser:
                for name, (language, options) in SERIES.items():
                    context = browser.new_context(locale=language, **options)
                    page = context.new_page()
                    page.add_init_script(NOTES)
                    out = folder / name
                    out.mkdir(parents=True, exist_ok=True)
                    visitor = Visitor(page, service.address, language)
                    for number, screen in enumerate(visitor.every_screen(), 1):
                        page.evaluate("scrollTo(0, 0)")
                        page.screenshot(path=out / f"{number:02}-{screen}.png", full_page=True)
                    context.close()
                    print(f"{out}: {number} screens")
        finally:
            service.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
