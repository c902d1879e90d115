"""The catalogues of the page: complete, used, plain and calm."""

import re

import pytest

from support.browsers.visitor import LANGUAGES, catalogue
from support.paths import SITE


def test_every_catalogue_has_every_text():
    english = catalogue("en")
    placeholders = {key: sorted(re.findall(r"\{\w+\}", text)) for key, text in english.items()}
    for language in LANGUAGES:
        words = catalogue(language)
        assert list(words) == list(english), language
        for key, text in words.items():
            assert text.strip(), (language, key)
            assert sorted(re.findall(r"\{\w+\}", text)) == placeholders[key], (language, key)
        if language != "en":
            # only a person who speaks the language may set it to `checked`
            assert words["_status"] in {"machine", "checked"}, language
            same = [k for k in english if words[k] == english[k] and k not in {"_status"}]
            assert len(same) <= 4, (language, same)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_passphrase_has_one_name(language):
    words = catalogue(language)
    assert words["receipt.passphrase"].lower() in words["claim.what"].lower()


def test_every_text_is_used_and_every_used_text_exists():
    source = "\n".join(p.read_text(encoding="utf-8") for p in SITE.rglob("*.js"))
    english = catalogue("en")
    keys = set(re.findall(r'say\(\s*"([\w.]+)"', source))
    assert keys <= set(english)
    quoted = set(re.findall(r'"([\w.]+)"', source))
    families = ("refused.", "error.", "reason.", "verdict.", "media.", "status.", "withdraw.")
    questions = {f"{q}.{part}" for q in ("adult", "depicted", "having", "reason")
                 for part in ("title", "hint", "yes", "no")}  # fmt: skip
    endings = {f"{e}.title" for e in ("under18", "else", "without")}
    unused = [
        key
        for key in english
        if key not in quoted | questions | endings | {"_status"} and not key.startswith(families)
    ]
    assert unused == []


def test_the_english_is_calm_and_plain():
    text = " ".join(v for k, v in catalogue("en").items() if k != "_status")
    assert "!" not in text
    assert not re.search(
        r"\b(hash|victim|upload your|algorithm|perceptual|abus\w+|porn)\b", text, re.I
    )


def syllables(word):
    groups = len(re.findall(r"[aeiouy]+", word.lower()))
    return max(1, groups - (groups > 1 and word.endswith("e") and not word.endswith("le")))


def test_the_english_can_be_read_by_children_of_ten():
    """The Flesch-Kincaid grade of all whole sentences, which was 3.3 when it was measured."""
    whole = [text for key, text in catalogue("en").items() if key != "_status" and text[-1] in ".?"]
    text = " ".join(re.sub(r"\{\w+\}", "one", part) for part in whole)
    words = re.findall(r"[A-Za-z\u2019]+", text)
    sentences = re.findall(r"[^.?:…]+[.?:…](?=\s|$)", text)
    grade = 0.39 * len(words) / len(sentences)
    grade += 11.8 * sum(map(syllables, words)) / len(words) - 15.59
    assert len(words) > 1000
    assert grade < 4.5
