"""A whole region on one machine: its configurations, keys and processes.

The processes are the product's own (``python -m edge run`` and so on), each with a TOML file that
can be read and started again by hand.
"""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import PulseRingError, QuorumError
from common.health import announced_url
from common.signing import Signer
from simulators.broker import free_port
from simulators.supervisor import Managed, Supervisor, one_thread, python_module

Roster = Mapping[str, Sequence[tuple[str, str]]]
"""Hospital to its wristbands, each a (device, wearer)."""


@dataclass(frozen=True)
class RegionPlan:
    """What to run; the defaults are the demo's.

    Attributes
    ----------
    roster : Roster
        Wristbands and their wearers, by hospital.
    data : Path or None
        Root of the ECG; ``None`` for wherever the processes find it.
    broker_url : str or None
        A broker that runs already; ``None`` starts the embedded one of `broker_kind`.
    broker_host : str
        Address that the embedded one listens on.
    learning, rounds, groups : mapping
        Laid over the coordinator's tables of these names.
    coordinator : mapping
        Laid over the coordinator's other keys.
    attackers : mapping of str to str
        Hostile wristbands and their `simulators.attackers.Attack`.
    before : mapping of str to sequence of str
        What comes before a process's own command, by process: ``ip netns exec``, a tracer.
    """

    root: Path
    roster: Roster
    task: str = "beats"
    region: str = "county"
    data: Path | None = None
    data_source: str = "unstated"
    seed: int = 0
    workers: int = 2
    learning: Mapping[str, Any] = field(default_factory=dict)
    rounds: Mapping[str, Any] = field(default_factory=dict)
    groups: Mapping[str, Any] = field(default_factory=dict)
    coordinator: Mapping[str, Any] = field(default_factory=dict)
    attackers: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seal: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    broker_kind: str = "auto"
    broker_url: str | None = None
    broker_host: str = "127.0.0.1"
    api_port: int = 0
    heartbeat_s: float = 1.0
    log_level: str = "info"


