"""The single file for use without internet."""

import base64
import hashlib
import re
from pathlib import Path

from PIL import Image
from skimage import data as photos

from clearinghouse.page import manifest, single_file
from golden.pictures import blocks, rings, waves
from nciihash.wire import AddItems, OpenCase
from support.browsers.chosen_files import clip, encoded, file, pictures, png
from support.browsers.leaks import assert_holds_nothing_of
from support.hashes import bits_apart, by_python


def test_fingerprints_made_without_internet_are_sent_later(visit, tmp_path):
    """From the single file, opened from disk, to a case on the service."""
    (tmp_path / "page.html").write_text(single_file.build().html, encoding="utf-8")
    away = visit(arrive=False)
    away.page.context.set_offline(True)
    away.page.goto((tmp_path / "page.html").as_uri())
    away.sees("offline.what")
    away.answer_questions()
    webp = file("d.webp", encoded(Image.fromarray(photos.coffee()), "WEBP"))
    chosen = [*pictures(), webp, clip()]
    away.choose(chosen)
    away.press("continue")
    away.at("offline.review")
    with away.page.expect_download() as download:
        away.press("offline.save")
    away.at("offline.saved")
    assert away.errors == []
    assert away.notes() == []
    assert [r.url for r in away.requests if not r.url.startswith(("file:", "blob:", "data:"))] == []
    assert download.value.suggested_filename == "notes.json"
    path = tmp_path / "notes.json"
    download.value.save_as(path)
    assert_holds_nothing_of(path.read_bytes(), chosen)

    visitor = visit()
    visitor.answer_questions()
    visitor.page.set_input_files("#saved", [file("x.json", b'{"items": "none"}')])
    visitor.sees("choose.not_saved")
    visitor.page.set_input_files("#saved", path)
    visitor.press("continue")
    with visitor.page.expect_request("**/v1/cases") as request:
        visitor.press("review.send")
    visitor.at("receipt.title")
    sent = OpenCase.model_validate_json(request.value.post_data_buffer)
    assert [item.media for item in sent.items] == [*["image"] * 3, "video"]
    values = [item.signals[0].value for item in sent.items[:3]]
    expected = [by_python(f["buffer"])[0] for f in (*chosen[:2], chosen[3])]
    assert [bits_apart(a, b) <= 2 for a, b in zip(values, expected, strict=True)] == [True] * 3


def test_the_single_file_is_reproducible_and_allows_no_connection():
    html = single_file.build().html
    assert html == single_file.build.__wrapped__().html
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe" not in policy
    script = re.search(r'<script type="module">(.*)</script>', html, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert not re.search(r'(src|href)="(?!data:)', html)


def test_many_pictures_are_saved_in_one_file_for_each_case(visit, tmp_path, monkeypatch):
    """Here a case can hold two."""
    read = manifest.read
    monkeypatch.setattr(
        manifest, "read", lambda name: read(name).replace(b"CASE_MAX = 200", b"CASE_MAX = 2")
    )
    (tmp_path / "page.html").write_text(single_file.build.__wrapped__().html, encoding="utf-8")
    away = visit(arrive=False)
    away.page.goto((tmp_path / "page.html").as_uri())
    away.answer_questions()
    made = [*pictures(), file("a.png", png(blocks(300, 300))), file("b.png", png(rings(300, 300)))]
    away.choose([*made, file("c.png", png(waves(200, 300)))])
    away.press("continue")
    counts = []
    for number, press in ((1, "offline.save"), (2, "offline.more"), (3, "offline.more")):
        with away.page.expect_download() as download:
            away.press(press)
        away.sees("offline.part", number=number, all=3, most=2)
        items = AddItems.model_validate_json(Path(download.value.path()).read_bytes()).items
        counts.append(len(items))
    assert counts == [2, 2, 1]
    assert away.page.get_by_role("button", name=away.say("offline.more")).count() == 0
    assert away.errors == []
