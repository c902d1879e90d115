"""The service between survivors and platforms: it accepts hashes and publishes them to platforms.

It cannot decode a picture: it imports none of the library's decoders, and `serve` blocks their
import.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clearinghouse.app import create_app
    from clearinghouse.settings import Settings

__all__ = ["Settings", "create_app"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute can be anything
    # Lazy, so that `clearinghouse --help` does not import the web framework.
    if name == "create_app":
        from clearinghouse.app import create_app

        return create_app
    if name == "Settings":
        from clearinghouse.settings import Settings

        return Settings
    raise AttributeError(f"module 'clearinghouse' has no attribute {name!r}")
