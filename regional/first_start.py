"""What happens at a start, before anything is published: lock, ledger, initial model."""

from __future__ import annotations

from functools import reduce

from common.errors import ConfigError
from common.fixedpoint import first_exponents
from common.mailbox import Mailbox
from common.signing import PUBLIC_NAME, Keyring, Signer
from regional.config import RegionConfig
from regional.ledger import Ledger
from regional.progress import Progress, after, replay
from regional.records import CycleStarted, HospitalAdmitted, Started
from regional.store import Store


def open_store(config: RegionConfig) -> Store:
    """The region's mailbox: we sign as ``region``; hospitals and cloud are read by pinned keys."""
    signer = Signer.at("region", config.state_dir)
    keys = {name: hospital.key for name, hospital in config.hospitals.items()}
    keys["region"] = config.state_dir / PUBLIC_NAME
    if config.cloud_key is not None:
        keys["cloud"] = config.cloud_key
    return Store(Mailbox(config.mailbox, signer, Keyring(keys)), config.region)


def start(config: RegionConfig, ledger: Ledger, store: Store, now: float) -> Progress:
    """Record this start, and at the first one the initial model.

    Raises
    ------
    ConfigError
        When ledger, mailbox and configuration do not belong together, or the mailbox cannot be
        used.
    """
    try:
        return _start(config, ledger, store, now)
    except OSError as fault:
        raise ConfigError(f"mailbox {config.mailbox!r} cannot be used: {fault}") from fault


def _start(config: RegionConfig, ledger: Ledger, store: Store, now: float) -> Progress:
    progress = replay(ledger.each())
    _check_belongs(config, progress, store)
    started = Started(count=progress.num_starts + 1)
    ledger.append([started], now)
    progress = after(progress, started)
    progress = _admit_configured(config, ledger, progress, now)
    if progress.cycle:
        return progress
    initial = _initial_cycle(config, store)
    ledger.append([initial], now)
    return after(progress, initial)


def _admit_configured(
    config: RegionConfig, ledger: Ledger, progress: Progress, now: float
) -> Progress:
    """Hospitals of the configuration belong to the region, but for those that were dismissed."""
    new = [
        HospitalAdmitted(hospital=name)
        for name in sorted(config.hospitals)
        if name not in progress.hospitals and name not in progress.dismissed
    ]
    if new:
        ledger.append(new, now)
    return reduce(after, new, progress)


def _check_belongs(config: RegionConfig, progress: Progress, store: Store) -> None:
    if progress.task and progress.task != config.task:
        raise ConfigError(
            f"task = {config.task!r}, but the ledger in state_dir is of task {progress.task!r}"
        )
    if progress.spec is not None and progress.spec.region != config.region:
        raise ConfigError(
            f"region = {config.region!r}, but the ledger is of region {progress.spec.region!r}"
        )
    if not progress.last_round and max(store.mailbox.numbers(config.region, "ring"), default=0):
        raise ConfigError(
            f"mailbox {config.mailbox!r} holds rounds of {config.region!r} but the ledger in "
            "state_dir is new: restore the ledger, or choose another mailbox"
        )


def _initial_cycle(config: RegionConfig, store: Store) -> CycleStarted:
    # Only here: building a model needs torch, which a running coordinator does without.
    from common.tasks.registry import get_task

    task = get_task(config.task)
    model = task.initial(config.learning.seed, simulated=config.learning.simulated)
    stored = store.put_model(model, config.task, made_by_round=0)
    return CycleStarted(
        cycle=1,
        task=config.task,
        model_digest=stored.digest,
        made_by_round=0,
        exponents=first_exponents(model, config.learning.clip_norm, 16),
        evaluation_shapes=dict(task.evaluation_shapes),
    )
