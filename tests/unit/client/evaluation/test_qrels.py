from __future__ import annotations

import pytest
from embedfleet.client.evaluation.qrels import read_qrels
from embedfleet.protocol.errors import SourceError

EXPECTED = {"q 1": {"c1": 2, "c2": 0}, "q2": {"c1": 1}}


def written(tmp_path, text):
    path = tmp_path / "qrels"
    path.write_text(text)
    return path


def test_beir(tmp_path):
    text = "query-id\tcorpus-id\tscore\nq 1\tc1\t2\nq 1\tc2\t0\n\nq2\tc1\t1\n"
    assert read_qrels(written(tmp_path, text)) == EXPECTED


@pytest.mark.parametrize("blank", [" ", "\t", "   "])
def test_trec(tmp_path, blank):
    lines = [("q1", "0", "c1", "2"), ("q2", "0", "c1", "-1")]
    text = "".join(blank.join(line) + "\n" for line in lines)
    assert read_qrels(written(tmp_path, text)) == {"q1": {"c1": 2}, "q2": {"c1": -1}}


def test_ids_with_blanks_between_tabs(tmp_path):
    """As many fields as the tabs say; a tab too many, before or behind, is no field."""
    assert read_qrels(written(tmp_path, "q 1\t0\tc 1\t2\n")) == {"q 1": {"c 1": 2}}
    assert read_qrels(written(tmp_path, "q 1\tc 1\t2\t\n")) == {"q 1": {"c 1": 2}}
    assert read_qrels(written(tmp_path, "q1\t\tc1\t2\nq2\tc1\t1\n")) == {"q1": {"c1": 2}, "q2": {"c1": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q1\tc1\tyes\n", "line 1: the score 'yes' is not a whole number"),
        ("q1\tc1\t1\nq1\tc2\t1_0\n", "line 2: the score '1_0' is not a whole number"),
        ("q1\tc1\t\uff11\n", "line 1: the score '\uff11' is not a whole number"),
        ("query-id\tcorpus-id\tscore\nq1 c1\n", "line 2: 2 fields; give `query-id corpus-id score`"),
        ("q1 0 c1 1\n\nq1\tc2\t1\n", "line 3: 3 fields, line 1 had 4; give one form throughout"),
        ("query-id\tcorpus-id\tscore\nq1\tc1\t1\nq1 0 c2 1\n", "line 3: 4 fields, line 2 had 3"),
        ("q1\tc1\t1\nq1\tc1\t2\n", "line 2: q1 and c1 were judged 1 before, 2 here"),
        ("query-id\tcorpus-id\tscore\n", "there is no judgement in it"),
    ],
)
def test_what_is_no_judgement_is_named(tmp_path, text, message):
    with pytest.raises(SourceError) as caught:
        read_qrels(written(tmp_path, text))
    assert message in str(caught.value)


@pytest.mark.parametrize("score", [10**6 + 1, -(10**6) - 1, 10**20])
def test_a_score_beyond_the_bound_is_named(tmp_path, score):
    path = written(tmp_path, f"q1\tc1\t{10**6}\nq1\tc2\t{-(10**6)}\nq2\tc1\t{score}\n")
    with pytest.raises(SourceError, match=rf"--qrels {path}, line 3: the score {score} is too large; give at most 1,0"):
        read_qrels(path)


@pytest.mark.parametrize("line", ["q1 0 c1 2\n", "q1\tc1\t2\n", "query-id\tcorpus-id\tscore\nq1\tc1\t2\n"])
def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path, line):
    path = tmp_path / "qrels"
    path.write_bytes(b"\xef\xbb\xbf" + line.encode())
    assert read_qrels(path) == {"q1": {"c1": 2}}


@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\x0b", "\x1c", "\xa0"])
@pytest.mark.parametrize("form", ["{query}\t{chunk}\t1{end}", "{query} 0 {chunk} 1{end}"])
def test_ids_may_hold_what_looks_like_the_end_of_a_line(tmp_path, sign, form):
    path = tmp_path / "qrels"
    path.write_bytes(
        "".join(form.format(query=f"q{sign}1", chunk=f"c{sign}", end=end) for end in ("\r\n", "\n")).encode()
    )
    assert read_qrels(path) == {f"q{sign}1": {f"c{sign}": 1}}


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "qrels"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(SourceError, match="cannot be read"):
        read_qrels(path)
