"""A hospital's ClientApp: adds the update of this round that was made beforehand."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp


def fit(message: Message, context: Context) -> Message:
    """Answer with the received model plus this hospital's update; note both moments."""
    received = time.monotonic()
    folder, hospital = Path(context.run_config["folder"]), int(context.node_config["partition-id"])
    round_id = int(message.content["config"]["server-round"])
    base = message.content["arrays"].to_numpy_ndarrays()
    flat = np.concatenate([array.ravel() for array in base])
    update = np.load(folder / "updates.npy", mmap_mode="r")[round_id - 1, hospital]
    if hospital == 0:
        np.save(folder / f"model-{round_id:03d}.npy", flat)
    trained = _as(flat + update, base)
    content = {"arrays": ArrayRecord(trained), "metrics": MetricRecord({"num-examples": 1})}
    reply = Message(content=RecordDict(content), reply_to=message)
    marks = {"round": round_id, "model": received, "published": time.monotonic()}
    with (folder / f"marks-{hospital:02d}.jsonl").open("a") as file:
        file.write(json.dumps(marks) + "\n")
    return reply


def _as(flat: np.ndarray, base: list[np.ndarray]) -> list[np.ndarray]:
    ends = np.cumsum([array.size for array in base])
    parts = np.split(flat, ends[:-1])
    return [part.reshape(array.shape) for part, array in zip(parts, base, strict=True)]


app = ClientApp()
app.train()(fit)
