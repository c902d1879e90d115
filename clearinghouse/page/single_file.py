"""Build the survivor's page as one file for use without internet.

It contains the same sources as the server's page, each module wrapped in a function, so that no
tool is needed to read or build it. Its Content-Security-Policy allows its own script and style, by
their digests, and no connection at all. It cannot send anything: fingerprints are saved as a file,
to be sent later. `python -m clearinghouse.page.single_file FILE DIGESTS` writes it, and a JSON file
with the SHA-256 of it and of each file that a server sends, as the service serves it at
`/digests.json`.
"""

import base64
import hashlib
import json
import posixpath
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

from clearinghouse.page import manifest

_IMPORT: Final = re.compile(
    r'^import (?:\* as (?P<whole>\w+)|(?P<names>\{[^}]*\})) from "(?P<file>[\w./]+)";$', re.M
)
_EXPORT: Final = re.compile(r"^export ((?:const|class|function|async function) (\w+))", re.M)
_BUILD_FLAGS: Final = """export const online = false;
export const catalogue = async (language) => CATALOGUES[language];
const script = new Blob([WORKER], { type: "text/javascript" });
export const workerAddress = () => URL.createObjectURL(script);
export const workerKind = {};
"""


@dataclass(frozen=True, slots=True)
class Edition:
    """The single file, and the Content-Security-Policy in it."""

    html: str
    policy: str


@lru_cache(maxsize=1)
def build() -> Edition:
    """Build the single file; the build is reproducible byte for byte."""
    words = {name: json.loads(manifest.read(f"words/{name}.json")) for name in manifest.LANGUAGES}
    worker = _bundle([(name, _text(name)) for name in manifest.WORKER])
    flags = (
        f"const CATALOGUES = {_quoted(words)};\nconst WORKER = {_quoted(worker)};\n{_BUILD_FLAGS}"
    )
    script = _bundle([(n, flags if n == "build_flags.js" else _text(n)) for n in manifest.PAGE])
    style = _text("page.css")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}' blob:; style-src '{_digest(style)}'; "
        "img-src data:; media-src blob:; worker-src blob:; connect-src 'none'; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types w"
    )
    html = _text("index.html")
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
    return Edition(html, policy)


@lru_cache(maxsize=1)
def digests() -> bytes:
    """Return the SHA-256 of the single file and of each path of the page, as JSON.

    Anybody with the sources of a version can compute the same digests and compare them with what a
    server sends.
    """
    paths = {path: hashlib.sha256(content).hexdigest() for path, _, content in manifest.served()}
    single = hashlib.sha256(build().html.encode()).hexdigest()
    return (json.dumps({"single_file": single, "paths": paths}, indent=1) + "\n").encode()


def _text(name: str) -> str:
    return manifest.read(name).decode()


def _bundle(modules: Sequence[tuple[str, str]]) -> str:
    """Join modules into one script: each becomes a function that returns what it exports."""
    parts = ["const modules = {};"]
    for name, source in modules:
        exported = ", ".join(match[2] for match in _EXPORT.finditer(source))
        body = _IMPORT.sub(partial(_import, posixpath.dirname(name)), source)
        body = _EXPORT.sub(r"\1", body)
        if re.search(r"^(import|export)\b|import\.meta", body, re.M):
            raise ValueError(f"{name} imports or exports in a way that is not understood here")
        parts.append(
            f'modules["{name}"] = await (async () => {{\n{body}\nreturn {{ {exported} }};\n}})();'
        )
    joined = "\n".join(parts)
    return f"(async () => {{\n{joined}\n}})();\n"


def _import(folder: str, statement: re.Match[str]) -> str:
    """Return what an import of a module in this folder becomes in the bundle."""
    names = statement["whole"] or statement["names"].replace(" as ", ": ")
    name = posixpath.normpath(posixpath.join(folder, statement["file"]))
    return f'const {names} = modules["{name}"];'


def _quoted(value: object) -> str:
    # "</script" must not appear inside a script
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


if __name__ == "__main__":
    page, listed = map(Path, sys.argv[1:])
    page.write_text(build().html, encoding="utf-8")
    listed.write_bytes(digests())
    sys.stdout.write(f"{json.loads(digests())['single_file']}  {page}\n")
