"""Items that many unlike pictures match."""

from nciihash.gate.config import FloodConfig
from nciihash.sdk.lookup import LookupResult
from nciihash.signals import Item


class FloodStop:
    """Counts unlike pictures that match one item."""

    def __init__(self, config: FloodConfig) -> None:
        self._config = config

    def meet(self, item: Item, result: LookupResult, *, now: float) -> frozenset[str]:
        """Return the ids of flooded items."""
        del item, result, now
        return frozenset()

    def flooded(self, *, now: float) -> frozenset[str]:
        """Return the ids of all flooded items."""
        del now
        return frozenset()
