"""Whether the machine is under pressure: a summary of all readings of the last five minutes."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from statistics import fmean

LIMIT = 80


def compute(ctx):
    """Look back: a sense may read the log, though nothing in the log can start a sense."""
    readings = defaultdict(list)
    for entry in ctx.query_logs(source="sense", type="reading", since=datetime.now(UTC) - timedelta(minutes=5)):
        sense = entry.ref_id.split("/")[0]  # a run's id begins with its sense
        match entry.payload:
            case {"percent": percent}:
                readings[sense].append(percent)
    summary = {sense: {"mean": round(fmean(values), 1), "max": max(values)} for sense, values in readings.items()}
    ctx.log("summary", {"because_of": ctx.signal and ctx.signal.sense, "senses": summary})
    high = [sense for sense, percent in summary.items() if percent["mean"] > LIMIT]
    return {"high": high} if high else None
