"""What a gate keeps of its decisions: references, counts, excepted files and verdicts."""

from nciihash.gate.decisions.store import DECISIONS_FILE, MATCHES_MAX, DecisionStore

__all__ = ["DECISIONS_FILE", "MATCHES_MAX", "DecisionStore"]
