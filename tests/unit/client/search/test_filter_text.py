from __future__ import annotations

import pytest
from embedfleet.client.search.filter_keys import plain_filters
from embedfleet.client.search.filter_text import split_filters
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.index.metadata_filter import MetadataFilter


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("a=b", "a", ("b",)),
        ("a=b=c", "a", ("b=c",)),
        ('"a=b"=x', '"a=b"', ("x",)),
        ('x."a=b".c="q"', 'x."a=b".c', ('"q"',)),
        ('title="x=y"', "title", ('"x=y"',)),
        ("empty=", "empty", ("",)),
        (" a =b ", "a", ("b ",)),
        ("a=two\nlines", "a", ("two\nlines",)),
        ('""=x', '""', ("x",)),
        ("a=" + "9" * 5000, "a", ("9" * 5000,)),
        ("lang=de|en", "lang", ("de", "en")),
        ("lang=de|", "lang", ("de", "")),
        (r"title=a\|b|c", "title", ("a|b", "c")),
        (r"path=C:\dir", "path", (r"C:\dir",)),
        ("op=>", "op", (">",)),
        ("op=a>=b", "op", ("a>=b",)),
        ('"a>b"=x', '"a>b"', ("x",)),
    ],
)
def test_a_filter_is_cut_at_the_first_sign_outside_of_quotes(text: str, key: str, values: tuple[str, ...]) -> None:
    assert split_filters([text]) == [MetadataFilter(key, values)]


@pytest.mark.parametrize(
    ("text", "key", "relation", "bound"),
    [
        ("words>100", "words", ">", "100"),
        ("words >= 100 ", "words", ">=", "100"),
        ("words<-1.5e3", "words", "<", "-1.5e3"),
        ("words<=100", "words", "<=", "100"),
        ("date>=2024-01", "date", ">=", "2024-01"),
        ("date<2024-01-31T10:00Z", "date", "<", "2024-01-31T10:00Z"),
        ('meta."a=b">3', 'meta."a=b"', ">", "3"),
    ],
)
def test_a_range_has_a_number_or_a_date(text: str, key: str, relation: str, bound: str) -> None:
    (found,) = split_filters([text])
    assert (found.key, found.relation, found.values) == (key, relation, (bound,))


@pytest.mark.parametrize("text", ["a", "", "=x", " =x", ">5", '"a=b', 'a"b=c', "9" * 5000])
def test_what_is_no_filter_names_the_flag(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"--filter .*: give KEY=VALUE, as in --filter module=json; or a range, in quotes"
    ) as caught:
        split_filters([text])
    assert len(str(caught.value)) < 300
    assert ("double quotes" in str(caught.value)) == ('"' in text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("words>", "texts are compared by = alone"),
        ("words>many", "texts are compared by = alone"),
        ("name>=m", "texts are compared by = alone"),
        ("date<2024-13", "texts are compared by = alone"),
        ("words>1e999", "texts are compared by = alone"),
        ("words>nan", "texts are compared by = alone"),
        ("words>==3", "texts are compared by = alone"),
        ("words>100|200", "a range has one bound"),
    ],
)
def test_a_bound_that_is_none_is_refused_with_the_remedy(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_filters(["lang=de", text])
    said = str(caught.value)
    assert said.startswith(f"--filter {text!r}: give a number or a date after ")
    assert said.endswith(why)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("words=>10", r"the relations are =, >, >=, < and <=; put a backslash before .* as in 'words=\\>10'"),
        ("words==10", "the relations are"),
        ("lang!=en", "no filter leaves chunks out; give KEY=VALUE, or KEY=A|B"),
        ("words>=10,lang=en", "give each filter a --filter of its own"),
    ],
)
def test_relations_that_there_are_not_are_named(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason.replace("A|B", r"A\|B")):
        split_filters([text])


def test_a_value_may_begin_with_the_sign_of_a_relation() -> None:
    (found,) = split_filters([r"op=\>="])
    assert found.values == (">=",)


def test_a_range_from_python_needs_a_bound_as_a_typed_one() -> None:
    for values in (("soon",), ("1", "2")):
        with pytest.raises(UsageError, match="give a number or a date after >="):
            plain_filters([MetadataFilter("words", values, ">=")])
