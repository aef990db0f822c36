"""How busy the processors are, in percent of what they could do."""

import psutil


def compute(ctx):
    """Log a reading and return it: what is returned is a signal, and runs the senses that are `on: [cpu]`."""
    reading = {"percent": psutil.cpu_percent(interval=0.2)}
    ctx.log("reading", reading)
    return reading
