"""How much memory is in use, in percent."""

import psutil

LIMIT = 90


def compute(ctx):
    """Log each reading, but signal only a high one: returning None runs nothing."""
    percent = psutil.virtual_memory().percent
    ctx.log("reading", {"percent": percent})
    if percent < LIMIT:
        return None
    return {"percent": percent, "limit": LIMIT}
