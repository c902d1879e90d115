"""What every message on the network is made from."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class Message(BaseModel):
    """Base of all: frozen, and unknown fields are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable; the other members are for people."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore")

    type: Annotated[str, Field(examples=["about:blank"])] = "about:blank"
    title: Annotated[str, Field(examples=["The cursor is not one of ours"])]
    status: Annotated[int, Field(examples=[400])]
    detail: Annotated[str, Field(examples=["Send the cursor of the last page, unchanged."])] = ""
    code: Annotated[str, Field(examples=["bad_cursor"])]


def example(**fields: JsonValue) -> ConfigDict:
    """Show a whole message in the OpenAPI document."""
    return ConfigDict(json_schema_extra={"examples": [fields]})
