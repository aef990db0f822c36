"""Renders a causal tree: one line per run, with its errors and the runs that it caused below it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.text import Text
from rich.tree import Tree

from nerve.cli.console import View
from nerve.cli.formatting import COLOURS, blocks, level_of_status, name_and_payload, short_ref
from nerve.cli.moments import format_moment
from nerve.cli.options import counted
from nerve.escaping import escape
from nerve.events.model import Log
from nerve.store.provenance.trace import Trace
from nerve.store.provenance.traced_run import TracedRun
from nerve.units import format_duration

ASKED = "(asked)"
LABEL_COLUMNS, GUIDE_COLUMNS = 90, 4

_STARTED_BY = {"interval": "interval", "signal": "signal", "manual": "by hand"}
_UNSEEN = {"archived": "in the archive", "missing": "not in the log"}


@dataclass(frozen=True, slots=True)
class TreeRenderer:
    """Renders trees for a view; open runs are shown with their age at `now` (unix ms)."""

    view: View
    now: int
    verbose: bool = False

    def tree(self, trace: Trace) -> Tree:
        """Return the tree of a trace; if it does not start at the root, a line above it names the root."""
        top = self._subtree(trace.tree, trace.tree, is_counted=trace.is_counted)
        if not trace.above:
            return top
        root = self._name(trace.root) if trace.is_rooted else f"a run before {self._name(trace.root)}"
        above = Tree(Text(f"... {counted(trace.above, 'level')} above; the chain started with {root}", "dim"))
        above.add(top)
        return above

    def _subtree(self, run: TracedRun, top: TracedRun, *, is_counted: bool) -> Tree:
        tree = Tree(self._label(run, top), guide_style="dim")
        for entry in run.errors:
            tree.add(Text("\n").join(self._error(entry)))
        for entry in run.entries:
            tree.add(Text(name_and_payload(entry), no_wrap=True, overflow="ellipsis"))
        if run.more_entries:
            entries = counted(run.more_entries, "more entry", "more entries")
            tree.add(Text(f"... and {entries}: nerve logs --ref {escape(run.run)}", "dim"))
        tree.children += [self._subtree(child, top, is_counted=is_counted) for child in run.caused]
        if run.more_runs:
            least = "" if is_counted else "at least "
            runs = counted(run.more_runs, "more run")
            tree.add(Text(f"... and {least}{runs}: increase --limit or --depth", "dim"))
        return tree

    def _label(self, run: TracedRun, top: TracedRun) -> Text:
        status = level_of_status(run.status)
        label = Text(no_wrap=True, overflow="ellipsis", style="bold" if run.asked else "")
        label.append(self._moment(run, top), "dim")
        label.append(f"{self._name(run.run)} ")
        if run.asked:  # in front, because a narrow terminal cuts off the end of the line
            label.append(f"{ASKED} ", "cyan")
        label.append(self._outcome(run), COLOURS[status] if status else "")
        label.append("".join(f", {part}" for part in self._circumstances(run)))
        return label

    def _moment(self, run: TracedRun, top: TracedRun) -> str:
        if run.start_ts is None:
            return ""
        if self.view.width is None or run is top or top.start_ts is None or run.start_ts < top.start_ts:
            return format_moment(run.start_ts, self.view.zone, offset=self.view.offset) + " "
        return f"+{format_duration((run.start_ts - top.start_ts) / 1000)} "

    def _name(self, run_id: str) -> str:
        return escape(run_id) if self.view.width is None else short_ref(run_id)

    def _outcome(self, run: TracedRun) -> str:
        if run.status == "open" and run.start_ts is not None:
            return f"open for {format_duration(max(0, self.now - run.start_ts) / 1000)}"
        status = escape(_UNSEEN.get(run.status, run.status))
        if run.duration_ms is None or run.duration_ms < 0:
            return status
        return f"{status} {format_duration(run.duration_ms / 1000)}"

    def _circumstances(self, run: TracedRun) -> Iterator[str]:
        if run.start_ts is None:
            if run.end_ts is not None:
                yield "its start is not in the log"
        else:
            started = _STARTED_BY.get(run.trigger or "", escape(run.trigger or "unknown"))
            yield f"{started} {escape(run.reflex)}" if run.reflex else started
        if run.coalesced:
            yield f"{counted(run.coalesced, 'more trigger')} coalesced"
        if run.skipped:
            yield f"{counted(run.skipped, 'interval')} skipped"
        if run.lateness_ms:
            yield f"waited {format_duration(max(0, run.lateness_ms) / 1000)}"
        if run.signal:
            yield "signalled"
        if self.verbose and run.digest:
            yield f"code {escape(run.digest)}"

    def _error(self, entry: Log) -> Iterator[Text]:
        payload = entry.payload if isinstance(entry.payload, dict) else {"message": entry.payload}
        kind, message = (str(payload.get(key) or "") for key in ("kind", "message"))
        yield Text(escape(f"error{f' ({kind})' if kind else ''}: {message}"), "red")
        if self.verbose:
            for block in blocks(entry.payload):
                yield from (Text(line, "dim") for line in block.split("\n"))


def columns_of(tree: Tree) -> int:
    """Return the terminal columns at which the deepest line of a tree is still readable."""
    depth, level = 0, [tree]
    while level:
        level = [child for node in level for child in node.children]
        depth += 1
    return depth * GUIDE_COLUMNS + LABEL_COLUMNS
