"""How much work waits for the processors: the load of the last minute in percent, and how late a sleep ends."""

import asyncio
import time

import psutil

LIMIT = 100


async def compute(ctx):
    """Wait for something: a compute may be `async def`; its timeout interrupts it wherever it awaits."""
    started = time.perf_counter()
    await asyncio.sleep(0.1)
    late_ms = (time.perf_counter() - started - 0.1) * 1000
    percent = 100 * psutil.getloadavg()[0] / psutil.cpu_count()
    reading = {"percent": round(percent, 1), "wakes_late_ms": round(late_ms, 1)}
    ctx.log("reading", reading)
    return reading if percent > LIMIT else None
