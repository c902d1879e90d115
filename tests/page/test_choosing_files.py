"""The screen on which files are chosen: equal files, and many."""

import numpy as np

from golden.pictures import rings, waves
from support.browsers.chosen_files import pictures, png


def test_one_of_two_equal_pictures_stays_if_the_other_is_removed(visit):
    visitor = visit()
    visitor.answer_questions()
    picture = pictures()[0]
    visitor.choose([picture, picture | {"name": "a copy.png"}, pictures()[1]])
    visitor.sees("refused.twice", number=1)
    visitor.press("file.remove", number=1)
    assert visitor.page.get_by_text(visitor.say("file.ready"), exact=True).count() == 2
    assert visitor.page.get_by_text(visitor.say("refused.twice", number=1)).count() == 0


def test_many_files_at_once_leave_the_page_responsive(visit, tmp_path):
    """A timer keeps running while 200 files are hashed; only a frozen page fails this."""
    visitor = visit()
    visitor.answer_questions()
    page = visitor.page
    page.evaluate(
        "() => { globalThis.worst = 0; let last = performance.now(); setInterval(() => {"
        " const now = performance.now(); worst = Math.max(worst, now - last); last = now; }, 20); }"
    )
    rng = np.random.default_rng(5)
    wave, ring = waves(150, 200) // 2, rings(355, 200) // 2
    files = []
    for n in range(205):
        rgb = np.roll(wave, tuple(rng.integers(0, 150, 2)), axis=(0, 1))
        path = tmp_path / f"{n}.png"
        path.write_bytes(png(rgb + ring[n : n + 150], compress_level=1))
        files.append(path)
    page.set_input_files("#files", files)
    page.locator("button.main:enabled").wait_for(timeout=300_000)
    assert page.locator(".files li").count() == 200
    visitor.sees("choose.too_many", most=200)
    assert page.evaluate("worst") < 1500
