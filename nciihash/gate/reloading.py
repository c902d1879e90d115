"""What of a changed configuration applies to a gate that runs, and what needs a restart."""

from dataclasses import replace
from typing import Final

from nciihash.gate.config import DialectConfig, GateConfig
from nciihash.gate.outcome import Dialect

# Fields of `GateConfig` that are used only when a gate starts.
_AT_START: Final = (
    *("server", "data", "key", "veiled", "jobs", "video_jobs", "reference_days"),
    *("limits", "flood"),
)


def reloaded(running: GateConfig, new: GateConfig) -> tuple[GateConfig, list[str]]:
    """Return the configuration of a gate after a reload, and the settings that need a restart.

    Policies, levels, shares, dry runs, hosts and tokens apply from the next upload on. Listeners
    stay as they are.

    Args:
        running: the configuration of the gate.
        new: the changed configuration.
    """
    waiting = [name for name in _AT_START if getattr(running, name) != getattr(new, name)]
    dialects: dict[Dialect, DialectConfig] = {}
    for dialect, settings in running.dialects.items():
        changed = new.dialects.get(dialect, settings)
        if dialect not in new.dialects or changed.listen != settings.listen:
            waiting.append(f"{dialect.value}.listen")
        dialects[dialect] = replace(changed, listen=settings.listen)
    waiting += [f"{dialect.value}.listen" for dialect in new.dialects.keys() - dialects.keys()]
    kept = {name: getattr(running, name) for name in _AT_START}
    return replace(new, dialects=dialects, **kept), waiting
