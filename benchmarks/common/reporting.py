"""The environment of a benchmark run, and the files of its report."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    installed = {}
    for name in names:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def environment(names: Iterable[str]) -> dict[str, Any]:
    """Return the machine, its load average, and the versions of packages."""
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": versions(names),
    }


def write(out: Path, results: dict[str, Any], text: str) -> None:
    """Write the results to NAME.json and the tables to NAME.md."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(text.rstrip() + "\n", encoding="utf-8")


def save(figure: "Figure", path: Path) -> None:
    """Save a plot as NAME.png, which the documentation includes, and as NAME.svg."""
    figure.savefig(path.with_suffix(".png"), dpi=110)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def pyplot() -> ModuleType | None:
    """Return Matplotlib's pyplot with the Agg backend; print a note and return None without it."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        print(f"no plots: {error}")
        return None
    return plt
