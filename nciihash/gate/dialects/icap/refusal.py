"""What is answered in place of a message that is stopped: a page, or JSON, in plain words."""

import html
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from nciihash.gate.dialects.answers import retry_after
from nciihash.gate.outcome import Decision, Outcome


@dataclass(frozen=True, slots=True)
class _Text:
    status: HTTPStatus
    title: str
    paragraphs: tuple[str, ...]


_MISTAKE: Final = "If you think that this is a mistake, write to the people who run this site."
_REFERENCE: Final = "Send them the reference. They do not need the file for it."
_FINGERPRINTS: Final = (
    "It looks like one that the person shown asked sites not to share. Sites compare files with "
    "fingerprints for this; nobody has looked through yours."
)
_FORMATS: Final = (
    "This site accepts only pictures and videos that it can read, and this file is damaged, too "
    "large, or in another format."
)
_NOT_NOW: Final = (
    "This site checks pictures and videos before it accepts them, and the check does not work at "
    "the moment."
)
_MATCH: Final = _Text(
    HTTPStatus.FORBIDDEN,
    "This picture or video cannot be shared here",
    (_FINGERPRINTS, _MISTAKE),
)
_UNREADABLE: Final = _Text(
    HTTPStatus.FORBIDDEN,
    "This file was not accepted",
    (_FORMATS, "Save it as JPEG, PNG or MP4 and try again."),
)
_UNCHECKED: Final = _Text(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "This file could not be checked",
    (_NOT_NOW, "Please try again in a few minutes."),
)
_TEXTS: Final = {Decision.UNREADABLE: _UNREADABLE, Decision.UNCHECKED: _UNCHECKED}

_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>
body {{ max-width: 34rem; margin: 12vh auto; padding: 0 1.2rem; line-height: 1.6;
  font-family: system-ui, sans-serif; color: #222; background: #fff }}
h1 {{ font-size: 1.4rem; font-weight: 600 }}
code {{ font-size: 1.1em; user-select: all }}
@media (prefers-color-scheme: dark) {{ body {{ color: #ddd; background: #1b1b1b }} }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{paragraphs}
</main>
</body>
</html>
"""


def refusal(outcome: Outcome, *, as_json: bool) -> tuple[bytes, bytes]:
    """Return the head and the body of the HTTP response to a message that is stopped.

    It has status 403, or 503 if the file could not be checked.

    Args:
        outcome: of the upload.
        as_json: whether the client prefers a problem document (RFC 9457) to a page.
    """
    text = _TEXTS.get(outcome.decision, _MATCH)
    body = (_problem if as_json else _page)(text, outcome.reference).encode()
    kind = "application/problem+json" if as_json else "text/html; charset=utf-8"
    fields = [
        f"HTTP/1.1 {text.status.value} {text.status.phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'",
        "X-Content-Type-Options: nosniff",
    ]
    if text.status is HTTPStatus.SERVICE_UNAVAILABLE:
        fields.append(f"Retry-After: {retry_after(outcome)}")
    return "\r\n".join([*fields, "", ""]).encode("ascii"), body


def _paragraphs(text: _Text, reference: str | None) -> list[str]:
    return [*text.paragraphs, *([] if reference is None else [_REFERENCE])]


def _page(text: _Text, reference: str | None) -> str:
    lines = [f"<p>{html.escape(each)}</p>" for each in _paragraphs(text, reference)]
    if reference is not None:
        lines.append(f"<p>Reference: <code>{html.escape(reference)}</code></p>")
    return _PAGE.format(title=html.escape(text.title), paragraphs="\n".join(lines))


def _problem(text: _Text, reference: str | None) -> str:
    problem = {
        "type": "about:blank",
        "title": text.title,
        "status": text.status.value,
        "detail": " ".join(_paragraphs(text, reference)),
    }
    return json.dumps(problem if reference is None else problem | {"reference": reference})
