"""Messages between a helpline's advocate and the clearinghouse.

An advocate opens a case for somebody who has agreed. She identifies it by a reference and never
knows a case number or a passphrase: these are created when the person takes over the case.
"""

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field, StrictBool

from nciihash.wire.base import Message, example
from nciihash.wire.cases import (
    ITEM_EXAMPLE,
    Declaration,
    Expires,
    Items,
    Reason,
    Receipts,
)

ASSISTED_ITEMS_MAX: Final = 1_000  # files of a case that an advocate opened; 200 per request
CLOCK_HOURS: Final = 48  # in which a site must act on a valid notice (TAKE IT DOWN Act, section 3)

Reference = Annotated[
    str,
    Field(
        pattern=r"^[0-9A-HJKMNP-TV-Z]{4}$",
        description="How the advocate identifies the case.",
        examples=["7KQ2"],
    ),
]
Code = Annotated[
    str,
    Field(
        description="A code for taking over a case; it can be used once.",
        examples=["K7Q4-29XD-MM3R"],
        repr=False,
    ),
]


class OpenForOther(Message):
    """A request to open a case on behalf of the person in the pictures, who is not named."""

    model_config = example(
        consent=True,
        declaration={"adult": True, "depicted": True},
        reason="threatened",
        items=[ITEM_EXAMPLE],
    )

    consent: Annotated[
        StrictBool, Field(description="That person knows what is sent, and agreed. Must be true.")
    ]
    declaration: Annotated[Declaration, Field(description="About that person.")]
    reason: Reason
    items: Annotated[Items, Field(description="The files of the case.")]


class OpenedForOther(Message):
    """A new case that an advocate opened."""

    reference: Reference
    expires: Expires
    items: Receipts


class AssistedCase(Message):
    """An open case of an advocate. All times are rounded to the hour."""

    reference: Reference
    reason: Reason
    opened: Annotated[datetime, Field(description="When the case was opened.")]
    expires: Expires
    consent: Annotated[datetime, Field(description="When the person's consent was declared.")]
    files: Annotated[int, Field(description="How many files are still matched.")]
    reported: Annotated[
        datetime | None,
        Field(description="When the advocate last sent a notice to a site; null if never."),
    ]
    due: Annotated[
        datetime | None, Field(description="When the site's 48 hours end; null without a notice.")
    ]
    code_until: Annotated[
        datetime | None,
        Field(description="When the code for taking over the case expires; null without a code."),
    ]


class AssistedCases(Message):
    """The open cases of an advocate."""

    cases: Annotated[tuple[AssistedCase, ...], Field(description="The cases, oldest first.")]


class HandOver(Message):
    """A code by which somebody takes over a case. Until then the advocate keeps it."""

    code: Code
    until: Annotated[datetime, Field(description="When the code expires.")]


class Claim(Message):
    """A request to take over a case with the advocate's code."""

    model_config = example(code="K7Q4-29XD-MM3R")

    code: Annotated[Code, Field(max_length=40)]
