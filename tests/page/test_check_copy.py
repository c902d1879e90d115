"""Whether a copy would be found, on the page."""

from PIL import Image
from skimage import data as photos

from nciihash.hashing.hasher import hash_bytes
from nciihash.wire import AddItems, ItemIn
from support.browsers.chosen_files import clip, encoded, file
from support.browsers.leaks import leaks


def test_a_copy_is_checked_without_sending_anything(visit, tmp_path):
    photo = Image.fromarray(photos.chelsea())
    screen = Image.new("RGB", (540, 960), "white")
    screen.paste(photo.resize((540, 359)), (0, 240))
    visitor = visit()
    visitor.answer_questions()
    visitor.choose([file("a.png", encoded(photo, "PNG")), clip()])
    visitor.press("continue")
    visitor.press("check.open")
    before = len(visitor.requests)
    page = visitor.page
    small = file("b.jpg", encoded(photo.resize((300, 200)), "JPEG", quality=60))
    other = file("c.png", encoded(Image.fromarray(photos.coffee()), "PNG"))
    for copy, number in ((small, 1), (file("d.png", encoded(screen, "PNG")), 1), (clip(), 2)):
        page.set_input_files("#copy", copy)
        visitor.at("check.found", level=2)
        visitor.sees("check.like", number=number)
        assert "would be found" in page.locator("#news").text_content()
    visitor.sees("check.moments", near=3, of=3)
    page.set_input_files("#copy", file("e.txt", b"Dear all, this is no picture."))
    visitor.sees("refused.not_picture")
    page.set_input_files("#copy", other)
    visitor.at("check.lost", level=2)
    visitor.press("check.add")
    visitor.sees("check.added")
    page.set_input_files("#copy", other)
    visitor.sees("check.like", number=3)
    assert [r.url for r in visitor.requests[before:] if not r.url.startswith("blob:")] == []
    visitor.press("back")
    visitor.sees("review.prints", count=3)

    # with saved fingerprints, without a case
    item = hash_bytes(small["buffer"], variants="standard")
    saved = tmp_path / "notes.json"
    saved.write_text(AddItems(items=(ItemIn.of(item),)).model_dump_json())
    visitor.arrive()
    visitor.press("check.open")
    page.set_input_files("#kept", file("x.json", b"{}"))
    visitor.sees("choose.not_saved")
    page.set_input_files("#kept", saved)
    page.set_input_files("#copy", file("f.png", encoded(screen, "PNG")))
    visitor.at("check.found", level=2)
    page.set_input_files("#copy", other)
    visitor.at("check.lost", level=2)
    assert page.get_by_role("button", name=visitor.say("check.add")).count() == 0
    assert leaks(visitor) == [f"request: {visitor.url}/"] * 2
