"""The base class and the field types that all messages share."""

from typing import Annotated, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictInt

PROBLEM: Final = "application/problem+json"
_HEX: Final = r"^[0-9a-f]+$"
_OPAQUE: Final = r"^[0-9a-f]{32}$"
ID_EXAMPLE: Final = "9f0c5d3f7be14f4e0b9d3c1f6a2e8d47"
PDQ_EXAMPLE: Final = "255a6ce6f173791f2727dea6d88274b00f1bf03a57d1a922968309b9e09eaa9c"

HexValue = Annotated[str, Field(min_length=16, max_length=64, pattern=_HEX)]
OpaqueId = Annotated[str, Field(pattern=_OPAQUE, examples=[ID_EXAMPLE])]
Quality = Annotated[StrictInt, Field(ge=0, le=100)]


class Message(BaseModel):
    """Base class of all messages: immutable, and unknown fields are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class Problem(BaseModel):
    """An error response (RFC 9457). It never repeats what the request contained."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore")

    type: Annotated[str, Field(description="Always `about:blank`.", examples=["about:blank"])] = (
        "about:blank"
    )
    title: Annotated[
        str,
        Field(description="What failed, for people.", examples=["The cursor is not valid"]),
    ]
    status: Annotated[int, Field(description="The HTTP status.", examples=[400])]
    detail: Annotated[
        str,
        Field(
            description="What to do next, for people.",
            examples=["Send the cursor of the last page, unchanged."],
        ),
    ] = ""
    code: Annotated[
        str,
        Field(
            description="What failed, for programs: the codes are stable, the texts are not.",
            examples=["bad_cursor"],
        ),
    ]


def example(**fields: JsonValue) -> ConfigDict:
    """Return the configuration that shows a whole message as an example in the OpenAPI document."""
    return ConfigDict(json_schema_extra={"examples": [fields]})
