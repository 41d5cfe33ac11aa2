"""Iterative pruning and rewinding: what is planned on which net, and how long each round trains."""

from __future__ import annotations

import torch
from torch import nn

from rs_prune.contracts import Verbs
from rs_prune.deploy.artifact import save_weights
from rs_prune.pruning.gate import gates
from rs_prune.pruning.surgery import plan_from, replay
from rs_prune.schedule.from_scratch import FromScratch
from rs_prune.schedule.iterative import Iterative
from rs_prune.schedule.rewind import Rewind
from rs_prune.training.callbacks import EARLY


class Named(nn.Module):
    """A net that knows what happened to it."""

    def __init__(self, past: str) -> None:
        super().__init__()
        self.past = past


def told(schedule: object, keep: float, epochs: int) -> tuple[str, list[tuple[int, float | None]]]:
    """The past of the net that a schedule returns, and (epochs, lr_factor) of its fits."""
    fits = []

    def fit(net: Named, epochs: int, callbacks: object = (), lr_factor: float | None = None) -> Named:
        fits.append((epochs, lr_factor))
        net.past += f" fit{epochs}"
        return net

    def plan(net: Named, keep: float) -> str:
        return f"<{net.past}: {keep:g}>"

    do = Verbs(
        plan=plan, remove=lambda net, plan: Named(f"{net.past} -{plan}"), mask=None, masked=None,
        detach=lambda net: Named(f"{net.past} detach"), bare=lambda net: Named(f"{net.past} bare"), fit=fit,
        settle=None, early=lambda: Named("early"), keep=keep, epochs=epochs,
    )  # type: ignore[arg-type]  # fmt: skip
    return schedule(Named("net"), do).past, fits  # type: ignore[operator]


def test_each_iteration_plans_on_the_net_as_it_is_then() -> None:
    past, fits = told(Iterative(rounds=2), 0.25, 5)
    assert past == "net -<net: 0.5> fit2 -<net -<net: 0.5> fit2: 0.25> detach fit3"
    assert fits == [(2, None), (3, None)]


def test_a_net_from_scratch_loses_its_untrained_gates_as_they_are() -> None:
    assert told(FromScratch(), 0.5, 4) == ("net -<net: 0.5> bare fit4", [(4, 1.0)])


def test_rewinding_cuts_the_early_net_by_the_plan_of_the_trained_one() -> None:
    assert told(Rewind(), 0.3, 4) == ("early -<net: 0.3> detach fit4", [(4, 1.0)])


def test_rewinding_the_learning_rate_keeps_the_trained_weights() -> None:
    past, fits = told(Rewind(weights=False, rounds=2), 0.25, 4)
    assert past == "net -<net: 0.5> fit2 -<net -<net: 0.5> fit2: 0.25> detach fit2"
    assert fits == [(2, 1.0), (2, 1.0)]


def test_rewinding_in_rounds_cuts_the_early_net_by_all_plans_so_far_and_trains_copies_of_it() -> None:
    past, fits = told(Rewind(rounds=3), 0.125, 4)
    first = "<net: 0.5>"
    second = f"<early -{first} fit1: 0.25>"
    third = f"<early -{first} -{second} fit1: 0.125>"
    assert past == f"early -{first} -{second} -{third} detach fit2"
    assert fits == [(1, 1.0), (1, 1.0), (2, 1.0)]


def test_gates_stay_through_the_rounds_and_the_plans_rebuild_the_net(bench, monkeypatch) -> None:
    place = bench(Iterative(rounds=2), gated=True, epochs=3, keep=0.4)
    gated = []
    fit = place.do.fit

    def spy(net: nn.Module, *rest: object, **options: object) -> nn.Module:
        gated.append(len(list(gates(net))))
        return fit(net, *rest, **options)

    object.__setattr__(place.do, "fit", spy)
    small = Iterative(rounds=2)(place.net, place.do)
    assert gated == [3, 0]
    assert [len(history) for history in place.notes.history] == [1, 2]
    shares = [plan["predicted"]["macs"] / place.dense for plan in place.notes.plans]
    assert 0.6 <= shares[0] <= 0.4**0.5
    assert 0.39 <= shares[1] <= 0.4
    assert sum(parameter.numel() for parameter in small.parameters()) == place.notes.plans[1]["predicted"]["params"]
    bare_net = bench(Iterative()).net
    rebuilt = replay(bare_net, place.notes.plans, place.data.example())
    rebuilt.load_state_dict(small.state_dict(), strict=True)


def test_rewound_nets_start_from_the_early_weights(bench) -> None:
    place = bench(Rewind(), epochs=0)
    early = bench(Rewind()).net
    with torch.no_grad():
        for parameter in early.parameters():
            parameter.mul_(1.5)
    (place.folder / "dense").mkdir()
    save_weights(early, place.folder / "dense" / EARLY)
    plan = place.do.plan(place.net, place.do.keep)
    cut = place.do.remove(place.do.early(), plan)
    expected = replay(early, [plan.as_json()], place.data.example())
    assert all(torch.equal(a, b) for a, b in zip(cut.parameters(), expected.parameters(), strict=True))
    assert plan_from(plan.as_json()).edits == plan.edits
