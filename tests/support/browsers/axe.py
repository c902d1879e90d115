"""The accessibility checker axe, on a page of Chromium."""

import json
from pathlib import Path

# Only the count of passed rules is needed: no list of their elements, no selectors.
LOOK = """axe.run({ runOnly: %s, resultTypes: ["violations"], selectors: false }).then(
  ({ violations, passes }) => [
    violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => [id, html])),
    passes.length,
  ])"""


class Axe:
    """The accessibility checker axe, on a page of Chromium."""

    RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")

    def __init__(self, page):
        import axe_playwright_python

        folder = Path(axe_playwright_python.__file__).parent
        self.script = (folder / "axe.min.js").read_text(encoding="utf-8")
        # through the debugger: the page's policy allows no other scripts
        self.channel = page.context.new_cdp_session(page)

    def look(self):
        """Return the violations on the screen, as (rule, markup), and how many rules passed."""
        # loaded once per document
        if not self._evaluate("'axe' in globalThis"):
            self._evaluate(f"{self.script}; 0")
        found, passes = self._evaluate(LOOK % json.dumps(self.RULES))
        return [(rule, markup) for rule, markup in found], passes

    def _evaluate(self, expression):
        run = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        reply = self.channel.send("Runtime.evaluate", run)
        assert "exceptionDetails" not in reply, reply
        return reply["result"]["value"]
