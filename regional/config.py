"""Configuration of a region's coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from pydantic_settings import SettingsConfigDict

from common.config import Listen, ProcessConfig
from common.link import BrokerAddress
from common.logs import LogFormat
from common.messages import (
    MAX_STALENESS,
    Fraction,
    HospitalRule,
    Positive,
    RobustRule,
    ScreenRule,
    ServerRule,
)
from common.topics import RESERVED_HOSPITALS, Name

NonNegative = Annotated[FiniteFloat, Field(ge=0)]
Seconds = Annotated[FiniteFloat, Field(gt=0, le=7 * 24 * 3600)]
NumRounds = Annotated[int, Field(ge=1, le=10_000)]
PRODUCTION_QUORUM = 3
MAX_MEAN_OF = 64
PRODUCTION_MIN_DEVICES = 5
ANY_DIRECTION = -1.0


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Hospital(_Table):
    """A hospital of the roster: `key` is the path of its ``signing.pub``."""

    key: Path


class RoundsConfig(_Table):
    """How many rounds a day has and how long each step may take, in seconds.

    `rounds_per_day` counts committed training rounds; of a list, the last number holds for all
    later days.  ``num_days = 0`` goes on for ever.  `rejoin_s` is how long a hospital that went
    away, or whose rank is not warm, is waited for.  A ring may take ten times as long as the
    median of the last eight, at least `min_ring_timeout_s` and at most `ring_timeout_s`.  One
    that no round has used for `ring_idle_s` is given up, as an idle ring is never silent.  A
    hospital whose rank computes what the others do not is in no ring for `exclusion_rounds`.
    With `max_staleness` > 0 an update made for one of so many bases before still counts, the less
    the older it is.
    """

    rounds_per_day: NumRounds | Annotated[tuple[NumRounds, ...], Field(min_length=1)] = 8
    num_days: Annotated[int, Field(ge=0)] = 0
    deadline_s: Seconds = 600.0
    grace_s: NonNegative = 5.0
    rejoin_s: Seconds = 60.0
    ring_timeout_s: Seconds = 60.0
    min_ring_timeout_s: Seconds = 10.0
    ring_idle_s: Seconds = 60.0
    exclusion_rounds: Annotated[int, Field(ge=1, le=10_000)] = 10
    round_pause_s: NonNegative = 0.5
    max_generations: Annotated[int, Field(ge=1, le=100)] = 5
    max_failed_rounds: Annotated[int, Field(ge=1, le=1000)] = 5
    quorum: Annotated[int, Field(ge=1, le=1024)] = 1
    min_devices: Annotated[int, Field(ge=1)] = 1
    sample_fraction: Fraction = 1.0
    max_staleness: Annotated[int, Field(ge=0, le=MAX_STALENESS)] = 0

    def num_rounds(self, day: int) -> int:
        """Committed training rounds that `day` asks for."""
        if isinstance(self.rounds_per_day, int):
            return self.rounds_per_day
        return self.rounds_per_day[min(day, len(self.rounds_per_day)) - 1]

    def is_last(self, day: int) -> bool:
        """Whether no day follows `day`."""
        return 0 < self.num_days <= day


class GroupsConfig(_Table):
    """Slow hospitals get rounds of their own, whose sums count in a later round of the others.

    Slow is who needs, from a round's opening to its part of the ring done, more than `slow_factor`
    times the median hospital and at least `min_gain_s` more.  A group has at least `min_hospitals`;
    fewer are waited for.
    """

    enabled: bool = False
    slow_factor: Annotated[FiniteFloat, Field(gt=1, le=1000)] = 3.0
    min_gain_s: Seconds = 2.0
    min_hospitals: Annotated[int, Field(ge=1, le=1024)] = 1


class ScreeningConfig(_Table):
    """Hospitals set updates aside that lie too far from the others, or point against the way.

    A hospital compares each update of a round with the coordinate-wise median of them all: its
    distance, in units of the median one of these distances, with `max_distance`.  In the region's
    first `direction_rounds` committed rounds its cosine with the way that the model went in the
    cycle's last `way_commits` commits must be `min_cosine` or more; before there is a way, its
    cosine with the median.  A hospital screens no fewer than `min_updates`, and sets aside at most
    `max_share` of them.
    """

    enabled: bool = False
    max_distance: Annotated[FiniteFloat, Field(gt=1, le=1000)] = 1.6
    min_cosine: Annotated[FiniteFloat, Field(ge=-1, lt=1)] = -0.08
    way_commits: Annotated[int, Field(ge=1, le=MAX_MEAN_OF)] = 5
    direction_rounds: Annotated[int, Field(ge=0, le=10_000)] = 12
    min_updates: Annotated[int, Field(ge=3, le=1_000_000)] = 4
    max_share: Annotated[FiniteFloat, Field(gt=0, lt=0.5)] = 0.45

    def asks_direction(self, num_trained: int) -> bool:
        """Whether a round after `num_trained` committed ones asks where updates point."""
        return self.enabled and num_trained < self.direction_rounds

    def rule(self, reference: str | None, num_trained: int) -> ScreenRule | None:
        """The screen as rounds announce it; `reference` names the model where the way begins."""
        if not self.enabled:
            return None
        asks = self.asks_direction(num_trained)
        return ScreenRule(
            max_distance=self.max_distance,
            min_cosine=self.min_cosine if asks else ANY_DIRECTION,
            min_updates=self.min_updates,
            max_share=self.max_share,
            reference=reference if asks else None,
        )


class AdamConfig(_Table):
    """FedAdam's server step; other algorithms do not read it."""

    learning_rate: Positive = 0.01
    beta1: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.99
    tau: Positive = 1e-3


