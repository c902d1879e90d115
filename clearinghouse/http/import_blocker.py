"""An import hook that keeps image and video decoders out of the server process."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

DECODERS: Final = frozenset({"PIL", "cv2", "av", "imagehash", "pi_heif", "simplejpeg"})


class DecoderRefused(ImportError):
    """The server process tried to import a decoder. It must not be able to decode pictures."""


class _Blocker(MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the signature is importlib's
        target: ModuleType | None = None,  # noqa: ARG002 - as above
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in DECODERS:
            raise DecoderRefused(f"{fullname} must not be loaded by the service.")
        return None


def block_decoders() -> None:
    """Make all later imports of decoders fail, for the life of this process.

    Raises:
        DecoderRefused: a decoder was imported already.
    """
    if loaded := DECODERS & set(sys.modules):
        raise DecoderRefused(
            f"{', '.join(sorted(loaded))} must not be imported before the service starts."
        )
    if not any(isinstance(finder, _Blocker) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Blocker())
