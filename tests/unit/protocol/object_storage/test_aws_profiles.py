"""Profiles of `~/.aws`, which the store library does not read."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.object_storage import aws_profiles
from embedfleet.protocol.object_storage.aws_profiles import Profile


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = A\naws_secret_access_key = B\n"
        "[work]\naws_access_key_id = C\naws_secret_access_key = D\naws_session_token = E\n"
    )
    (tmp_path / "config").write_text(
        "[default]\nregion = eu-west-1\n[profile work]\nregion = eu-central-1\nendpoint_url = http://localhost:9000\n"
        "[profile login]\nsso_session = x\n"
    )
    return {
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
    }


def test_the_default_profile_has_the_keys_where_the_environment_has_none(environment: dict[str, str]) -> None:
    assert Profile(environment).keys() == {"access_key_id": "A", "secret_access_key": "B"}
    assert Profile(environment).settings()["region"] == "eu-west-1"
    assert Profile(environment | {"AWS_ACCESS_KEY_ID": "Z"}).keys() == {}


def test_a_named_profile_comes_before_the_environment(environment: dict[str, str]) -> None:
    named = Profile(environment | {"AWS_PROFILE": "work", "AWS_ACCESS_KEY_ID": "Z"})
    assert named.keys() == {"access_key_id": "C", "secret_access_key": "D", "session_token": "E"}
    assert named.settings()["endpoint_url"] == "http://localhost:9000"


def test_a_profile_that_is_not_there_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="AWS_PROFILE=other: no such profile"):
        Profile(environment | {"AWS_PROFILE": "other"}).settings()


def test_keys_that_have_to_be_fetched_need_boto3(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    login = Profile(environment | {"AWS_PROFILE": "login"})
    assert login.needs_more()
    monkeypatch.setattr(aws_profiles, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match="pip install boto3"):
        login.keys()
    monkeypatch.setattr(aws_profiles, "find_spec", lambda _name: object())
    assert login.keys() == {}


def test_without_files_there_is_nothing(tmp_path: Path) -> None:
    none = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "a"), "AWS_CONFIG_FILE": str(tmp_path / "b")}
    assert Profile(none).keys() == {}


def test_a_file_that_is_no_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("not a section\n")
    with pytest.raises(UsageError, match="config: cannot be read"):
        Profile({"AWS_CONFIG_FILE": str(tmp_path / "config")}).settings()
