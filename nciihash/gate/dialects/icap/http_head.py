"""The head of an encapsulated HTTP message: what the gate needs of it.

It is read tolerantly, since it is passed on byte for byte and never built from what was read.
Nextcloud, for example, encapsulates responses whose first line is not valid.
"""

from dataclasses import dataclass, field
from typing import Final

from nciihash.gate.dialects.uploads import is_multipart

_TEXT_TYPES: Final = frozenset(
    {
        *("application/json", "application/xml", "application/javascript", "application/wasm"),
        *("application/x-javascript", "application/ecmascript", "application/graphql"),
        *("application/x-www-form-urlencoded", "application/x-ndjson"),
    }
)


@dataclass(frozen=True, slots=True)
class HttpHead:
    """The head of an HTTP message.

    Attributes:
        start: the request line or status line.
        fields: the header fields in their order, with lower-case names.
    """

    start: str = field(default="", repr=False)
    fields: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, head: bytes) -> "HttpHead":
        """Parse a head. Lines that are not header fields are skipped."""
        start, *lines = head.decode("latin-1").replace("\r\n", "\n").rstrip("\n").split("\n")
        fields: list[tuple[str, str]] = []
        for line in lines:
            if line.startswith((" ", "\t")) and fields:  # a folded line (RFC 9112 section 5.2)
                name, value = fields[-1]
                fields[-1] = name, f"{value} {line.strip()}"
                continue
            name, colon, value = line.partition(":")
            if colon:
                fields.append((name.strip().lower(), value.strip()))
        return cls(start, tuple(fields))

    def values(self, name: str) -> list[str]:
        """Return the values of a field, one for each line."""
        return [value for each, value in self.fields if each == name]

    @property
    def content_type(self) -> str:
        """The Content-Type; of several, one with parts, so that another does not hide files."""
        values = self.values("content-type")
        return next(filter(is_multipart, values), values[0] if values else "")

    @property
    def codings(self) -> list[str]:
        """The content codings in the order in which they were applied, in lower case."""
        listed = ",".join(self.values("content-encoding")).lower().split(",")
        return [coding for each in listed if (coding := each.strip()) not in {"", "identity"}]

    @property
    def claims_text(self) -> bool:
        """Whether the message says that its body is text, a form or a font, and not a file."""
        kind = self.content_type.partition(";")[0].strip().lower()
        return (
            kind in _TEXT_TYPES
            or kind.startswith(("text/", "font/", "application/font", "application/x-font"))
            or (kind.startswith("application/") and kind.endswith(("+json", "+xml")))
        )


def prefers_json(accept: str) -> bool:
    """Whether an Accept field prefers JSON to HTML (RFC 9110 section 12.5.1)."""
    html, json = 0.0, 0.0
    for each in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in each.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                quality = _quality(value)
        if kind in {"text/html", "text/*", "*/*", "application/xhtml+xml"}:
            html = max(html, quality)
        elif kind == "application/json" or kind.endswith("+json"):
            json = max(json, quality)
    return json > 0 and json >= html


def _quality(value: str) -> float:
    try:
        return min(max(float(value), 0.0), 1.0)
    except ValueError:
        return 0.0
