"""Selects the search backend: the compiled kernel's loops for this processor, or NumPy.

By default the fastest available one is used. The environment variable NCIIHASH_BACKEND selects
`avx512`, `avx2`, `neon`, `portable` (the kernel's loops for any processor) or `numpy` instead. With
NCIIHASH_REQUIRE_KERNEL=1 a missing kernel is an error instead of a warning.
"""

import os
import warnings
from types import ModuleType


def _load() -> ModuleType | None:
    wanted = os.environ.get("NCIIHASH_BACKEND", "")
    if wanted == "numpy":
        return None
    try:
        from nciihash.search import _kernel
    except ImportError as error:
        if wanted or os.environ.get("NCIIHASH_REQUIRE_KERNEL", "0") not in {"", "0"}:
            raise ImportError(
                "The compiled search kernel is missing: install a C++ compiler and reinstall "
                "nciihash, or unset NCIIHASH_BACKEND and NCIIHASH_REQUIRE_KERNEL to search with "
                "NumPy."
            ) from error
        warnings.warn(
            "nciihash was installed without its compiled kernel and searches with NumPy: same "
            "results, about 100 times slower. Install a C++ compiler and reinstall nciihash.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    if wanted:
        if wanted not in _kernel.backends():
            raise ImportError(
                f"NCIIHASH_BACKEND is {wanted!r}; available on this machine: "
                f"{', '.join([*_kernel.backends(), 'numpy'])}."
            )
        _kernel.choose(wanted)
    return _kernel


kernel = _load()


def backend() -> str:
    """Return the backend in use: avx512, avx2, neon, portable or numpy."""
    return "numpy" if kernel is None else str(kernel.backend())
