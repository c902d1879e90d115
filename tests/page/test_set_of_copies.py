"""The choice between the sets of altered copies, which holds for all pictures that are chosen."""

import json
from functools import cache

import pytest
from skimage import data as photos

from clearinghouse.page import single_file
from golden.pictures import blocks
from nciihash.hashing.hasher import hash_bytes
from nciihash.signals import SUBMITTED
from nciihash.wire import AddItems, OpenCase
from support.browsers.chosen_files import clip, file, pictures, png

BOTH = ("standard", "thorough")
ONLY_STANDARD = {"top04", "bottom09", "border07-white", "border10-black", "pad4x3-black"}
ONLY_THOROUGH = {"top-left", "left-half", "inner01", "inner10"}


@cache
def chosen():
    """Return photos as PNG files, from which the page and Python read the same pixels."""
    named = {"a.png": photos.coffee(), "b.png": photos.astronaut(), "c.png": photos.chelsea()}
    return tuple(file(name, png(rgb), "image/png") for name, rgb in named.items())


@cache
def by_python(data, which):
    made = hash_bytes(data, variants=which).hashes
    return [(h.variant.value, h.signal.hex, h.quality) for h in made if not h.plain]


def assert_set(items, files, which):
    found = [[(s.variant, s.value, s.quality) for s in item.signals] for item in items]
    assert found == [by_python(each["buffer"], which) for each in files]


def sent(visitor, address="**/v1/cases", body=OpenCase):
    """Send what was chosen and return the items of the request."""
    visitor.press("continue")
    with visitor.page.expect_request(address) as request:
        visitor.press("review.send")
    return body.model_validate_json(request.value.post_data_buffer).items


def test_the_two_sets_differ():
    for each in chosen():
        names = [{name for name, *_ in by_python(each["buffer"], which)} for which in BOTH]
        assert names[0] & ONLY_STANDARD
        assert not names[0] & ONLY_THOROUGH
        assert names[1] & ONLY_THOROUGH
        assert not names[1] & ONLY_STANDARD


def test_the_standard_set_is_sent_unless_she_chooses(visit):
    visitor = visit()
    visitor.answer_questions()
    assert not visitor.box("choose.parts").is_checked()
    visitor.choose(list(chosen()))
    assert not visitor.box("choose.parts").is_checked()
    assert SUBMITTED == "standard"
    assert_set(sent(visitor), chosen(), "standard")


def test_the_thorough_set_is_sent_for_all_files(visit):
    """Also for those that are chosen later."""
    visitor = visit()
    visitor.answer_questions()
    visitor.box("choose.parts").check()
    visitor.choose(list(chosen()[:1]))
    visitor.choose(list(chosen()[1:]))
    assert visitor.box("choose.parts").is_checked()
    assert_set(sent(visitor), chosen(), "thorough")
    assert visitor.errors == []
    assert visitor.notes() == []


@pytest.mark.parametrize("which", BOTH)
def test_pictures_are_hashed_again_when_the_choice_changes(visit, which):
    visitor = visit()
    visitor.answer_questions()
    visitor.choose(list(chosen()))
    visitor.box("choose.parts").check()
    visitor.page.locator("button.main:enabled").wait_for()
    if which == "standard":
        visitor.box("choose.parts").uncheck()
        visitor.page.locator("button.main:enabled").wait_for()
    assert_set(sent(visitor), chosen(), which)


def test_a_choice_while_files_are_hashed_is_for_all_of_them(visit):
    visitor = visit()
    visitor.answer_questions()
    visitor.page.set_input_files("#files", list(chosen()))
    for press in ("check", "uncheck", "check"):
        getattr(visitor.box("choose.parts"), press)()
    visitor.page.locator("button.main:enabled").wait_for()
    assert_set(sent(visitor), chosen(), "thorough")


def test_a_copy_of_a_picture_stays_a_copy(visit):
    visitor = visit()
    visitor.answer_questions()
    picture = chosen()[0]
    visitor.choose([picture, picture | {"name": "again.png"}])
    visitor.box("choose.parts").check()
    visitor.page.locator("button.main:enabled").wait_for()
    visitor.sees("refused.twice", number=1)
    visitor.press("file.remove", number=1)
    visitor.page.locator("button.main:enabled").wait_for()
    assert_set(sent(visitor), [picture], "thorough")