class LearningConfig(_Table):
    """What wristbands and server do in a training round.

    The learning rate of the wristbands falls as a cosine from `lr_start` to `lr_end` over the
    first `lr_rounds` committed rounds of the region.  The first round of a cycle carries 16 bits
    whatever `bits` and `parts` say; later ones carry one of `parts` of each large tensor, and
    wristbands carry what they did not send over to their next update.  With `simulated`, wristbands add their task's public simulated examples
    to each batch; they hold nobody's ECG.  `hospital_rule` is how each hospital adds its updates up,
    `trim` the share that ``trimmed_mean`` leaves out at either end.
    """

    algorithm: Literal["fedavg", "fedprox", "fedadam"] = "fedavg"
    server: AdamConfig = AdamConfig()
    mu: NonNegative = 0.0
    lr_start: Positive = 3e-3
    lr_end: Positive = 3e-4
    lr_rounds: NumRounds = 12
    num_steps: Annotated[int, Field(ge=1, le=100_000)] = 40
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 64
    clip_norm: Annotated[FiniteFloat, Field(ge=2.0**-45, le=2.0**45)] = 5.0
    bits: Literal[8, 16] = 16
    parts: Annotated[int, Field(ge=1, le=64)] = 1
    weighting: Literal["uniform", "examples"] = "uniform"
    max_weight: Annotated[int, Field(ge=1, le=1_000_000)] = 5000
    hospital_rule: HospitalRule = "sum"
    trim: Annotated[FiniteFloat, Field(gt=0, lt=0.5)] = 0.2
    seed: Annotated[int, Field(ge=0)] = 0
    simulated: bool = True

    @model_validator(mode="after")
    def _combinations(self) -> LearningConfig:
        if self.lr_end > self.lr_start:
            raise ValueError("lr_end must not exceed lr_start")
        if self.mu > 0 and self.algorithm != "fedprox":
            raise ValueError('mu > 0 needs algorithm = "fedprox"')
        if self.parts > 1 and self.algorithm == "fedadam":
            raise ValueError(
                'parts > 1 excludes algorithm = "fedadam": its moments would decay, and move the '
                "model, on coordinates that a round did not carry"
            )
        if self.hospital_rule != "sum" and self.weighting != "uniform":
            raise ValueError(
                f'hospital_rule = "{self.hospital_rule}" excludes weighting = "{self.weighting}": '
                "an attacker would state its own weight"
            )
        return self

    @property
    def server_rule(self) -> ServerRule:
        """The server step as rounds announce it."""
        return ServerRule(algorithm=self.algorithm, **self.server.model_dump())

    @property
    def robust_rule(self) -> RobustRule:
        """How hospitals add updates up, as rounds announce it."""
        if self.hospital_rule == "trimmed_mean":
            return RobustRule(rule="trimmed_mean", trim=self.trim)
        return RobustRule(rule=self.hospital_rule)


