"""How full the disk of this workspace is, in percent, and its highest value so far."""

import psutil


def compute(ctx):
    """Remember the highest value: `ctx.db` is a database of this sense alone (Peewee), kept from run to run."""
    percent = psutil.disk_usage(__file__).percent
    ctx.log("reading", {"percent": percent})
    ctx.db.execute_sql("create table if not exists peaks (percent real not null)")
    (peak,) = ctx.db.execute_sql("select max(percent) from peaks").fetchone()
    if peak is not None and percent <= peak:
        return None
    ctx.db.execute_sql("insert into peaks values (?)", (percent,))
    return {"percent": percent, "peak_before": peak}
