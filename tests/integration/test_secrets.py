"""Secrets reach neither the log nor other senses."""

from __future__ import annotations

from support.engine import Engine


def test_secrets_are_masked_before_they_leave_the_worker(engine: Engine) -> None:
    """In events, signals and the extra of logging records; they are neither in the database nor in its WAL."""
    engine.config("""
        senses: {leak: {}, next: {}}
        reflexes: [{sense: next, on: leak}]
        logs: {redact: [ssn]}
    """)
    engine.sense(
        "leak",
        "import logging\n"
        "def compute(ctx):\n"
        "    ctx.log('login', {'user': 'ann', 'password': 'hunter2', 'deep': [{'SSN': 'hunter2'}]})\n"
        "    logging.warning('hello', extra={'api_key': 'hunter2', 'tokenizer': 'bpe'})\n"
        "    return {'token': 'hunter2', 'n': 1}\n",
    )
    engine.sense("next", "def compute(ctx):\n    ctx.log('got', ctx.signal.payload)\n")
    engine.start()
    assert engine.run("trigger", "leak", "--wait").returncode == 0
    engine.until_run("next", "ok")
    assert engine.stop() == 0
    payloads = {entry.type: entry.payload for entry in engine.rows("source IN ('sense', 'logging')")}
    assert payloads["login"] == {"user": "ann", "password": "***", "deep": [{"SSN": "***"}]}
    assert payloads["warning"]["api_key"] == "***"
    assert payloads["warning"]["tokenizer"] == "bpe"
    assert payloads["got"] == {"token": "***", "n": 1}
    assert b"hunter2" not in engine.db.read_bytes()
