"""Every criterion with every granularity and every schedule: it runs, or it says in one line why it cannot."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import TINY_RUN
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from rs_prune.build import build
from rs_prune.errors import RsPruneError
from rs_prune.job import Job
from rs_prune.run import rehearse

CONF = Path(__file__).parents[1] / "conf"


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


CRITERIA, GRANULARITIES, SCHEDULES = options("criterion"), options("granularity"), options("schedule")
WEIGHTS = ("weights", "n_m")
RANK_WEIGHTS = {"l1", "random", "lamp", "hessian_diag"}
READ_GATES = {"attention", "cap", "attention_x_taylor", "correlation_learned"}
BUDGETS = {
    "weights": ("params", 0.5),
    "n_m": ("params", 0.5038),
    "neurons": ("params", 0.9),
    "layers": ("macs", 0.6),
    "bands": ("bands", 1),
}
"""Granularity -> a budget that it can reach on the tiny net; others take half of the multiply-adds."""


NO_BANDS = READ_GATES | {"bn_scale"}


def claimed(criterion: str, granularity: str, schedule: str) -> bool:
    """What is promised to run on a residual net with gates."""
    if granularity in WEIGHTS and criterion not in RANK_WEIGHTS:
        return False
    if granularity not in WEIGHTS and criterion == "lamp":
        return False
    if granularity == "bands":
        masks = schedule in ("gradual", "soft", "dynamic")  # bands are not masked
        return criterion not in NO_BANDS and not masks
    if granularity == "neurons" and criterion in READ_GATES:
        return False  # hidden units have none
    if granularity == "n_m":
        return schedule in (
            "one_shot",
            "rewind",
            "soft",
            "from_scratch",
        )  # one pattern: no steps towards it, nothing to exchange
    return not (granularity == "layers" and schedule in ("gradual", "soft", "dynamic"))  # blocks are not masked


def words(criterion: str, granularity: str) -> list[str]:
    budget, keep = BUDGETS.get(granularity, ("macs", 0.5))
    attention = "correlation" if criterion == "correlation_learned" else "se"
    return [
        f"criterion={criterion}", f"granularity={granularity}", f"attention={attention}", f"budget={budget}",
        f"budget.{'count' if budget == 'bands' else 'keep'}={keep}", "finetune_epochs=3",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, scene_folder: Path) -> Iterator[Callable[..., Job]]:
    """A job of the tiny net with these choices; nets and scenes are made once."""
    out = tmp_path_factory.mktemp("matrix")
    made: dict[str, Job] = {}

    def job(criterion: str, granularity: str, schedule: str) -> Job:
        budget, keep = BUDGETS.get(granularity, ("macs", 0.5))
        attention = "correlation" if criterion == "correlation_learned" else "se"
        if attention not in made:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                given = [*TINY_RUN, f"dataset.root={scene_folder}", f"attention={attention}", f"out={out}"]
                cfg = compose("run", [*given, "finetune_epochs=3"], return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            with open_dict(cfg):
                del cfg["hydra"]
            made[attention] = Job(cfg)
        found = made[attention]
        for group, name in (("criterion", criterion), ("granularity", granularity), ("schedule", schedule)):
            setattr(found, group, build(OmegaConf.load(CONF / group / f"{name}.yaml"), group))
        limit = {"count": keep} if budget == "bands" else {"keep": keep}
        found.budget = build(OmegaConf.load(CONF / "budget" / f"{budget}.yaml"), "budget", **limit)
        if budget == "bands":
            found.budget = found.budget.of(found.data.scenes.bands)
        vars(found).pop("dense_cost", None)
        return found

    yield job


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_whole_matrix_is_planned_or_refused(criterion: str, granularity: str, jobs: Callable[..., Job]) -> None:
    """The rehearsal: the whole schedule on the untrained net, before any training."""
    for schedule in SCHEDULES:
        try:
            rehearse(jobs(criterion, granularity, schedule))
        except RsPruneError as refusal:
            assert not claimed(criterion, granularity, schedule), f"{schedule}: {refusal}"
            assert str(refusal)
            assert "\n" not in str(refusal)
        else:
            assert claimed(criterion, granularity, schedule), f"{schedule} was not refused"


def sweep(rs_prune: Callable[..., Any], scenes: Path, *given: str) -> list[dict[str, Any]]:
    done = rs_prune("run", "-m", *TINY_RUN, f"dataset.root={scenes}", *given)
    assert done.status == 0, done.err
    return [json.loads(path.read_text()) for path in sorted(Path("outputs/records").glob("*.json"))]


@pytest.mark.parametrize("granularity", ["channels", "weights"])  # what differs elsewhere the rehearsals above see
def test_every_criterion_runs(granularity: str, rs_prune: Callable[..., Any], scene_folder: Path) -> None:
    mine = [name for name in CRITERIA if name != "correlation_learned"]
    records = sweep(rs_prune, scene_folder, *words("l1", granularity), f"criterion={','.join(mine)}")
    assert {record["choices"]["criterion"]: record["status"] == "finished" for record in records} == {
        name: claimed(name, granularity, "one_shot") for name in mine
    }
    check(records)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_every_schedule_runs_with_every_granularity(
    granularity: str, rs_prune: Callable[..., Any], scene_folder: Path
) -> None:
    records = sweep(rs_prune, scene_folder, *words("l1", granularity), f"schedule={','.join(SCHEDULES)}")
    assert {record["choices"]["schedule"]: record["status"] == "finished" for record in records} == {
        name: claimed("l1", granularity, name) for name in SCHEDULES
    }
    check(records)


def check(records: list[dict[str, Any]]) -> None:
    """What was pruned costs what was planned, within the budget, and was fine-tuned for all its epochs."""
    for record in records:
        if record["status"] != "finished":
            assert record["reason"]
            continue
        words, cost = record["choices"], record["cost"]
        left = {
            "params": cost["pruned"]["nonzero"],
            "macs": cost["pruned"]["sparse_macs"],
            "bands": cost["pruned"]["bands"],
        }[words["budget"]]
        assert words["keep"] - 0.0101 <= left / cost["dense"][words["budget"]] <= words["keep"] + 1e-9
        spent = sum(len(history) for history in record["training"]["finetune"])
        scratch = words["schedule"] in ("soft", "dynamic", "from_scratch")
        assert spent == words["finetune_epochs"] + (words["epochs"] if scratch else 0)
        assert (record["checks"]["mask_error"] or 0) < 1e-3
        assert (record["checks"]["mask_error"] is None) == (words["granularity"] in WEIGHTS)


def test_a_learned_correlation_needs_its_own_gates(rs_prune: Callable[..., Any], scene_folder: Path) -> None:
    chosen = itertools.chain(words("correlation_learned", "channels"), ["attention=correlation,se"])
    records = sweep(rs_prune, scene_folder, *chosen)
    assert {r["choices"]["attention"]: r["status"] for r in records} == {"correlation": "finished", "se": "skipped"}
