"""The senses as a package, in a real worker: relative imports, and pickling between processes."""

from __future__ import annotations

from support.engine import Engine


def test_a_sense_can_use_processes_and_relative_imports(engine: Engine) -> None:
    """Work and results of a pool of processes are pickled; a changed helper is active in the next run."""
    engine.config("workers: 1\nsenses: {probe: {}}")
    engine.helper("helper.py", "FACTOR = 2")
    engine.sense(
        "probe",
        """
        import dataclasses, multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        from . import helper

        @dataclasses.dataclass
        class Reading:
            value: int

        def double(reading):
            return Reading(reading.value * helper.FACTOR)

        def compute(ctx):
            with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
                ctx.log("answer", pool.submit(double, Reading(4)).result())
        """,
    )
    engine.start()
    assert engine.run("check").returncode == 0
    assert engine.run("trigger", "probe", "--wait").returncode == 0
    reloads = len(engine.reloads("probe"))
    engine.helper("helper.py", "FACTOR = 3")
    engine.until_reload("probe", reloads, ok=True)
    assert engine.run("trigger", "probe", "--wait").returncode == 0
    assert [row.payload for row in engine.rows("type = 'answer'")] == [{"value": 8}, {"value": 12}]
