"""The configuration of a gate: its values, its keys, and how they are read and described."""

from nciihash.gate.config.settings import (
    Address,
    DialectConfig,
    FloodConfig,
    GateConfig,
    UploadLimits,
    load,
    render_default,
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
