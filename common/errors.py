"""Errors that PulseRing raises, as one small tree.

::

    PulseRingError
    ├── ConfigError     a key, flag or combination of them that cannot be used
    ├── SignalError     an ECG that cannot be read or analysed
    ├── ContractError   bytes or files that break a contract of `common`
    ├── QuorumError     too few wristbands, hospitals or ranks to go on
    ├── RingError       a Horovod ring that did not form or broke
    └── ParityError     two computations of one thing that differ

Wrong bytes from a stranger are expected and become a counted ``Rejected(reason)``; these errors
are for what the caller must handle.
"""

from __future__ import annotations


class PulseRingError(Exception):
    """Root of the tree.

    Parameters
    ----------
    message : str
        One sentence that names the key or file and the remedy.
    **data
        Facts for the log, such as ``device_id`` or ``round_id``.
    """

    exit_code = 1

    def __init__(self, message: str, **data: object) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class ConfigError(PulseRingError):
    """A key, flag or combination of them that cannot be used."""

    exit_code = 2


class SignalError(PulseRingError):
    """An ECG that cannot be read or analysed."""


class ContractError(PulseRingError):
    """Bytes or files that break a contract of `common`."""


class QuorumError(PulseRingError):
    """Too few wristbands, hospitals or ranks to go on."""

    exit_code = 3


class RingError(PulseRingError):
    """A Horovod ring that did not form or broke."""


class ParityError(PulseRingError):
    """Two computations of one thing that differ."""
