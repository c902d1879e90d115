import json

import pytest

from nciihash.hashing.hasher import hash_file
from support.command_line import YES, submit


@pytest.mark.parametrize("by", ["the page", "hash --json"])
def test_submit_what_was_hashed_before(run, local, photos, tmp_path, by):
    paths = [photos / "photo0.jpg", photos / "plain.png", photos / "photo1.jpg"]
    lines = run("hash", "--variants", "standard", "--json", *paths, photos / "none.jpg").lines
    saved = tmp_path / "notes.json"
    if by == "the page":
        items = [{"media": x["media"], "signals": x["hashes"]} for x in lines if "hashes" in x]
        saved.write_text(json.dumps({"items": items}))
    else:
        saved.write_text("\n".join(map(json.dumps, lines)))
    done = submit(run, local, *YES, "--json", "--from", saved)
    plain, opened = done.lines
    assert (done.code, plain["error"]["code"]) == (1, "too_plain")
    made = [len(hash_file(path, variants="standard").hashes) for path in (paths[0], paths[2])]
    assert [item["accepted"] for item in opened["items"]] == made
    assert [item["file"] for item in opened["items"]] == [f"{saved}, number {n}" for n in (1, 3)]
    both = submit(run, local, *YES, "--json", "--from", saved, photos / "photo0.jpg")
    assert len(both.lines[-1]["items"]) == 3


_DEEP = "[" * 3000


_ENDLESS = json.dumps(
    {
        "media": "video",
        "hashes": [{"type": "pdq", "value": "0" * 64, "quality": 9, "time": 10**400}],
    }
)


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[1]", "{}", '{"items": []}', '{"items": [1]}', _DEEP, _ENDLESS],
    ids=["empty", "words", "list", "object", "none", "number", "deep", "endless"],
)
def test_submit_from_something_else(run, local, tmp_path, text):
    saved = tmp_path / "notes.json"
    saved.write_text(text)
    for given in (saved, tmp_path / "none"):
        done = submit(run, local, *YES, "--from", given)
        assert done.code == 2
        assert str(given) in done.err
    assert submit(run, local, *YES).code == 2
