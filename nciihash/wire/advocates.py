"""What crosses the network between a helpline's advocate and a clearinghouse.

An advocate opens a case for somebody who agreed. She knows it by a reference, never by the case
number and the passphrase: these are made when the case is handed over, and shown to its holder.
"""

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field, StrictBool

from nciihash.wire.base import Message, example
from nciihash.wire.cases import ITEM_EXAMPLE, Declaration, ItemReceipt, Items, Reason

ASSISTED_ITEMS_MAX: Final = 1_000  # files in a case that an advocate opened; 200 in a request
CLOCK_HOURS: Final = 48  # that a site has after a valid notice (TAKE IT DOWN Act, section 3)

Reference = Annotated[str, Field(pattern=r"^[0-9A-HJKMNP-TV-Z]{4}$", examples=["7KQ2"])]


class OpenForOther(Message):
    """Ask for a case on behalf of the person in the pictures.

    `consent`: that person knows what is sent and agreed. Who it is is not asked. The declaration
    is about that person.
    """

    model_config = example(
        consent=True,
        declaration={"adult": True, "depicted": True},
        reason="threatened",
        items=[ITEM_EXAMPLE],
    )

    consent: StrictBool
    declaration: Declaration
    reason: Reason
    items: Items


class OpenedForOther(Message):
    """The case's reference, and what became of each file."""

    reference: Reference
    expires: datetime
    items: tuple[ItemReceipt, ...]


class AssistedCase(Message):
    """One open case in an advocate's hands; times are hours.

    `reported`: when she last sent a site a notice, and `due`: when its 48 hours are over.
    `code_until`: how long a code is good by which the case can be taken over.
    """

    reference: Reference
    reason: Reason
    opened: datetime
    expires: datetime
    consent: datetime
    files: int
    reported: datetime | None
    due: datetime | None
    code_until: datetime | None


class AssistedCases(Message):
    """The open cases in an advocate's hands, oldest first."""

    cases: tuple[AssistedCase, ...]


class HandOver(Message):
    """A code for the holder to be, good once; until it is used, the advocate keeps the case."""

    code: Annotated[str, Field(examples=["K7Q4-29XD-MM3R"], repr=False)]
    until: datetime


class Claim(Message):
    """Take over the case that a code stands for."""

    model_config = example(code="K7Q4-29XD-MM3R")

    code: Annotated[str, Field(max_length=40, examples=["K7Q4-29XD-MM3R"], repr=False)]
