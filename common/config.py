"""Configuration of a process: one TOML file, environment on top, ``--set key=value`` on top of that.

Every fault stops the start with the keys named.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from common.errors import ConfigError


class ProcessConfig(BaseSettings):
    """Root of every process's configuration; subclasses set ``env_prefix``."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_nested_delimiter="__", env_prefix="PULSERING_"
    )

    @classmethod
    def load(cls, path: Path | None, overrides: Iterable[str] = ()) -> Self:
        """Read `path`, lay the environment over it, then `overrides` (``key.sub=value``).

        Raises
        ------
        ConfigError
            When the file cannot be read, or naming every key that is unknown or out of range.
        """
        file_values = read_toml(path) if path else {}
        set_values = parse_overrides(overrides)

        class Layered(cls):  # type: ignore[valid-type,misc]  # a subclass that knows its sources
            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,
                dotenv_settings: PydanticBaseSettingsSource,
                file_secret_settings: PydanticBaseSettingsSource,
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return (
                    InitSettingsSource(settings_cls, init_kwargs=set_values),
                    EnvSettingsSource(settings_cls),
                    InitSettingsSource(settings_cls, init_kwargs=file_values),
                )

        try:
            loaded: Self = Layered()
        except ValidationError as fault:
            raise ConfigError(f"{path or 'configuration'}: {_named(fault)}") from fault
        return loaded


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises
    ------
    ConfigError
        When it is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as fault:
        raise ConfigError(f"{path} does not exist") from fault
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError(f"{path} cannot be read: {fault}") from fault
    except tomllib.TOMLDecodeError as fault:
        raise ConfigError(f"{path} is no TOML: {fault}") from fault


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """Turn ``a.b=value`` into nested dictionaries; values are TOML, else plain text.

    >>> parse_overrides(["ring.timeout_s=5", "region=county"])
    {'ring': {'timeout_s': 5}, 'region': 'county'}
    """
    nested: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {override!r}: write key=value")
        *parents, leaf = key.strip().split(".")
        into = nested
        for parent in parents:
            into = into.setdefault(parent, {})
            if not isinstance(into, dict):
                raise ConfigError(f"--set {override!r}: {parent} has a value already")
        into[leaf] = _toml_value(text)
    return nested


def _toml_value(text: str) -> Any:  # noqa: ANN401 -- a TOML value is any of its types
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _in_words(kind: str, message: str) -> str:
    match kind:
        case "extra_forbidden":
            return "unknown key"
        case "missing":
            return "is missing"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "should be a table"
        case _:
            return message.removeprefix("Value error, ")


def _named(fault: ValidationError) -> str:
    parts = []
    for error in fault.errors(include_url=False, include_input=False):
        key = ".".join(str(part) for part in error["loc"]) or "(whole)"
        message = _in_words(error["type"], error["msg"])
        parts.append(f"{key}: {message}")
    return "; ".join(parts)


def _loopback_or_address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("write host:port, such as 127.0.0.1:8080 (port 0 picks a free one)")
    return value


Listen = Annotated[str, AfterValidator(_loopback_or_address)]
"""``host:port`` that a server listens on; port 0 picks a free one."""


def split_listen(listen: str) -> tuple[str, int]:
    """Host and port of a `Listen` value."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def environment_without_secrets(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """A child's environment: ours, without variables that PulseRing or Horovod would read."""
    source = os.environ if environment is None else environment
    return {
        key: value
        for key, value in source.items()
        if not key.startswith(("HOROVOD_", "PULSERING_EDGE_", "PULSERING_REGIONAL_"))
    }
