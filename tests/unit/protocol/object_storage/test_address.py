"""Addresses: what they name, and what they may not hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.protocol.errors import SourceError, UsageError
from embedfleet.protocol.object_storage.address import Address, is_address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://bucket/a/b.jsonl", Address("s3", "bucket", "a/b.jsonl")),
        ("S3://bucket/a/", Address("s3", "bucket", "a")),
        ("gs://bucket", Address("gs", "bucket", "")),
        ("az://box/x", Address("az", "box", "x")),
        ("https://host:8443/a%20b/c.parquet", Address("https", "host:8443", "a b/c.parquet")),
        ("hf://datasets/owner/name/data", Address("hf", "datasets/owner/name", "data")),
        ("hf://datasets/owner/name@v1/data/a.jsonl", Address("hf", "datasets/owner/name@v1", "data/a.jsonl")),
    ],
)
def test_an_address_has_a_place_and_a_key(text: str, address: Address) -> None:
    assert is_address(text)
    assert parse_address(text, "source") == address


def test_a_path_that_lost_a_slash_is_the_same_address() -> None:
    assert parse_address(Path("s3://bucket/a"), "source") == parse_address("s3://bucket/a", "source")
    assert str(parse_address(Path("s3://bucket/a"), "source")) == "s3://bucket/a"


@pytest.mark.parametrize("path", ["a.jsonl", "/s3:/x", "./s3:/x", "ftp://host/x", "C:/x", "", "-", 7, b"s3://x"])
def test_all_else_is_a_path_here(path: object) -> None:
    assert not is_address(path)  # pyright: ignore[reportArgumentType]


def test_below_an_address() -> None:
    assert str(Address("s3", "b", "x").below("y/z")) == "s3://b/x/y/z"
    assert str(Address("s3", "b", "").below("y")) == "s3://b/y"
    assert Address("s3", "b", "x/y").name == "y"
    assert Address("s3", "b", "").name == "b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://user:secret@host/a.jsonl", "leave user and password out"),
        ("s3://key:secret@bucket/a", "leave user and password out"),
        ("https://host/a.jsonl?X-Amz-Signature=secret", r"what follows the \? may hold a key"),
        ("s3:///key", "names no bucket"),
        ("hf://datasets/owner", "give hf://datasets/OWNER/NAME/PATH"),
        ("hf://owner/name/a.jsonl", "give hf://datasets/OWNER/NAME/PATH"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_secrets(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as refused:
        parse_address(text, "source", SourceError)
    assert "secret" not in str(refused.value)
    assert str(refused.value).startswith("source ")


def test_the_error_is_of_the_kind_that_is_asked_for() -> None:
    with pytest.raises(UsageError, match="give an address"):
        parse_address("x", "--out")
