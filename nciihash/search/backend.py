"""Which code searches: the compiled kernel with the loops for this processor, or NumPy.

The environment variable NCIIHASH_BACKEND names one of `avx512`, `avx2`, `neon`, `portable` (the
kernel's loops for any processor) and `numpy`, instead of the best that runs here. With
NCIIHASH_REQUIRE_KERNEL=1 a missing kernel is an error and no longer a warning.
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
                "The compiled search kernel is missing: install nciihash where a C++ compiler is, "
                "or unset NCIIHASH_BACKEND and NCIIHASH_REQUIRE_KERNEL to search with NumPy."
            ) from error
        warnings.warn(
            "nciihash was installed without its compiled kernel and searches with NumPy: the same "
            "answers, a hundred times as slow. Install it where a C++ compiler is.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    if wanted:
        if wanted not in _kernel.backends():
            raise ImportError(
                f"NCIIHASH_BACKEND is {wanted!r}; what runs on this machine is "
                f"{', '.join([*_kernel.backends(), 'numpy'])}."
            )
        _kernel.choose(wanted)
    return _kernel


search = _load()


def backend() -> str:
    """Name the code that searches: avx512, avx2, neon, portable or numpy."""
    return "numpy" if search is None else str(search.backend())
