"""Build the survivor's page as one file for use without internet.

The same sources as on the server, each module wrapped into a function, so that no tool is needed to
read or to build it. Its policy names its script and its style by their digests and allows no
connection at all. It cannot send anything: fingerprints are saved as a file, to be sent later.
`python -m clearinghouse.offline FILE` writes it and prints its SHA-256.
"""

import base64
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from clearinghouse.routes.pages import LANGUAGES

# In the order in which they need each other.
_WORKER: Final = (
    *("pdq.js", "formats.js", "scan.js", "jpeg.js", "png.js", "views.js", "trimming.js"),
    *("canvas.js", "work.js", "worker.js"),
)
_PAGE: Final = (
    *("edition.js", "elements.js", "hasher.js", "words.js", "service.js", "proof.js"),
    *("asking.js", "choosing.js", "holding.js", "app.js"),
)
_IMPORT: Final = re.compile(
    r'^import (?:\* as (?P<whole>\w+)|(?P<names>\{[^}]*\})) from "\./(?P<file>[\w.]+)";$', re.M
)
_EXPORT: Final = re.compile(r"^export ((?:const|class|function|async function) (\w+))", re.M)
_EDITION: Final = """export const online = false;
export const catalogue = async (language) => CATALOGUES[language];
const script = new Blob([WORKER], { type: "text/javascript" });
export const workerAddress = () => URL.createObjectURL(script);
export const workerKind = {};
"""


def build() -> str:
    """Give the single file's HTML; the same sources give the same bytes."""
    folder = files("clearinghouse") / "site"

    def read(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    words = {language: json.loads(read(f"words/{language}.json")) for language in LANGUAGES}
    edition = (
        f"const CATALOGUES = {_quoted(words)};\n"
        f"const WORKER = {_quoted(_bundle([(name, read(name)) for name in _WORKER]))};\n{_EDITION}"
    )
    script = _bundle([(n, edition if n == "edition.js" else read(n)) for n in _PAGE])
    style = read("page.css")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}' blob:; style-src '{_digest(style)}'; "
        "img-src data:; worker-src blob:; connect-src 'none'; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types w"
    )
    html = read("index.html")
    for old, new in (
        (
            "<meta charset",
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<meta charset',
        ),
        ('<link rel="stylesheet" href="page/page.css">', f"<style>{style}</style>"),
        (
            '<script type="module" src="page/app.js"></script>',
            f'<script type="module">{script}</script>',
        ),
    ):
        if html.count(old) != 1:
            raise ValueError(f"index.html has no single {old!r}")
        html = html.replace(old, new)
    return html


def _bundle(modules: Sequence[tuple[str, str]]) -> str:
    """Join modules into one script: each becomes a function that returns what it exports."""
    parts = ["const modules = {};"]
    for name, source in modules:
        exported = ", ".join(match[2] for match in _EXPORT.finditer(source))
        body = _IMPORT.sub(
            lambda m: (
                f'const {m["whole"] or m["names"].replace(" as ", ": ")} = modules["{m["file"]}"];'
            ),
            source,
        )
        body = _EXPORT.sub(r"\1", body)
        if re.search(r"^(import|export)\b|import\.meta", body, re.M):
            raise ValueError(f"{name} imports or exports in a way that is not understood here")
        parts.append(
            f'modules["{name}"] = await (async () => {{\n{body}\nreturn {{ {exported} }};\n}})();'
        )
    joined = "\n".join(parts)
    return f"(async () => {{\n{joined}\n}})();\n"


def _quoted(value: object) -> str:
    # "</script" must not appear inside a script
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


if __name__ == "__main__":
    html = build()
    Path(sys.argv[1]).write_text(html, encoding="utf-8")
    digest = hashlib.sha256(html.encode()).hexdigest()
    sys.stdout.write(f"{digest}  {sys.argv[1]}\n")
