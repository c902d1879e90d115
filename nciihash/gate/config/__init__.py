"""The configuration of a gate: its values, its keys, and how they are read and described."""

from nciihash.gate.config.keys import render_default
from nciihash.gate.config.settings import (
    Address,
    DialectConfig,
    FloodConfig,
    GateConfig,
    UploadLimits,
    load,
)

__all__ = [
    "Address",
    "DialectConfig",
    "FloodConfig",
    "GateConfig",
    "UploadLimits",
    "load",
    "render_default",
]
