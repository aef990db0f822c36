"""Problems of a nerve.yaml: all are reported at once, each with its line and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nerve.config.config import load_config
from nerve.errors import ConfigError

Problems = Callable[[str], tuple[str, ...]]


def test_all_problems_are_reported_at_once_in_the_order_of_their_lines(problems: Problems) -> None:
    """Each has its position, what is wrong and what to do."""
    assert problems("""\
workers: 0
shutdown: 4s
senses:
  disk-usage:
    timeout: soon
    throtle: 5s
  missing: {grace_period: -1s}
  Bad Name:
reflexes:
  - sense: disk-usge
    interval: 1ms
  - interval: 10s
    on: [disk-usage, mising]
  - sense: disk-usage
    kind: thing
logs:
  max_payload: big
  retention: [30d]
""") == (
        "nerve.yaml:1: workers: '0' is not a number of workers: use a whole number from 1 to 64",
        "nerve.yaml:2: unknown key 'shutdown'; did you mean 'shutdown_timeout'?",
        (
            "nerve.yaml:5: senses.disk-usage.timeout: 'soon' is not a duration: "
            "write it as 500ms, 10s, 5m, 2h, 30d or 1h30m"
        ),
        "nerve.yaml:6: senses.disk-usage: unknown key 'throtle'; did you mean 'throttle'?",
        "nerve.yaml:7: senses.missing: missing sense file 'senses/missing.py': create it, or fix `path`",
        (
            "nerve.yaml:7: senses.missing.grace_period: '-1s' is not a duration: "
            "write it as 500ms, 10s, 5m, 2h, 30d or 1h30m"
        ),
        (
            "nerve.yaml:8: senses['Bad Name']: is not a valid sense name: use 1 to 100 of a-z, 0-9, - and _, "
            "and begin with a letter or digit"
        ),
        "nerve.yaml:10: reflexes[0].sense: unknown sense 'disk-usge'; did you mean 'disk-usage'?",
        "nerve.yaml:11: reflexes[0].interval: '1ms' is too short: use at least 10ms",
        "nerve.yaml:12: reflexes[1]: has no sense: add `sense: NAME`",
        "nerve.yaml:12: reflexes[1]: has both `interval` and `on`: keep one of them, or make two reflexes",
        "nerve.yaml:13: reflexes[1].on[1]: unknown sense 'mising'; did you mean 'missing'?",
        "nerve.yaml:14: reflexes[2]: does not say when to run: add `interval: 10s`, or `on: [SENSE]`",
        "nerve.yaml:15: reflexes[2].kind: unknown kind 'thing': the only kind is `sense`",
        "nerve.yaml:17: logs.max_payload: 'big' is not a size: write it as 512B, 64KB, 10MB, or a number of bytes",
        "nerve.yaml:18: logs.retention: must be a single value, not a list",
    )


def test_the_text_of_the_error_lists_the_problems(home: Path) -> None:
    """It names the file and counts them first."""
    (home / "nerve.yaml").write_text("workers: 99\n")
    with pytest.raises(ConfigError) as error:
        load_config(home / "nerve.yaml")
    first, second = str(error.value).splitlines()
    assert first == f"{home / 'nerve.yaml'}: 1 problem; nothing was started"
    assert second.startswith("  nerve.yaml:1: workers: '99' is not a number of workers")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a, b]", "1: must be a mapping of keys to values, not a list"),
        ("hello", "1: must be a mapping of keys to values, not 'hello'"),
        ("senses: [a]", "1: senses: must be a mapping of keys to values, not a list"),
        ("senses: {a: 5}", "1: senses.a: must be a mapping of keys to values, not '5'"),
        ("reflexes: {sense: a}", "1: reflexes: must be a list, not a mapping"),
        ("reflexes:\n- a", "2: reflexes[0]: must be a mapping of keys to values, not 'a'"),
        ("workers: {}", "1: workers: must be a single value, not a mapping"),
        ("workers:", "1: workers: has no value: add one, or remove the key"),
        ("workers: 2.5", "1: workers: '2.5' is not a number of workers: use a whole number from 1 to 64"),
        ("workers: true", "1: workers: 'true' is not a number of workers: use a whole number from 1 to 64"),
        ("shutdown_timeout: 0", "1: shutdown_timeout: '0' is too short: a duration is more than 0"),
        ("shutdown_timeout: 1:30", ("1: shutdown_timeout: '1:30' is not a duration: write it as 500ms, 10s, 5m, 2h, "
         "30d or 1h30m")),
        ("workers: 1\nsenses:\nworkers: 2", "3: 'workers' is defined twice (first in line 1): remove one"),
        ("{workers: 1, workers: 2}", "1: 'workers' is defined twice (first in line 1): remove one"),
        ("? [a]\n: 1", "1: a key must be a single value, not a list or a mapping"),
        ("<<: 5", "1: `<<` must be a mapping, or a list of mappings"),
        ('"\\e[2Jx": 1', (r"1: unknown key '\x1b[2Jx'; the keys here are workers, shutdown_timeout, max_runs, "
         "max_rss, senses, reflexes, logs")),
        ("logs: {max_payload: 1GB}", "1: logs.max_payload: '1GB' is too large: use at most 32MB"),
        ("logs: {compress: gzip}", "1: logs.compress: unknown compression 'gzip': use zstd or off"),
        ("logs: {max_size: big}", ("1: logs.max_size: 'big' is not a size: write it as 512B, 64KB, 10MB, or a number "
         "of bytes")),
        ("logs: {archive_interval: 1ms}", "1: logs.archive_interval: '1ms' is too short: use at least 10ms"),
        ("max_runs: 0", "1: max_runs: '0' is not a number of runs: use a whole number, at least 1"),
        ("max_rss: 1MB", "1: max_rss: '1MB' is too small: a worker needs at least 64MB"),
        ("senses: {a: {group: ''}}", "1: senses.a.group: '' is not a valid name: use 1 to 100 printable characters"),
        ("logs: {redact: [pin, '--']}", ("1: logs.redact[1]: '--' is not a valid key name: use a word with letters or "
         "digits, such as `ssn`")),
    ],
)  # fmt: skip
def test_an_invalid_value_is_one_problem(problems: Problems, text: str, problem: str) -> None:
    """It may be of the wrong type, a duplicate or out of range; the problem says what is expected."""
    assert problems(text) == (f"nerve.yaml:{problem}",)
