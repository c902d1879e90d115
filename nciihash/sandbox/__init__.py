"""Hash files in a confined child process, so that a malicious file can do no harm."""

from typing import TYPE_CHECKING

from nciihash._lazy import attach

if TYPE_CHECKING:
    from nciihash.sandbox.parent import Sandbox, hash_file, hash_upload

__all__ = ["Sandbox", "hash_file", "hash_upload"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "parent": (
            "Sandbox",
            "hash_file",
            "hash_upload",
        ),
    },
    __all__,
)
