"""The status page of a gate: what an administrator looks at first. It contains no script."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

from nciihash.gate.config import GateConfig
from nciihash.gate.metrics import GateState, Happened, Metrics
from nciihash.gate.outcome import Decision, Dialect
from nciihash.signals import Media

_REFRESH: Final = '<meta http-equiv="refresh" content="10">\n'
_REFRESH_LINK: Final = '<a href="?refresh=yes">Update every 10 seconds.</a>'
_STOP_LINK: Final = 'Updated every 10 seconds. <a href="?">Stop.</a>'
_VERDICTS_MANY: Final = 1000
_NEARLY_FULL: Final = 0.9

_STYLE: Final = """
:root { color-scheme: light dark; --ground: #f6f7f8; --sheet: #fff; --text: #1d2429;
  --quiet: #5c6870; --line: #dde2e5; --good: #1c7c54; --warn: #96600a; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181b; --sheet: #1d2327; --text: #e6eaec;
  --quiet: #9aa7af; --line: #333c42; --good: #5fc695; --warn: #e0ad55; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; }
h1 { font-size: 1rem; font-weight: 600; color: var(--quiet); margin: 0 0 .5rem; }
h2 { font-size: 1rem; font-weight: 600; margin: 0 0 .75rem; }
.state { font-size: 1.6rem; line-height: 1.3; font-weight: 600; margin: 0; }
.state::before { content: ""; display: inline-block; width: .7em; height: .7em;
  border-radius: 50%; margin-right: .5em; background: currentcolor; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
ul { margin: .9rem 0 0; padding: 0; list-style: none; }
li { padding: .6rem .9rem; margin-top: .5rem; background: var(--sheet);
  border: 1px solid var(--line); border-left: .3rem solid var(--warn); border-radius: .3rem; }
li.good, li.warn, li.bad { color: var(--text); } li.bad { border-left-color: var(--bad); }
section { background: var(--sheet); border: 1px solid var(--line); border-radius: .5rem;
  padding: 1.1rem 1.25rem; margin-top: 1.25rem; overflow-x: auto; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem;
  margin: 0; }
dt { color: var(--quiet); font-size: .875rem; }
dd { margin: 0; font-size: 1.125rem; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .4rem .6rem; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--quiet); font-weight: 500; font-size: .875rem; }
th:first-child { text-align: left; padding-left: 0; } td:last-child, th:last-child
  { padding-right: 0; }
tbody th { font-weight: 500; }
small, .none { color: var(--quiet); } td.zero { color: var(--quiet); }
td.block { font-weight: 600; } td.unchecked { color: var(--bad); }
footer { margin-top: 1.5rem; color: var(--quiet); font-size: .875rem; } a { color: inherit; }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def render(
    state: GateState, metrics: Metrics, config: GateConfig, *, now: float, refresh: bool = False
) -> str:
    """Return the status page as HTML.

    Args:
        state: of the gate.
        metrics: of the gate, for the decisions of the last hour.
        config: of the gate.
        now: Unix time in seconds.
        refresh: whether the page loads itself again from time to time. Not by default: that takes
            readers of the screen back to its start (WCAG 2.2.1).
    """
    tone, sentence = _summary(state, config)
    alerts = _alerts(state, metrics, config)
    items = "".join(f'<li class="{tone}">{escape(text)}</li>' for tone, text in alerts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"{_REFRESH if refresh else ''}"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Gate: {escape(sentence)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f'<body>\n<main>\n<h1>nciihash gate</h1>\n<p class="state {tone}">{escape(sentence)}</p>\n'
        f"{f'<ul>{items}</ul>' if items else ''}\n"
        f"{_bank(state, now)}\n{_decisions(metrics.last_hour(), config)}\n{_load(state, config)}\n"
        f"<footer>{_STOP_LINK if refresh else _REFRESH_LINK} Counts are of the last hour, and "
        "start again at 0 with the gate. The full figures are at <code>/metrics</code>.</footer>\n"
        "</main>\n</body>\n</html>\n"
    )


def _summary(state: GateState, config: GateConfig) -> tuple[str, str]:
    if state.stale:
        if state.as_of is None:
            return "bad", "Uploads are not checked: the bank is not complete yet"
        return "bad", "Uploads are not checked: the bank is too old"
    if state.error is not None:
        return "warn", "Uploads are checked, and the feed cannot be followed at the moment"
    if all(settings.dry_run for settings in config.dialects.values()):
        return "warn", "Uploads are checked, and none is stopped: this is a dry run"
    return "good", "Uploads are checked"


def _alerts(state: GateState, metrics: Metrics, config: GateConfig) -> Iterator[tuple[str, str]]:
    """Yield what needs attention: its urgency, and a sentence."""
    if state.error is not None:
        yield "bad" if state.stale else "warn", state.error
    if state.floods:
        entries = _counted(state.floods, "entry", "entries")
        text = (
            f"Many unlike pictures match {entries} of the bank, which may be wrong. Such matches "
            "are reviewed instead of blocked. Decide about these reviews: the clearinghouse looks "
            "into entries that are not_blocked."
        )
        yield "bad", text
    if metrics.references_not_stored:
        decisions = _counted(metrics.references_not_stored, "decision")
        yield "bad", f"No reference for {decisions}: it could not be stored. Is the disk full?"
    if state.verdicts_waiting > _VERDICTS_MANY:
        verdicts = _counted(state.verdicts_waiting, "verdict")
        yield "warn", f"{verdicts} not sent yet: does the clearinghouse accept them?"
    if state.upload_memory > _NEARLY_FULL * config.limits.memory:
        yield "warn", "The memory for uploads is nearly full. Further ones are not checked then."
    for media, lane in state.lanes.items():
        if lane.waiting >= config.limits.queue:
            text = (
                f"The queue of {_LANES[media]} is full, and further ones are not checked. Use more "
                "child processes, or a faster level."
            )
            yield "warn", text
    for dialect, settings in config.dialects.items():
        if settings.dry_run:
            yield "warn", f"{dialect.value} is a dry run: everything is accepted and only counted."


def _bank(state: GateState, now: float) -> str:
    age = "never complete" if state.as_of is None else f"{_duration(now - state.as_of)} ago"
    return _figures(
        "Bank",
        ("Signals", f"{state.signals:,}"),
        ("Last up to date", age),
        ("Kind", "veiled" if state.veiled else "whole hashes"),
        ("State", "current" if state.current else "catching up"),
    )


def _decisions(last_hour: Mapping[Happened, int], config: GateConfig) -> str:
    rows = []
    for dialect in (dialect for dialect in Dialect if dialect in config.dialects):
        for dry_run in (False, True):
            counts = [last_hour.get(Happened(dialect, d, dry_run), 0) for d in Decision]
            if dry_run == config.dialects[dialect].dry_run or any(counts):
                name = f"{dialect.value} <small>would have been</small>"
                rows.append(_row(name if dry_run else dialect.value, counts))
    head = "".join(f'<th scope="col">{decision.value}</th>' for decision in Decision)
    return (
        # reached by keyboard, so that it can be scrolled on narrow screens
        '<section tabindex="0" aria-labelledby="decisions">\n'
        '<h2 id="decisions">Decisions of the last hour</h2>\n<table>\n'
        f'<thead><tr><th scope="col">Dialect</th>{head}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody>\n</table>\n</section>"
    )


def _row(name: str, counts: Sequence[int]) -> str:
    cells = "".join(
        f'<td class="{decision.value if count else "zero"}">{count:,}</td>'
        for decision, count in zip(Decision, counts, strict=True)
    )
    return f'<tr><th scope="row">{name}</th>{cells}</tr>'


def _load(state: GateState, config: GateConfig) -> str:
    lanes = []
    for media, lane in state.lanes.items():
        value = f"{lane.running:,} ({lane.waiting:,} waiting)"
        lanes.append((_LANES[media].capitalize(), value))
    deaths = sum(lane.deaths for lane in state.lanes.values())
    return _figures(
        "Now",
        *lanes,
        ("Memory of uploads", f"{_size(state.upload_memory)} of {_size(config.limits.memory)}"),
        ("Verdicts to send", f"{state.verdicts_waiting:,}"),
        ("Decoders that failed", f"{deaths:,}"),
    )


_LANES: Final = {Media.IMAGE: "pictures", Media.VIDEO: "videos"}


def _figures(title: str, *figures: tuple[str, str]) -> str:
    rows = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in figures)
    return f"<section>\n<h2>{title}</h2>\n<dl>{rows}</dl>\n</section>"


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def _duration(seconds: float) -> str:
    seconds = max(int(seconds), 0)
    for length, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * length:
            return _counted(seconds // length, name)
    return _counted(seconds, "second")


def _size(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"