class LocalRegion:
    """Starts, watches and ends the processes of a `RegionPlan`."""

    POLL_S = 0.05

    def __init__(self, plan: RegionPlan) -> None:
        self.plan = plan
        self.supervisor = Supervisor(plan.root / "logs")
        self.broker_url = plan.broker_url or f"mqtt://{plan.broker_host}:{free_port()}"
        self.api_url = f"http://127.0.0.1:{plan.api_port or free_port()}"

    @property
    def processes(self) -> tuple[str, ...]:
        """Names of the processes that `start` starts after the broker, in that order."""
        return ("region", *(edge_name(hospital) for hospital in self.plan.roster), "fleet")

    @property
    def health_urls(self) -> dict[str, str]:
        """Where coordinator and edge nodes answer now, each on a port that it chose itself.

        A process that was never up has port 0, where nobody answers.
        """
        return {
            name: announced_url(self.state_dir(process)) or f"http://{self.health_host(name)}:0"
            for name, process in (
                ("region", "region"),
                *((h, edge_name(h)) for h in self.plan.roster),
            )
        }

    def health_host(self, name: str) -> str:
        """Address on which ``region`` or a hospital's edge node answers."""
        del name
        return "127.0.0.1"

    def state_dir(self, process: str) -> Path:
        """Where a process keeps its state."""
        return self.plan.root / process

    def start(self) -> None:
        """Write keys and configurations, then start broker, coordinator, edge nodes and fleet."""
        self.configure()
        if self.plan.broker_url is None:
            self.start_broker()
        for name in self.processes:
            self.start_process(name)

    def configure(self) -> None:
        """Make every signing key and write every configuration file."""
        for hospital in self.plan.roster:
            Signer.at(hospital, self.state_dir(edge_name(hospital)))
        Signer.at("region", self.state_dir("region"))
        Signer.at("cloud", self.state_dir("cloud"))
        self._write("region", self._region_config())
        for hospital, wristbands in self.plan.roster.items():
            devices = [device for device, _ in wristbands]
            self._write(edge_name(hospital), self._edge_config(hospital, devices))
        self._write("fleet", self.fleet_config(self.plan.roster))
        self._write("cloud", self._cloud_config())

    def start_broker(self) -> Managed:
        """Start the embedded broker on this region's port."""
        host, _, port = self.broker_url.removeprefix("mqtt://").rpartition(":")
        place = ("--host", host, "--port", port)
        return self._run("broker", "simulators", "broker", *place, "--kind", self.plan.broker_kind)

    def start_process(self, name: str) -> Managed:
        """Start one of `processes`, or another fleet that `write_fleet` made."""
        module = {"region": "regional", "cloud": "cloud"}.get(name)
        module = module or ("edge" if name.startswith("edge-") else "simulators")
        report = ["--json"] if module == "simulators" else []
        output = self.report_path(name) if module == "simulators" else None
        config = str(self.config_path(name))
        return self._run(name, module, "run", "--config", config, *report, output=output)

    def start_api(self) -> Managed:
        """Start the inference API."""
        return self._run("api", "cloud", "serve", "--config", str(self.config_path("cloud")))

    def stop(self) -> None:
        """End every process."""
        self.supervisor.stop()

    def stop_fleet(self, name: str = "fleet") -> dict[str, Any]:
        """End a fleet in good order; its report of traffic, empty when it left none."""
        self.supervisor.kill(name, signal.SIGTERM, hold=True)
        try:
            traffic: dict[str, Any] = json.loads(self.report_path(name).read_text())["traffic"]
        except (OSError, json.JSONDecodeError, KeyError):
            return {}
        return traffic

    def report_path(self, name: str) -> Path:
        """Where a fleet's report goes when it ends."""
        return self.plan.root / f"{name}.json"

    def config_path(self, name: str) -> Path:
        """Where a process's configuration lies."""
        return self.plan.root / "config" / f"{name}.toml"

    def write_fleet(self, name: str, roster: Roster) -> None:
        """Write the configuration of a further fleet, to be started by `start_process`."""
        self._write(name, self.fleet_config(roster))

    def status(self) -> dict[str, Any]:
        """The coordinator's report of the region, empty while it does not answer."""
        return fetch_json(f"{self.health_urls['region']}/status") or {}

    def rounds(self) -> list[dict[str, Any]]:
        """The coordinator's report of ended rounds, empty while it does not answer."""
        return fetch_json(f"{self.health_urls['region']}/rounds") or []

    def wait(
        self,
        happened: Callable[[], Any],
        timeout_s: float,
        what: str,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Any:  # noqa: ANN401 -- what `happened` returns
        """Poll `happened` until it is true, reviving what died; tell what it was that did not.

        `meanwhile` is called between two looks.

        Raises
        ------
        QuorumError
            After `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while not (value := happened()):
            if time.monotonic() > deadline:
                raise QuorumError(f"{what} did not happen within {timeout_s:.0f} s")
            meanwhile()
            self.supervisor.revive()
            time.sleep(self.POLL_S)
        return value

    def fleet_config(self, roster: Roster) -> dict[str, Any]:
        """Configuration of a fleet that wears `roster`."""
        plan = self.plan
        return {
            "region": plan.region,
            "task": plan.task,
            "seed": plan.seed,
            "workers": plan.workers,
            "log_level": plan.log_level,
            **({"data": str(plan.data)} if plan.data else {}),
            "attackers": dict(plan.attackers),
            "hospitals": {
                hospital: {
                    "broker": self.broker_url,
                    "devices": [{"device": d, "wearer": w} for d, w in wristbands],
                }
                for hospital, wristbands in roster.items()
            },
        }

    def _region_config(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "region": plan.region,
            "task": plan.task,
            "broker": self.broker_url,
            "state_dir": str(self.state_dir("region")),
            "mailbox": str(plan.root / "mailbox"),
            "cloud_key": str(self.state_dir("cloud") / "signing.pub"),
            "health_listen": f"{self.health_host('region')}:0",
            "heartbeat_s": plan.heartbeat_s,
            "log_level": plan.log_level,
            **plan.coordinator,
            "hospitals": {
                hospital: {"key": str(self.state_dir(edge_name(hospital)) / "signing.pub")}
                for hospital in plan.roster
            },
            "learning": {"seed": plan.seed, **plan.learning},
            "rounds": dict(plan.rounds),
            "groups": dict(plan.groups),
            "seal": {"data_source": plan.data_source, **plan.seal},
        }

    def _edge_config(self, hospital: str, devices: Sequence[str]) -> dict[str, Any]:
        plan = self.plan
        return {
            "region": plan.region,
            "hospital": hospital,
            "region_broker": self.broker_url,
            "hospital_broker": self.broker_url,
            "state_dir": str(self.state_dir(edge_name(hospital))),
            "mailbox": str(plan.root / "mailbox"),
            "coordinator_key": str(self.state_dir("region") / "signing.pub"),
            "devices": list(devices),
            "health_listen": f"{self.health_host(hospital)}:0",
            "heartbeat_s": plan.heartbeat_s,
            "log_level": plan.log_level,
        }

    def _cloud_config(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "region": plan.region,
            "mailbox": str(plan.root / "mailbox"),
            "pool_dir": str(plan.root / "pool"),
            "state_dir": str(self.state_dir("cloud")),
            "listen": self.api_url.removeprefix("http://"),
            "trusted": {"region_key": str(self.state_dir("region") / "signing.pub")},
            "gate": dict(plan.gate),
            "log_level": plan.log_level,
            **({"data": str(plan.data)} if plan.data else {}),
        }

    def _run(self, name: str, module: str, *arguments: str, output: Path | None = None) -> Managed:
        command = [*self.plan.before.get(name, ()), *python_module(module, *arguments)]
        return self.supervisor.start(name, command, one_thread(), output)

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        path = self.config_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_toml(values))


def edge_name(hospital: str) -> str:
    """Name of a hospital's edge node among the processes."""
    return f"edge-{hospital}"


def fetch_json(url: str, timeout_s: float = 3.0) -> Any:  # noqa: ANN401 -- whatever a service reports
    """GET a service's JSON report on loopback, ``None`` while it does not answer."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 -- our own http URL
            return json.load(answer)
    except (urllib.error.URLError, ConnectionError, TimeoutError, json.JSONDecodeError):
        return None


def to_toml(values: Mapping[str, Any]) -> str:
    """TOML of nested mappings, scalars and lists, as far as our configurations go."""
    lines: list[str] = []
    _write_table(lines, (), values)
    return "\n".join(lines) + "\n"


def _write_table(lines: list[str], path: tuple[str, ...], values: Mapping[str, Any]) -> None:
    if path:
        lines += ["", f"[{'.'.join(path)}]"]
    for key, value in values.items():
        if not isinstance(value, Mapping):
            lines.append(f"{key} = {_inline(value)}")
    for key, value in values.items():
        if isinstance(value, Mapping):
            _write_table(lines, (*path, key), value)


def _inline(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    if value is None:
        raise PulseRingError("TOML has no null")
    return json.dumps(value)
