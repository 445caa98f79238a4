"""How many descriptors this process may open: one a connection."""

from __future__ import annotations

import resource

from common.errors import ConfigError

SPARE = 200  # files, pipes, libraries


def allow_connections(num: int) -> None:
    """Raise the soft limit on descriptors so that `num` connections fit.

    Raises
    ------
    ConfigError
        When the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = num + SPARE
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"{num} connections need {needed} descriptors, the limit is {hard}: raise `ulimit -Hn` "
            "or take fewer devices"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def most_connections() -> int:
    """Raise the soft limit to the hard one and return how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 1 << 20 if hard == resource.RLIM_INFINITY else max(hard - SPARE, 1)
