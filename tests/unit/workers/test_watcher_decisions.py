"""The watcher's decision when to read the files."""

from __future__ import annotations

from nerve.workers.watcher import LONGEST_SECONDS, QUIET_SECONDS, ChangeBurst


def test_a_burst_of_changes_ends_after_some_quiet() -> None:
    """The quiet counts from its last change, and without any quiet it ends soon after its first."""
    assert ChangeBurst(10.0, 10.0).deadline == 10.0 + QUIET_SECONDS
    assert ChangeBurst(10.0, 10.1).deadline == 10.1 + QUIET_SECONDS
    assert ChangeBurst(10.0, 99.0).deadline == 10.0 + LONGEST_SECONDS


def test_a_burst_that_has_to_wait_for_a_save_ends_after_it() -> None:
    """Neither quiet nor the limit ends it before that."""
    assert ChangeBurst(10.0, 10.0, not_before=12.0).deadline == 12.0
