"""What a gate keeps of its decisions: references, counts, excepted files and verdicts."""

from nciihash.gate.decisions.records import DecisionsInvalid, ReferenceUnknown
from nciihash.gate.decisions.store import DECISIONS_FILE, MATCHES_MAX, DecisionStore

__all__ = [
    "DECISIONS_FILE",
    "MATCHES_MAX",
    "DecisionStore",
    "DecisionsInvalid",
    "ReferenceUnknown",
]
