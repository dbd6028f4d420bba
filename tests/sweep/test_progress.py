"""What a sweep says while it runs and at its end."""

import io
import threading
import time

from rich.console import Console

from pvsc_link.sweep import progress
from pvsc_link.sweep.progress import _Lines, shown_progress


def console():
    return Console(file=io.StringIO(), force_terminal=False, width=60)


def test_without_a_terminal_a_line_per_minute_tells_stage_and_time_left():
    shown, now = console(), [0.0]
    lines = _Lines(shown, clock=lambda: now[0])
    for second in range(0, 301, 5):
        now[0] = float(second)
        lines(10 + second // 30, 30, "x265: carphone over awgn 6 dB")
        if second and second % 60 == 0:
            lines.show()
    said = shown.file.getvalue().splitlines()
    assert said[0] == "12 of 30 rows after 60 s, about 9 min left: x265: carphone over awgn 6 dB"
    assert said[-1].startswith("20 of 30 rows after 5 min, about 5 min left")


def test_no_time_is_told_before_a_row_is_finished():
    shown, now = console(), [0.0]
    lines = _Lines(shown, clock=lambda: now[0])
    lines.show()
    lines(0, 4, "encode")
    now[0] = 61.0
    lines.show()
    assert shown.file.getvalue() == "0 of 4 rows after 61 s: encode\n"


def test_a_stage_that_lasts_is_told_while_it_lasts(monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    shown = console()
    with shown_progress(shown, 4) as report:
        report(0, 4, "x265: block error rates for the MCS over awgn 6 dB")
        while "block error rates" not in shown.file.getvalue():  # no further call
            time.sleep(0.01)
    threads = [thread.name for thread in threading.enumerate()]
    assert "progress" not in threads


def test_a_terminal_shows_a_bar():
    shown = Console(file=io.StringIO(), force_terminal=True, width=100)
    with shown_progress(shown, 4) as report:
        report(1, 4, "a [name] with brackets")
    assert "a [name] with brackets" in shown.file.getvalue()
    assert "1/4" in shown.file.getvalue()
