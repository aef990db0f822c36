"""Python's logging in a worker that many senses use: each record is recorded, under the run that it belongs to."""

from __future__ import annotations

from support.engine import Engine

ONE_WORKER = "workers: 1\nsenses: {hostile: {}, other: {}}"
OTHER = "import logging\ndef compute(ctx):\n    logging.getLogger('app').info('of other')\n"


def ran(engine: Engine, sense: str) -> str:
    """Run a sense, and return the id of the run."""
    engine.run("trigger", sense, "--wait")
    return str(engine.runs(sense)[-1].ref_id)


def messages(engine: Engine, ref: str | None) -> list[str]:
    """Return the messages of Python's logging that are recorded under a run."""
    return [row.payload["message"] for row in engine.rows("source = 'logging' AND ref_id IS ?", ref)]


def test_a_sense_that_configures_logging_silences_nobody(engine: Engine) -> None:
    """Neither at the top of its file nor in its compute; its own records are recorded, and go to its own file."""
    engine.config(ONE_WORKER)
    engine.sense(
        "hostile",
        f"""
        import logging, logging.config
        logging.basicConfig(force=True, level=logging.ERROR)

        def compute(ctx):
            logging.info("first")
            logging.config.dictConfig({{"version": 1, "disable_existing_loggers": True}})
            logging.basicConfig(force=True, level=logging.INFO, filename={str(engine.home / "own.log")!r})
            logging.info("second")
        """,
    )
    engine.sense("other", OTHER)
    engine.start()
    hostile, other, again = ran(engine, "hostile"), ran(engine, "other"), ran(engine, "hostile")
    assert messages(engine, other) == ["of other"]
    assert messages(engine, hostile)[-1:] == messages(engine, again)[-1:] == ["second"]
    assert (engine.home / "own.log").read_text() == "INFO:root:second\n" * 2


def test_what_a_thread_logs_after_its_run_is_recorded_under_that_run(engine: Engine) -> None:
    """Also while another run is performed, which gets none of it; and the log says that the thread is still there."""
    engine.config(ONE_WORKER)
    engine.sense(
        "hostile",
        f"""
        import logging, pathlib, threading, time

        def compute(ctx):
            def later():
                while not pathlib.Path({str(engine.home / "go")!r}).exists():
                    time.sleep(0.01)
                logging.getLogger("app").info("late")
                ctx.log("late")
                pathlib.Path({str(engine.home / "done")!r}).touch()
            threading.Thread(target=later, name="left", daemon=True).start()
        """,
    )
    engine.sense(
        "other",
        f"""
        import logging, pathlib, time

        def compute(ctx):
            pathlib.Path({str(engine.home / "go")!r}).touch()
            while not pathlib.Path({str(engine.home / "done")!r}).exists():
                time.sleep(0.01)
            logging.getLogger("app").info("of other")
        """,
    )
    engine.start()
    hostile, other = ran(engine, "hostile"), ran(engine, "other")
    late, *notices = messages(engine, hostile)
    assert late == "late"
    assert notices
    assert "'left' goes on logging although its run has ended" in notices[0]
    assert [row.ref_id for row in engine.rows("type = 'late'")] == [hostile]
    assert messages(engine, other) == ["of other"]
    assert any("'left'" in line for line in engine.run("logs", "--errors").stdout.splitlines())


def test_what_a_sense_logs_can_not_forge_a_line_of_the_terminal(engine: Engine) -> None:
    """Neither by a line break nor by an escape sequence."""
    engine.config("workers: 1\nsenses: {hostile: {}}")
    forged = "12:00:00 ERROR   MainProcess[1] nerve.kernel: the log is lost"
    engine.sense(
        "hostile",
        f"""
        import logging

        def compute(ctx):
            logging.warning("a title\\n{forged}")
            logging.getLogger("x\\n{forged}").warning("\\x1b]0;owned\\x07")
            try:
                raise ValueError("\\n{forged}\\x1b[2J")
            except ValueError:
                logging.exception("failed")
        """,
    )
    engine.start()
    engine.run("trigger", "hostile", "--wait")
    engine.stop()
    assert "a title\\n12:00:00" in engine.stderr
    assert "\x1b" not in engine.stderr
    assert not any(line.startswith("12:00:00 ERROR") for line in engine.stderr.splitlines())
