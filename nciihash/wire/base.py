"""What every message on the network is made from."""

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
    """Base of all: frozen, and unknown fields are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable; the other members are for people."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore")

    type: Annotated[str, Field(examples=["about:blank"])] = "about:blank"
    title: Annotated[str, Field(examples=["The cursor is not valid"])]
    status: Annotated[int, Field(examples=[400])]
    detail: Annotated[str, Field(examples=["Send the cursor of the last page, unchanged."])] = ""
    code: Annotated[str, Field(examples=["bad_cursor"])]


def example(**fields: JsonValue) -> ConfigDict:
    """Show a whole message in the OpenAPI document."""
    return ConfigDict(json_schema_extra={"examples": [fields]})
