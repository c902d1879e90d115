import numpy as np
from numpy.typing import NDArray

sig_padding: int

def backend() -> str: ...
def backends() -> list[str]: ...
def choose(name: str, /) -> None: ...
def scramble(packed: NDArray[np.uint8], /) -> NDArray[np.uint8]: ...
def slice_rows(rows: NDArray[np.uint8], /) -> NDArray[np.uint64]: ...
def build(
    rows: NDArray[np.uint8], key_bits: int, stride: int, windows: bool, threads: int, /
) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint16]]: ...
def query(
    segments: tuple[Segment, ...],
    packed: NDArray[np.uint8],
    radius: int,
    threads: int,
    strategy: int = 0,
    reach: int = 0,
    slack: int = 0,
) -> bytearray: ...

class Segment:
    def __init__(
        self,
        rows: NDArray[np.uint8],
        ids: NDArray[np.uint64],
        removed: NDArray[np.uint8] | None,
        planes: NDArray[np.uint64] | None,
        offsets: NDArray[np.uint32] | None,
        refs: NDArray[np.uint32] | None,
        sigs: NDArray[np.uint16] | None,
    ) -> None: ...
