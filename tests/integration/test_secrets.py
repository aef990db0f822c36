"""Secrets do not reach the log."""

from __future__ import annotations

from support.engine import Engine


def test_secrets_are_masked_before_they_leave_the_worker(engine: Engine) -> None:
    """In events and the extra of logging records; they are neither in the database nor in its WAL.

    The sense that a signal fires gets it as it was emitted.
    """
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
    engine.sense(
        "next",
        """
        def compute(ctx):
            ctx.log('got', {**ctx.signal.payload, 'is_whole': ctx.signal.payload['token'] == 'hunter2'})
        """,
    )
    engine.start()
    assert engine.run("trigger", "leak", "--wait").returncode == 0
    engine.until_run("next", "ok")
    assert engine.stop() == 0
    payloads = {entry.type: entry.payload for entry in engine.rows("source IN ('sense', 'logging')")}
    assert payloads["login"] == {"user": "ann", "password": "***", "deep": [{"SSN": "***"}]}
    assert payloads["warning"]["api_key"] == "***"
    assert payloads["warning"]["tokenizer"] == "bpe"
    assert payloads["got"] == {"token": "***", "n": 1, "is_whole": True}
    assert b"hunter2" not in engine.db.read_bytes()
