"""The passage of a text that a hit shows."""

from __future__ import annotations

import pytest
from embedfleet.client.output.passage import QueryWords, english_stem, find_passage

STOP_WORDS = {"the", "of", "a", "is", "what"}


def stem(word: str) -> int | None:
    """Words without their endings; stop words are none."""
    return None if word in STOP_WORDS else hash(word.removesuffix("s").removesuffix("ing"))


def marked(query: str, text: str) -> list[str]:
    return [text[one.start : one.end] for one in QueryWords(query, stem).marks(text)]


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ("lease", "a LEASE, leases and leasing; released", ["LEASE", "leases"]),
        ("what is the lease of a worker", "the worker of the lease", ["worker", "lease"]),
        ("what is the", "What the is", ["What", "the", "is"]),
        ("Café", "CAFE cafe\u0301 cafés caffe", ["CAFE", "cafe", "cafés"]),
        ("strasse", "Straße", ["Straße"]),
        ("system version", "get_system_versions() or system-version", ["system", "versions", "system", "version"]),
        ("東京", "東京 is 東京", ["東京", "東京"]),
        ("?!", "nothing", []),
        ("x" * 500, f"{'x' * 500} {'x' * 501}", ["x" * 500]),
    ],
)
def test_the_words_of_a_query_in_any_case_form_and_with_or_without_accents(
    query: str, text: str, expected: list[str]
) -> None:
    assert marked(query, text) == expected


def test_forms_of_one_stem_are_one_word() -> None:
    words = {one.word for one in QueryWords("lease leases worker", stem).marks("leases lease worker workers")}
    assert len(words) == 2


def test_the_stems_are_those_of_bm25() -> None:
    pytest.importorskip("qdrant_edge")
    words = QueryWords("the parsing of options", english_stem())
    text = "The parser parses an option of the command; parsed options"
    assert [text[one.start : one.end] for one in words.marks(text)] == ["parses", "option", "parsed", "options"]


FILLER = " ".join(f"filler{number}" for number in range(200))


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_the_passage_is_where_most_of_the_words_are(place: int) -> None:
    parts = [f"lease {FILLER}", f"{FILLER} lease lease", f"worker {FILLER}"]
    parts.insert(place, "so the lease of a worker ends here")
    found = find_passage(" \n ".join(parts), QueryWords("worker lease ends", stem), 100)
    assert "lease of a worker ends here" in found.text
    assert len(found.text) <= 100 + len("…  …")
    assert "\n" not in found.text
    assert {found.text[one.start : one.end] for one in found.marks} >= {"lease", "worker", "ends"}
    assert (found.text.startswith("… "), found.text.endswith(" …")) == (place > 0, place < 3)


def test_of_equal_places_the_one_with_more_marks_is_shown_and_of_these_the_first() -> None:
    words = QueryWords("lease", stem)
    assert "first lease" in find_passage(f"{FILLER} first lease {FILLER} second lease {FILLER}", words, 60).text
    assert "b leases" in find_passage(f"{FILLER} a lease {FILLER} b leases lease {FILLER}", words, 60).text


def test_without_a_word_of_the_query_it_is_the_beginning() -> None:
    found = find_passage(FILLER, QueryWords("nothing of it", stem), 50)
    assert found.text.startswith("filler0 filler1")
    assert found.text.endswith(" …")
    assert found.marks == []
    assert find_passage("all of it", QueryWords("x", stem), 50).text == "all of it"
    assert find_passage("", QueryWords("x", stem), 50) == ("", [])


def test_words_are_not_cut_and_every_mark_is_within() -> None:
    text = f"{FILLER} worker {FILLER}"
    words = QueryWords("worker filler7 filler9", stem)
    for size in range(10, 400, 7):
        found = find_passage(text, words, size)
        inner = found.text.removeprefix("… ").removesuffix(" …")
        assert inner in text
        assert all(found.text[one.start : one.end] in ("worker", "filler7", "filler9") for one in found.marks)
        if size > 20:
            assert set(inner.split()) <= set(text.split())


def test_a_text_without_blanks_and_a_word_longer_than_the_passage() -> None:
    found = find_passage("y" * 1000, QueryWords("z", stem), 100)
    assert found.text == "y" * 100 + " …"
    found = find_passage(f"{FILLER} {'z' * 300} {FILLER}", QueryWords("z" * 300, stem), 100)
    assert "z" in found.text
    assert found.marks == []
