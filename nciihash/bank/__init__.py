"""A platform's bank: the signals that it matches against, on disk and in memory."""

from typing import TYPE_CHECKING

from nciihash._lazy import attach

if TYPE_CHECKING:
    from nciihash.bank.bank import Bank

__all__ = ["Bank"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "bank": ("Bank",),
    },
    __all__,
)
