"""A person who uses the page in a browser controlled by Playwright."""

import json
import re

from playwright.sync_api import TimeoutError as TooLong

from golden.pictures import blocks
from support.browsers.chosen_files import clip, file, pictures, png
from support.paths import SITE

LANGUAGES = ("en", "es", "pt", "fr", "ar", "ur", "hi")
ELSEWHERE = "https://www.wikipedia.org/"  # where the page goes when she leaves it

# Runs before the page's scripts. A violation of the policy is an attempted leak. No policy stops
# WebRTC connections, so their creation is recorded.
NOTES = """
globalThis.notes = [];
addEventListener("securitypolicyviolation", (e) => notes.push(`policy: ${e.effectiveDirective}`));
for (const name of ["RTCPeerConnection", "webkitRTCPeerConnection"]) {
  const Real = globalThis[name];
  globalThis[name] = function (...args) { notes.push("webrtc"); return new Real(...args); };
}
"""
STORED = """async () => ({
  cookie: document.cookie,
  local: localStorage.length,
  session: sessionStorage.length,
  databases: (await indexedDB.databases()).length,
  caches: isSecureContext ? (await caches.keys()).length : 0,
  workers: (await navigator.serviceWorker.getRegistrations()).length,
  history: history.length,
})"""


def catalogue(language):
    return json.loads((SITE / "words" / f"{language}.json").read_text(encoding="utf-8"))


class Visitor:
    """A person who uses the page in one language."""

    def __init__(self, page, url, language="en"):
        self.page = page
        self.url = url
        self.words = catalogue(language)
        self.requests = []
        self.errors = []
        page.context.on("request", lambda request: self.requests.append(request))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._listen)

    def _listen(self, message):
        refused = "Failed to load resource"  # an error response of the service
        if message.type == "error" and refused not in message.text:
            self.errors.append(message.text)

    def arrive(self):
        self.page.goto(self.url + "/")
        self.at("start.title")

    def say(self, key, **values):
        return re.sub(r"\{(\w+)\}", lambda m: f"\u2068{values[m[1]]}\u2069", self.words[key])

    def at(self, key, *, level=1, **values):
        """Wait until a screen with this title, or with this lower heading, is shown."""
        heading = self.page.get_by_role(
            "heading", level=level, name=self.say(key, **values), exact=True
        )
        self._wait_for(heading, key)
        return key.removesuffix(".title")

    def _wait_for(self, locator, key):
        try:
            locator.wait_for()
        except TooLong as error:
            shown = self.page.locator("main").inner_text()
            raise AssertionError(f"{key} did not appear, but: {shown}") from error

    def press(self, key, **values):
        self.page.get_by_role("button", name=self.say(key, **values), exact=True).click()

    def sees(self, key, **values):
        self._wait_for(self.page.get_by_text(self.say(key, **values), exact=True).first, key)

    def sees_of(self, platform, key):
        """Wait until the first file of a case shows this about a platform."""
        facts = self.page.locator(f"h3:text-is('{platform}') + ul").first
        self._wait_for(facts.get_by_text(self.say(key), exact=True), key)

    def box(self, key):
        """Return a checkbox by its label."""
        return self.page.get_by_role("checkbox", name=self.say(key), exact=True)

    def choose(self, files):
        self.page.set_input_files("#files", files)
        self.page.locator("button.main:enabled").wait_for()

    def answer_questions(self, reason="threatened"):
        for key in ("start.go", "adult.yes", "depicted.yes", "having.yes", f"reason.{reason}"):
            self.press(key)
        self.at("choose.title")

    def open_case(self, files):
        self.answer_questions()
        self.choose(files)
        self.press("continue")
        self.press("review.send")
        self.at("receipt.title")
        return self.page.locator(".secret").all_inner_texts()

    def sign_in(self, number, passphrase):
        if self.page.locator("#number").count() == 0:
            self.press("start.have")
        self.page.fill("#number", number)
        self.page.fill("#passphrase", passphrase)
        self.press("signIn.go")

    def unfold(self):
        """Open all collapsed sections, but only the first file of each list."""
        folded = self.page.locator(
            "details:not([open], details details + details) > summary:visible"
        )
        while folded.count():
            folded.first.click()

    def stored(self):
        return self.page.evaluate(STORED)

    def notes(self):
        return self.page.evaluate("globalThis.notes")

    def every_screen(self):
        """Go through the whole page and yield the name of each screen while it is shown."""
        self.arrive()
        yield "start"
        self.press("help.title")
        yield self.at("help.title")
        self.press("back")
        self.press("start.go")
        yield self.at("adult.title")
        for question, ending in (("adult", "under18"), ("depicted", "else"), ("having", "without")):
            yield self.at(f"{question}.title")
            self.press(f"{question}.no")
            yield self.at(f"{ending}.title")
            self.press("back")
            self.press(f"{question}.yes")
        yield self.at("reason.title")
        self.press("reason.synthetic")
        yield self.at("choose.title")
        self.box("choose.parts").check()
        self.choose([*pictures(), clip()])
        self.box("choose.names").check()
        self.unfold()
        yield "chosen"
        self.press("continue")
        self.at("review.title")
        self.unfold()
        yield "review"
        self.press("check.open")
        self.at("check.title")
        self.page.set_input_files("#copy", pictures()[:1])
        self.at("check.found", level=2)
        yield "found"
        self.page.set_input_files("#copy", file("x.png", png(blocks(300, 400))))
        self.at("check.lost", level=2)
        yield "lost"
        self.press("back")
        self.at("review.title")
        self.page.route("**/v1/cases", lambda route: route.abort())
        self.press("review.send")
        yield self.at("unsent.title")
        self.page.unroute("**/v1/cases")
        self.press("again")
        yield self.at("receipt.title")
        secret = self.page.locator(".secret").all_inner_texts()
        self.press("receipt.done")
        yield self.at("next.title")
        self.press("next.finish")
        self.press("start.have")
        self.press("claim.have")
        yield self.at("claim.title")
        self.press("back")
        self.at("signIn.title")
        self.sign_in(secret[0], "not these words")
        self.sees("error.credentials_wrong")
        assert self.page.input_value("#passphrase") == "not these words"
        yield "refused"
        self.sign_in(*secret)
        yield self.at("status.title")
        self.press("status.withdraw_one", number=1)
        yield self.at("withdraw.one", number=1)
        self.press("withdraw.yes")
        self.at("status.title")
        self.press("status.add")
        yield self.at("choose.more")
        self.choose(pictures()[:1])
        self.press("continue")
        yield self.at("review.title")
        self.press("review.send")
        yield self.at("added.title")
        self.press("added.status")
        self.press("status.withdraw")
        yield self.at("withdraw.all")
        self.press("withdraw.yes")
        self.sees("status.withdrawn")
        yield "closed"
