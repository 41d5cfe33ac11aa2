"""Where a result came from: times that add up."""

from __future__ import annotations

import pytest

from rs_prune.results import provenance
from rs_prune.results.provenance import Clock


def test_what_runs_within_another_stage_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 10.0, 13.0, 20.0, 30.0, 31.0])
    monkeypatch.setattr(provenance.time, "monotonic", lambda: next(moments))
    times: dict[str, float] = {}
    running: list[str] = []
    with Clock(times, "finetune", running), Clock(times, "plan", running):
        pass
    with Clock(times, "plan", running):
        pass
    assert times == {"finetune": 17.0, "plan": 4.0}
    assert running == []
