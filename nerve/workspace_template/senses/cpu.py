"""How busy the processors are, in percent."""

import psutil


def compute(ctx):
    """Log a reading and return it: a returned value is a signal, which runs the senses with `on: [cpu]`."""
    reading = {"percent": psutil.cpu_percent(interval=0.2)}
    ctx.log("reading", reading)
    return reading