class SealConfig(_Table):
    """The daily seal: the mean of the last `mean_of` committed models of the cycle."""

    mean_of: Annotated[int, Field(ge=1, le=MAX_MEAN_OF)] = 1
    wait_for_release_s: NonNegative = 0.0
    data_source: str = Field(default="unstated", max_length=200)


class RegionConfig(ProcessConfig):
    """Everything that the coordinator reads at start, such as ``deploy/local/region.toml``.

    A coordinator whose loop stands still for `watchdog_s` ends itself, for its supervisor to start
    it again.
    """

    model_config = SettingsConfigDict(env_prefix="PULSERING_REGIONAL_")

    region: Name
    broker: str
    state_dir: Path
    mailbox: str = Field(min_length=1)
    hospitals: dict[Name, Hospital] = Field(min_length=1, max_length=1024)
    cloud_key: Path | None = None
    task: str = "beats"
    health_listen: Listen = "127.0.0.1:0"
    rendezvous_host: str = Field(default="127.0.0.1", min_length=1)
    interface: str = Field(default="lo", min_length=1)
    heartbeat_s: Seconds = 5.0
    away_after_s: Seconds = 60.0
    watchdog_s: Annotated[FiniteFloat, Field(ge=5, le=3600)] = 120.0
    rounds: RoundsConfig = RoundsConfig()
    groups: GroupsConfig = GroupsConfig()
    screening: ScreeningConfig = ScreeningConfig()
    learning: LearningConfig = LearningConfig()
    seal: SealConfig = SealConfig()
    profile: Literal["demo", "production"] = "demo"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: LogFormat = "console"

    @model_validator(mode="after")
    def _combinations(self) -> RegionConfig:
        BrokerAddress.parse(self.broker)
        reserved = RESERVED_HOSPITALS & set(self.hospitals)
        if reserved:
            raise ValueError(f"hospitals: {', '.join(sorted(reserved))} is a reserved name")
        if self.rounds.quorum > len(self.hospitals):
            raise ValueError(
                f"rounds.quorum = {self.rounds.quorum} exceeds the {len(self.hospitals)} hospitals"
            )
        if self.seal.wait_for_release_s > 0 and self.cloud_key is None:
            raise ValueError("seal.wait_for_release_s > 0 needs cloud_key")
        if self.away_after_s < 2 * self.heartbeat_s:
            raise ValueError("away_after_s must be at least 2 * heartbeat_s")
        return self

    @model_validator(mode="after")
    def _late_updates(self) -> RegionConfig:
        if self.rounds.max_staleness and self.learning.parts > 1:
            raise ValueError(
                "rounds.max_staleness > 0 excludes learning.parts > 1: a late update carries "
                "another part than the round that would count it"
            )
        if self.rounds.max_staleness and self.groups.enabled:
            raise ValueError(
                "rounds.max_staleness > 0 excludes groups.enabled: an update would be aged twice, "
                "by its hospital and by the region"
            )
        if self.rounds.max_staleness and self.learning.hospital_rule != "sum":
            raise ValueError(
                "rounds.max_staleness > 0 excludes learning.hospital_rule = "
                f'"{self.learning.hospital_rule}": it counts updates alike, and late ones count less'
            )
        return self

    @model_validator(mode="after")
    def _production(self) -> RegionConfig:
        if self.profile != "production":
            return self
        faults = []
        if self.rounds.quorum < PRODUCTION_QUORUM:
            faults.append(f"rounds.quorum >= {PRODUCTION_QUORUM}")
        if self.rounds.min_devices < PRODUCTION_MIN_DEVICES:
            faults.append(f"rounds.min_devices >= {PRODUCTION_MIN_DEVICES}")
        if self.groups.enabled and self.groups.min_hospitals < PRODUCTION_QUORUM:
            faults.append(f"groups.min_hospitals >= {PRODUCTION_QUORUM}")
        if not self.broker.startswith("mqtts://"):
            faults.append("broker = mqtts://…")
        faults.append(
            "a broker that demands each hospital's client certificate, which this version cannot "
            "prove: run profile = demo, without patients"
        )
        raise ValueError(f"profile: production needs {', '.join(faults)}")

    @property
    def ledger_path(self) -> Path:
        """The ledger's SQLite file."""
        return self.state_dir / "ledger.sqlite"
