"""Stores are opened by what the environment says; what is missing is named."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.object_storage import stores
from embedfleet.protocol.object_storage.address import Address
from embedfleet.protocol.object_storage.stores import endpoint_of, open_store


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith(("AWS_", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    stores._opened.cache_clear()
    yield
    stores._opened.cache_clear()


def test_without_the_extra_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "find_spec", lambda _name: None)
    with pytest.raises(
        UsageError, match=r"s3://box/a: object storage needs obstore: pip install 'embedfleet\[remote\]'"
    ):
        open_store(Address("s3", "box", "a"))


def test_without_keys_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="s3://box: no keys were found; set AWS_ACCESS_KEY_ID"):
        open_store(Address("s3", "box", "a"))
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    assert open_store(Address("s3", "box", "a")).config["skip_signature"]


def test_keys_of_the_environment_stay_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9000")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    store = open_store(Address("s3", "box", "a"))
    assert store.config["endpoint"] == "http://localhost:9000"
    assert store.config["region"] == "eu-west-3"
    assert store is open_store(Address("s3", "box", "b"))
    assert endpoint_of(Address("s3", "box", "a")) == "localhost:9000"


def test_servers_have_names() -> None:
    assert endpoint_of(Address("s3", "box", "")) == "S3"
    assert endpoint_of(Address("https", "host:1", "a")) == "host:1"
    assert endpoint_of(Address("hf", "datasets/a/b", "")) == "huggingface.co"
    assert endpoint_of(Address("az", "box", "")) == "Azure Blob Storage"
    assert endpoint_of(Address("gs", "box", "")) == "Google Cloud Storage"
