"""``python -m cloud serve`` as a process of its own, over a real model pool."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from cloud.config import CloudConfig, Trusted
from cloud.pool_files import SIGNER
from cloud.registry import open_registry
from common.digest import bytes_digest
from common.signing import Signer
from tests.builders.serving import REGION, make_onnx, make_release

ROOT = Path(__file__).parents[2]
START_S = 60.0


@dataclass(frozen=True)
class ApiProcess:
    """A running API: its process, base URL and log file."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def stop(self) -> int:
        """End it as Ctrl-C would; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=20)


def make_config(root: Path) -> CloudConfig:
    """A configuration with everything below `root`."""
    return CloudConfig(
        region=REGION,
        mailbox=str(root / "mailbox"),
        pool_dir=root / "pool",
        state_dir=root / "cloud",
        trusted=Trusted(region_key=root / "region.pub"),
    )


def put_release(config: CloudConfig, day: int, data_source: str = "hand-made") -> str:
    """Sign the small model, register it with a card and put it into service; returns its name."""
    onnx = make_onnx(premature_weight=20.0 + day)
    digest = bytes_digest(onnx)
    release = make_release(
        day=day, onnx_sha256=digest, size_bytes=len(onnx), data_source=data_source
    )
    registry = open_registry(config)
    try:
        registry.register(release, onnx, Signer.at(SIGNER, config.state_dir))
        (registry.folder(release.name) / "card.json").write_text("{}")
        (registry.folder(release.name) / "card.md").write_text(f"# {release.name}")
        registry.promote(release.name, promoted_by="test", now=1000.0)
    finally:
        registry.close()
    return release.name


def command(config: CloudConfig, listen: str) -> list[str]:
    """The command line that serves `config`."""
    settings = {
        "region": config.region,
        "mailbox": config.mailbox,
        "pool_dir": config.pool_dir,
        "state_dir": config.state_dir,
        "trusted.region_key": config.trusted.region_key,
        "listen": listen,
    }
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "cloud", "serve", *overrides]


@contextmanager
def serving(config: CloudConfig, log: Path, data: Path | None = None) -> Iterator[ApiProcess]:
    """Run the API on a free loopback port until the block ends."""
    environment = {**os.environ, "PULSERING_DATA": str(data or log.parent / "no-data")}
    with log.open("wb") as file:
        process = subprocess.Popen(
            command(config, "127.0.0.1:0"), cwd=ROOT, env=environment, stderr=file, stdout=file
        )
    try:
        yield ApiProcess(process, _url(process, log), log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if found and _answers(found[0]):
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"the API did not start: {log.read_text()}")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/live", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
