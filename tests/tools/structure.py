"""Report large folders, files and functions. These are hints, not limits.

    python tests/tools/structure.py [--root FOLDER]

structure.toml has a reason for each, in one line; those without a reason are counted. Reasons for
what is no longer large are reported too. The exit status is always 0.
"""

import argparse
import ast
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

FILES = 20  # in a folder
LINES = 350  # in a file
STATEMENTS = 60  # lines of a function, from `def` to its end
SUFFIXES = {".py", ".js", ".cpp", ".hpp"}
REASONS = Path(__file__).with_name("structure.toml")


def sources(root):
    """Return the source files that git tracks, as paths relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [Path(name) for name in listed if Path(name).suffix in SUFFIXES]


def functions(path, text):
    """Yield the name and the number of lines of each function in a Python file."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path}:{node.name}", node.end_lineno - node.lineno + 1


def measure(root):
    """Return the sizes of large folders, files and functions, as three mappings by name."""
    files = [path for path in sources(root) if (root / path).is_file()]
    folders = Counter(path.parent.as_posix() for path in files)
    lengths, long = {}, {}
    for path in files:
        text = (root / path).read_text(encoding="utf-8")
        lengths[path.as_posix()] = len(text.splitlines())
        if path.suffix == ".py":
            long.update(functions(path.as_posix(), text))
    return (
        {name: count for name, count in folders.items() if count > FILES},
        {name: count for name, count in lengths.items() if count > LINES},
        {name: count for name, count in long.items() if count > STATEMENTS},
    )


def main():
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=REASONS.parents[2])
    root = parser.parse_args().root
    reasons = tomllib.loads(REASONS.read_text(encoding="utf-8"))
    kinds = ("folders", "files", "functions")
    bounds = (f"over {FILES} files", f"over {LINES} lines", f"over {STATEMENTS} lines")
    for kind, bound, found in zip(kinds, bounds, measure(root), strict=True):
        known = reasons.get(kind, {})
        print(f"{kind} {bound}: {len(found)}, {len(found.keys() - known.keys())} without a reason")
        for name, size in sorted(found.items(), key=lambda pair: -pair[1]):
            print(f"  {size:5}  {name}  {known.get(name, '')}".rstrip())
        for name in sorted(known.keys() - found.keys()):
            print(f"         {name}  is no longer large: delete its reason")


if __name__ == "__main__":
    main()
