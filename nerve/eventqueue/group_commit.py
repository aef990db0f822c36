"""When the writer commits: at once after a pause, in larger groups when there is more to write. Pure functions."""

from __future__ import annotations

GROUP_SECONDS = 0.01
"""The shortest time between two commits while events keep coming, so that each commit has many."""

LONGEST_GROUP_SECONDS = 0.035
"""The longest time between two commits while events keep coming."""

MAX_GROUP_EVENTS = 10_000
"""About the most events of one commit. If more are waiting, the next commit follows at once."""

REST = 3
"""Events are gathered for this many times as long as the last commit took, so that more rows share a written page."""


def group_seconds(commit_seconds: float) -> float:
    """Return how long to gather events after a commit that took `commit_seconds`."""
    return min(LONGEST_GROUP_SECONDS, max(GROUP_SECONDS, REST * commit_seconds))


def commit_due(oldest: float, last_commit: float, gather: float) -> float:
    """Return when to commit: at once after a pause, else `gather` seconds after the last commit.

    `oldest` is when the first of the waiting events was noticed. All times are monotonic seconds.
    """
    return max(oldest, last_commit + gather)
