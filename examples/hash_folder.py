"""Hash every file of a folder in a sandboxed child process, since files may be hostile.

Run: python hash_folder.py FOLDER
"""

import sys
from pathlib import Path

from nciihash.errors import FileRefused
from nciihash.sandbox import Sandbox


def main(folder: Path) -> None:
    with Sandbox() as sandbox:
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            try:
                # the first hash; a video has one for each frame that differs from the last one
                hashed = sandbox.hash_file(path).hashes[0]
            except FileRefused as refusal:
                print(f"{path.name}: {refusal}")
            else:
                note = " (too plain to submit)" if hashed.plain else ""
                print(f"{path.name}: {hashed.signal.hex} quality {hashed.quality}{note}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