def test_the_moments_of_a_video_have_the_standard_set(visit):
    values = []
    for tick in (False, True):
        visitor = visit()
        visitor.answer_questions()
        visitor.box("choose.parts").set_checked(tick)
        visitor.choose([clip()])
        (video,) = sent(visitor)
        assert video.media == "video"
        assert not {signal.variant for signal in video.signals} & ONLY_THOROUGH
        values.append([signal.value for signal in video.signals])
    assert values[0] == values[1]


def test_the_choice_is_offered_for_files_that_are_added_to_a_case(visit):
    visitor = visit()
    secret = visitor.open_case(pictures()[:1])
    visitor.press("receipt.done")
    visitor.press("next.finish")
    visitor.sign_in(*secret)
    visitor.press("status.add")
    visitor.at("choose.more")
    assert not visitor.box("choose.parts").is_checked()
    visitor.box("choose.parts").check()
    visitor.choose(list(chosen()))
    assert_set(sent(visitor, "**/v1/case/items", AddItems), chosen(), "thorough")


def test_a_copy_that_is_added_has_the_chosen_set(visit):
    """One that was checked before the choice changed is not added as it was."""
    visitor = visit()
    visitor.answer_questions()
    visitor.box("choose.parts").check()
    visitor.choose(list(chosen()[:1]))
    visitor.press("continue")
    visitor.press("check.open")
    other = file("x.png", png(blocks(300, 400)))
    visitor.page.set_input_files("#copy", other)
    visitor.at("check.lost", level=2)
    visitor.press("back")
    visitor.press("back")
    visitor.box("choose.parts").uncheck()
    visitor.page.locator("button.main:enabled").wait_for()
    visitor.press("continue")
    visitor.press("check.open")
    assert visitor.page.get_by_role("heading", name=visitor.say("check.lost")).count() == 0
    visitor.page.set_input_files("#copy", other)
    visitor.press("check.add")
    visitor.press("back")
    visitor.press("back")
    visitor.box("choose.parts").check()
    visitor.page.locator("button.main:enabled").wait_for()
    assert_set(sent(visitor), [chosen()[0], other], "thorough")


def test_the_choice_is_not_kept(visit):
    visitor = visit()
    before = visitor.stored()
    visitor.answer_questions()
    visitor.box("choose.parts").check()
    assert visitor.stored() == before
    visitor.press("back")
    visitor.press("back")
    for key in ("back", "back", "back"):
        visitor.press(key)
    visitor.answer_questions()
    assert not visitor.box("choose.parts").is_checked()


def test_the_choice_works_without_internet(visit, tmp_path):
    (tmp_path / "page.html").write_text(single_file.build().html, encoding="utf-8")
    away = visit(arrive=False)
    away.page.context.set_offline(True)
    away.page.goto((tmp_path / "page.html").as_uri())
    away.answer_questions()
    away.box("choose.parts").check()
    away.choose(list(chosen()))
    away.press("continue")
    with away.page.expect_download() as download:
        away.press("offline.save")
    path = tmp_path / "notes.json"
    download.value.save_as(path)
    items = AddItems.model_validate_json(path.read_bytes()).items
    assert_set(items, chosen(), "thorough")

    visitor = visit()
    visitor.answer_questions()
    visitor.page.set_input_files("#saved", path)
    visitor.page.locator("button.main:enabled").wait_for()
    assert_set(sent(visitor), chosen(), "thorough")
    assert json.loads(path.read_text()).keys() == {"items"}


def test_the_choice_by_keyboard(visit):
    """The space bar changes it, and the focus stays on it; its price is its description."""
    visitor = visit()
    visitor.answer_questions()
    visitor.choose(pictures()[:1])
    page = visitor.page
    box = visitor.box("choose.parts")
    for _ in range(20):
        page.keyboard.press("Tab")
        if box.evaluate("e => e === document.activeElement"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    for checked in (True, False):
        page.keyboard.press("Space")
        assert box.is_checked() == checked
        assert box.evaluate("e => e === document.activeElement")
    description = "document.getElementById(e.getAttribute('aria-describedby')).textContent"
    assert box.evaluate(f"e => {description}") == visitor.say("choose.parts_what")
