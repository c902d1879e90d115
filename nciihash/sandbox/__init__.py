"""Hash files in a confined child process, so that a malicious file can do no harm."""

from typing import TYPE_CHECKING

from nciihash._lazy import attach

if TYPE_CHECKING:
    from nciihash.sandbox.parent import Sandbox, hash_file

__all__ = ["Sandbox", "hash_file"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "parent": (
            "Sandbox",
            "hash_file",
        ),
    },
    __all__,
)
