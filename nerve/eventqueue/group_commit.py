"""When the writer commits: at once after a pause, and in ever larger groups the more there is to write; pure."""

from __future__ import annotations

GROUP_SECONDS = 0.01
"""Commits follow each other no closer than this while events keep coming, so that each one carries many."""

LONGEST_GROUP_SECONDS = 0.035
"""Nor do they have to wait longer than this for each other, however long one takes."""

MAX_GROUP_EVENTS = 10_000
"""The most events of one commit, about: where more are waiting, the next commit follows at once."""

REST = 3
"""After a commit, events are gathered for so many times as long as it took: it touches the same pages for more rows."""


def group_seconds(commit_seconds: float) -> float:
    """Decide how long events are gathered after a commit that took so long."""
    return min(LONGEST_GROUP_SECONDS, max(GROUP_SECONDS, REST * commit_seconds))


def commit_due(oldest: float, last_commit: float, gather: float) -> float:
    """Decide when to commit: at once after a pause, or else `gather` s after the last commit.

    `oldest` is when the first of the waiting events came; moments are monotonic seconds.
    """
    return max(oldest, last_commit + gather)
