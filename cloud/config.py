"""Configuration of the cloud's processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from pydantic_settings import SettingsConfigDict

from cloud.api.limits import ApiLimits
from common.config import Listen, ProcessConfig
from common.logs import LogFormat
from common.topics import Name

Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Trusted(_Table):
    """Public keys of others, pinned."""

    region_key: Path


class GateRules(_Table):
    """Thresholds of a release, on the evaluation summed over wristbands.

    `min_macro_f1` is over classes with at least `min_class_examples` examples; `max_loss` is how
    much accuracy or macro-F1 may fall below the model in service.
    """

    min_examples: Annotated[int, Field(ge=1)] = 1000
    min_devices: Annotated[int, Field(ge=1)] = 3
    min_class_examples: Annotated[int, Field(ge=1)] = 20
    min_accuracy: Share = 0.80
    min_macro_f1: Share = 0.50
    max_loss: Share = 0.02


class CloudConfig(ProcessConfig):
    """Everything that the daily job and the inference API read at start.

    `database` is a SQLAlchemy URL, by default an SQLite file in `pool_dir`.  With ``promotion =
    "by_person"`` the daily job registers a release, and ``python -m cloud promote NAME --by WHO``
    puts it into service.  `data` is the root of the ECG for the report.  `limits` are those of the API.
    """

    model_config = SettingsConfigDict(env_prefix="PULSERING_CLOUD_")

    region: Name
    mailbox: str = Field(min_length=1)
    pool_dir: Path
    state_dir: Path
    database: str = ""
    trusted: Trusted
    data: Path | None = None
    report: bool = True
    listen: Listen = "127.0.0.1:8080"
    limits: ApiLimits = ApiLimits()
    gate: GateRules = GateRules()
    promotion: Literal["automatic", "by_person"] = "automatic"
    profile: Literal["demo", "production"] = "demo"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: LogFormat = "console"

    @model_validator(mode="after")
    def _production(self) -> CloudConfig:
        if self.profile == "production" and self.promotion != "by_person":
            raise ValueError('promotion: the production profile needs "by_person"')
        return self

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the pool's database."""
        return self.database or f"sqlite:///{self.pool_dir.absolute() / 'pool.sqlite'}"
