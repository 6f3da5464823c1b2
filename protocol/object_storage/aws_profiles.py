"""Keys and settings of a profile in `~/.aws`, which the store library does not read itself."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from ..errors import UsageError

KEYS_OF_ENVIRONMENT = (
    *("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)
"""Any of them means that the library finds keys without a profile."""
_FIELDS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}
_NEEDS_MORE = ("role_arn", "sso_session", "sso_start_url", "credential_process")
"""Fields of profiles whose keys have to be fetched: by boto3, if it is installed."""


class Profile:
    """The profile that AWS_PROFILE names, or `default`. `is_named` if the environment names it."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        named = self._environment.get("AWS_PROFILE") or self._environment.get("AWS_DEFAULT_PROFILE")
        self.name, self.is_named = named or "default", bool(named)

    def settings(self) -> dict[str, str]:
        """The profile's settings in the two files, the credentials file first. UsageError if neither has a named profile."""
        config = self._section(
            "AWS_CONFIG_FILE", "config", self.name if self.name == "default" else f"profile {self.name}"
        )
        keys = self._section("AWS_SHARED_CREDENTIALS_FILE", "credentials", self.name)
        if self.is_named and config is None and keys is None:
            raise UsageError(f"AWS_PROFILE={self.name}: no such profile in ~/.aws; name one that is there, or unset it")
        return (config or {}) | (keys or {})

    def keys(self) -> dict[str, str]:
        """The keys of the profile, named as the library names them; empty if the environment has keys or the profile none."""
        if not self.is_named and any(self._environment.get(name) for name in KEYS_OF_ENVIRONMENT):
            return {}
        found = self.settings()
        keys = {ours: found[theirs] for theirs, ours in _FIELDS.items() if theirs in found}
        if "access_key_id" in keys or not self.needs_more():
            return keys
        if find_spec("boto3") is None:
            raise UsageError(
                f"AWS_PROFILE={self.name}: its keys are fetched by a role, a login or a program; pip install boto3, or set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        return {}

    def needs_more(self) -> bool:
        """Whether the keys of the profile have to be fetched."""
        return any(name in self.settings() for name in _NEEDS_MORE)

    def _section(self, variable: str, file: str, section: str) -> dict[str, str] | None:
        path = Path(self._environment.get(variable) or Path("~/.aws") / file).expanduser()
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError) as error:
            raise UsageError(
                f"{path}: cannot be read ({type(error).__name__}); correct it, or unset {variable}"
            ) from None
        return dict(parser.items(section)) if parser.has_section(section) else None
