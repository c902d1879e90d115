"""Hashes of a file by Python and by the page, and their distance."""

import base64
from functools import lru_cache

from nciihash.hashing.hasher import hash_image

HASH = """async ([files, path]) => {
  const { Hasher } = await import("/page/worker_client.js");
  globalThis.hasher ??= new Hasher();
  const found = [];
  for (const file of files) {
    const bytes = Uint8Array.from(atob(file), (c) => c.charCodeAt(0));
    found.push(await hasher.hash(new Blob([bytes]), { path }));
  }
  return found;
}"""


def fingerprints(page, files, path=None):
    """Hash files with the page's scripts; each result has `found`, `code` or both.

    Args:
        page: where the page is loaded.
        files: their contents.
        path: "canvas" for the decoder of the browser; by default the page chooses.
    """
    return page.evaluate(HASH, [[base64.b64encode(data).decode() for data in files], path])


def bits_apart(one, other):
    return (int(one, 16) ^ int(other, 16)).bit_count()


@lru_cache(maxsize=32)
def by_python(data):
    hashed = hash_image(data)
    return hashed.signal.hex, hashed.quality, hashed.tied


def frames_of(signals):
    return [s["value"] for s in signals if s["variant"] == "original"]
