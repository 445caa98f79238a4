"""The tasks that a round can name."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from common.errors import ConfigError
from common.tasks.task import Task

TASKS = {
    "beats": ("common.tasks.beats", "BeatTask"),
    "dummy": ("common.tasks.dummy", "DummyTask"),
}


def get_task(name: str) -> Task:
    """Return the task called `name`, importing its module only now.

    Raises
    ------
    ConfigError
        If no task has that name; the message lists those that exist.
    """
    try:
        module, attribute = TASKS[name]
    except KeyError as error:
        raise ConfigError(f"no task {name!r}; known: {', '.join(TASKS)}", task=name) from error
    return cast(Task, getattr(import_module(module), attribute)())
