"""Count forbidden words and phrases in code, docs and messages, and fail on new ones.

    python tests/tools/words.py [--root FOLDER] [--show PHRASE] [PATH ...]

words.toml lists each phrase as a regular expression with the word to use instead. Names in code are
split at underscores and at capital letters, so that `open_door` and `OpenDoor` count. A phrase may
have contexts in which it is the right word, and a number of uses that remain. More uses than that
are an error, and so are fewer: then lower the number. With paths, every use in them is printed and
none is an error.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

LIST = Path(__file__).with_name("words.toml")
SUFFIXES = {
    *(".py", ".pyi", ".md", ".js", ".html", ".css", ".cpp", ".h", ".hpp"),
    *(".sh", ".sql", ".toml", ".yml", ".yaml", ".json", ".conf", ".service", ".timer"),
}
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A forbidden phrase.

    Attributes:
        name: its key in words.toml.
        pattern: matches a use, in text whose names were split.
        instead: the words to use.
        allowed: matches the contexts, within one line, in which the phrase is right.
        elsewhere: patterns of paths that are not searched.
        remaining: how many uses there may be.
    """

    name: str
    pattern: re.Pattern[str]
    instead: str
    allowed: re.Pattern[str] | None
    elsewhere: tuple[str, ...]
    remaining: int

    def uses(self, path, text, spaced):
        """Yield the line number and the line of each use in a file.

        Args:
            path: where the file is, as patterns of paths name it.
            text: its text.
            spaced: the same with its names split.
        """
        if any(fnmatch(path, glob) for glob in self.elsewhere) or not self.pattern.search(spaced):
            return
        lines = zip(text.splitlines(), spaced.splitlines(), strict=True)
        for number, (line, split) in enumerate(lines, 1):
            kept = self.allowed.sub(" ", split) if self.allowed else split
            for _ in self.pattern.finditer(kept):
                yield number, line.strip()


def _pattern(source):
    # an underscore separates words, as a space does
    return re.compile(rf"(?<![A-Za-z])(?:{source})(?![A-Za-z])", re.IGNORECASE)


def phrases(path=LIST):
    """Read the list."""
    listed = tomllib.loads(path.read_text(encoding="utf-8"))
    everywhere = tuple(listed.pop("not_searched"))
    for name, entry in listed.items():
        allowed = "|".join(f"(?:{context})" for context in entry.get("allowed", ()))
        yield Phrase(
            name,
            _pattern(entry.get("find", name)),
            entry["instead"],
            re.compile(allowed, re.IGNORECASE) if allowed else None,
            everywhere + tuple(entry.get("not_in", ())),
            entry.get("remaining", 0),
        )


def texts(root):
    """Yield each file that git tracks and a person reads: path, text, and text with names split."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        path = root / name
        if (path.suffix in SUFFIXES or path.name == "Makefile") and path.is_file():
            text = path.read_text(encoding="utf-8")
            yield name, text, _CAMEL.sub(" ", text)


def check(root):
    """Return the use counts by phrase, and a message for each count that is not as listed."""
    files = list(texts(root))
    counts, faults = {}, []
    for phrase in phrases():
        uses = sum(1 for file in files for _ in phrase.uses(*file))
        counts[phrase.name] = uses
        if uses > phrase.remaining:
            faults.append(
                f"{phrase.name!r}: {uses} uses where {phrase.remaining} may remain; "
                f"use {phrase.instead}. They are shown by --show {phrase.name!r}."
            )
        elif uses < phrase.remaining:
            faults.append(
                f"{phrase.name!r}: {uses} uses are left: write `remaining = {uses}` in {LIST.name}."
            )
    return counts, faults


def main():
    """Print the counts, or the uses in some files; exit with 1 where a count is not as listed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", help="print every use in these files and folders")
    parser.add_argument("--root", type=Path, default=LIST.parents[2])
    parser.add_argument("--show", metavar="PHRASE", help="print every use of one phrase")
    arguments = parser.parse_args()
    if arguments.show or arguments.paths:
        prefixes = tuple(arguments.paths) or ("",)
        shown = [p for p in phrases() if arguments.show in {None, p.name}]
        for path, text, spaced in texts(arguments.root):
            for phrase in shown:
                if path.startswith(prefixes):
                    for number, line in phrase.uses(path, text, spaced):
                        print(f"{path}:{number}: {phrase.name} -> {phrase.instead}: {line}")
        return 0
    counts, faults = check(arguments.root)
    for name, count in counts.items():
        print(f"{count:6}  {name}")
    print(f"{sum(counts.values()):6}  uses of {len(counts)} phrases")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
