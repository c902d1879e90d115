"""`submit --from`: hashes that the page or `hash --json` has saved."""

import json

import pytest

from nciihash.hashing.hasher import hash_file
from support.command_line import YES, submit


@pytest.mark.parametrize("source", ["the page", "hash --json"])
def test_saved_hashes_are_submitted(run, local, photos, tmp_path, source):
    paths = [photos / "photo0.jpg", photos / "plain.png", photos / "photo1.jpg"]
    lines = run("hash", "--variants", "standard", "--json", *paths, photos / "none.jpg").lines
    saved = tmp_path / "saved.json"
    if source == "the page":
        items = [
            {"media": line["media"], "signals": line["hashes"]}
            for line in lines
            if "hashes" in line
        ]
        saved.write_text(json.dumps({"items": items}))
    else:
        saved.write_text("\n".join(map(json.dumps, lines)))
    result = submit(run, local, *YES, "--json", "--from", saved)
    plain, opened = result.lines
    assert (result.code, plain["error"]["code"]) == (1, "too_plain")
    counts = [len(hash_file(path, variants="standard").hashes) for path in (paths[0], paths[2])]
    assert [item["accepted"] for item in opened["items"]] == counts
    assert [item["file"] for item in opened["items"]] == [f"{saved}, number {n}" for n in (1, 3)]
    both = submit(run, local, *YES, "--json", "--from", saved, photos / "photo0.jpg")
    assert len(both.lines[-1]["items"]) == 3


_NESTED = "[" * 3000


_INFINITE = json.dumps(
    {
        "media": "video",
        "hashes": [{"type": "pdq", "value": "0" * 64, "quality": 9, "time": 10**400}],
    }
)


@pytest.mark.parametrize(
    "text",
    ["", "not JSON", "[1]", "{}", '{"items": []}', '{"items": [1]}', _NESTED, _INFINITE],
    ids=["empty", "words", "list", "object", "none", "number", "nested", "infinite"],
)
def test_other_files_are_refused(run, local, tmp_path, text):
    saved = tmp_path / "saved.json"
    saved.write_text(text)
    for path in (saved, tmp_path / "none"):
        result = submit(run, local, *YES, "--from", path)
        assert result.code == 2
        assert str(path) in result.err
    assert submit(run, local, *YES).code == 2
