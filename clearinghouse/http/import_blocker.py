"""The import blocker that keeps every decoder of pictures out of the serving process."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

DECODERS: Final = frozenset({"PIL", "cv2", "av", "imagehash", "pi_heif", "simplejpeg"})


class DecoderRefused(ImportError):
    """The serving process tried to load a decoder: it must never be able to open a picture."""


class _Blocker(MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the signature is importlib's
        target: ModuleType | None = None,  # noqa: ARG002 - likewise
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in DECODERS:
            raise DecoderRefused(f"{fullname} must not be loaded by the service.")
        return None


def block_decoders() -> None:
    """Make every later import of a decoder fail, for the life of this process.

    Raises:
        DecoderRefused: one is loaded already.
    """
    if loaded := DECODERS & set(sys.modules):
        raise DecoderRefused(f"{', '.join(sorted(loaded))} is loaded already.")
    if not any(isinstance(finder, _Blocker) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Blocker())
