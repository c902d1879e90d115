"""A browser whose canvas returns altered pixels, such as Tor Browser."""

from PIL import Image
from skimage import data as photos

from nciihash.hashing.hasher import hash_bytes
from support.browsers.chosen_files import clip, encoded, file
from support.hashes import bits_apart, by_python, fingerprints, frames_of

ALTERED = """
const real = OffscreenCanvasRenderingContext2D.prototype.getImageData;
OffscreenCanvasRenderingContext2D.prototype.getImageData = function (...area) {
  const got = real.apply(this, area);
  for (let n = 0; n < got.data.length; n++) got.data[n] = (n * 2654435761) >>> 24;
  return got;
};
"""


def test_a_canvas_that_alters_pixels_is_not_used(visit):
    """As in Tor Browser: JPEG and PNG still work, other kinds are refused with a reason."""
    visitor = visit(arrive=False)

    def alter(route):
        reply = route.fetch()
        route.fulfill(response=reply, body=ALTERED + reply.text())

    visitor.page.route("**/page/worker/worker.js", alter)
    visitor.arrive()
    photo = Image.fromarray(photos.astronaut())
    for image_format in ("JPEG", "PNG"):
        data = encoded(photo, image_format)
        (got,) = fingerprints(visitor.page, [data])
        assert bits_apart(got["found"]["pdq"], by_python(data)[0]) <= 2
    webp = encoded(photo, "WEBP")
    refused, seen = fingerprints(visitor.page, [webp, clip()["buffer"]])
    assert refused == {"code": "blocked"}
    wanted = hash_bytes(clip()["buffer"]).hashes
    values = frames_of(seen["found"]["signals"])  # straight from the player, without a canvas
    assert max(bits_apart(a, h.signal.hex) for a, h in zip(values, wanted, strict=True)) <= 2
    visitor.page.evaluate("delete globalThis.VideoFrame")
    assert fingerprints(visitor.page, [clip()["buffer"]]) == [{"code": "hidden"}]
    visitor.answer_questions()
    visitor.page.set_input_files("#files", [file("a.webp", webp)])
    visitor.sees("refused.blocked")


def test_a_canvas_that_alters_pixels_only_after_its_check_is_detected(visit):
    visitor = visit(arrive=False)
    altered_later = ALTERED.replace("for (let n", "if (area[2] !== 64) for (let n")

    def alter(route):
        reply = route.fetch()
        route.fulfill(response=reply, body=altered_later + reply.text())

    visitor.page.route("**/page/worker/worker.js", alter)
    visitor.arrive()
    data = encoded(Image.fromarray(photos.astronaut()), "JPEG")
    (got,) = fingerprints(visitor.page, [data])
    assert bits_apart(got["found"]["pdq"], by_python(data)[0]) <= 2
