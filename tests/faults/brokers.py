"""The brokers that a region is tried with: what each keeps over a kill, and how much it queues."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConfigError
from simulators.broker_process import mosquitto_program

PLENTY = 20_000


@dataclass(frozen=True)
class Broker:
    """A kind of broker.

    Attributes
    ----------
    persistent : bool
        Whether sessions and queued messages survive a kill, but for the last second's.
    max_queued : int
        Messages that it keeps for one session; it drops more, and says to their sender that all is
        well.
    """

    name: str
    persistent: bool = False
    max_queued: int = PLENTY


IOTCORE = Broker("iotcore")
FORGETFUL = Broker("mosquitto")
PERSISTENT = Broker("mosquitto-persistent", persistent=True)
NARROW = Broker("mosquitto-narrow", max_queued=4)

CONF = """\
listener {port} {host}
allow_anonymous true
user {user}
max_packet_size 2097152
max_inflight_messages {max_inflight}
max_queued_messages {max_queued}
persistence {persistence}
persistence_location {folder}/
autosave_interval 1
"""


def command(broker: Broker, host: str, port: int, folder: Path) -> list[str]:
    """Write a mosquitto's configuration into `folder`; the command that starts it.

    Raises
    ------
    ConfigError
        When there is none on this machine.
    """
    program = mosquitto_program()
    if program is None:
        raise ConfigError("mosquitto is not installed (apt install mosquitto)")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mosquitto.conf"
    path.write_text(
        CONF.format(
            host=host,
            port=port,
            user=getpass.getuser(),
            folder=folder,
            persistence=str(broker.persistent).lower(),
            max_queued=broker.max_queued,
            max_inflight=min(100, broker.max_queued),
        )
    )
    return [program, "-c", str(path)]
