"""How far the reduced training moves a net from where it began, and so what a ranking of its filters can know.

For the SE-trained dense nets of `experiment=remotetrimmer_table1 scale=cpu` (from its cache, or trained now) and every
convolution: Spearman's rho of the filters' L1 norms before and after training, the weights' relative change, and the
spread of the scales of the norm behind it, which all begin at 1. Writes initial.csv; prints the means.

    RS_PRUNE_DATA=... python experiments/remotetrimmer_table1/initial.py [cache]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from scipy.stats import spearmanr
from torch import Tensor, nn

from rs_prune.job import Job
from rs_prune.pruning.gate import bare
from rs_prune.run import dense_net
from rs_prune.sweep import arms
from rs_prune.usage import conf_folder

CACHE = "outputs/remotetrimmer_table1/cpu/cache"


def nets(seed: int, cache: str) -> tuple[nn.Module, nn.Module]:
    """The net of a seed as it began, and trained, without its gates."""
    words = ["experiment=remotetrimmer_table1", "scale=cpu", "only=se_l1", f"cache={cache}", f'words="seed={seed}"']
    (arm,) = arms(compose("reproduce", words))
    cfg = compose("run", list(arm.words), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    job = Job(cfg)
    return job.bare_net(), bare(dense_net(job)[0]).cpu()


def l1(weight: Tensor) -> Tensor:
    return weight.abs().flatten(1).sum(1)


def main(cache: str = CACHE) -> None:
    found = []
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        for seed in (0, 1, 2):
            before, after = nets(seed, cache)
            began, trained = before.state_dict(), after.state_dict()
            for name, weight in began.items():
                if weight.ndim != 4:
                    continue
                now = trained[name]
                norm = trained[name.replace("conv", "bn").replace("downsample.0", "downsample.1")]
                rho = float(spearmanr(l1(weight), l1(now)).statistic)
                change = float((now - weight).norm() / weight.norm())
                found.append((seed, name.removesuffix(".weight"), rho, change, float(norm.std())))
    table = pd.DataFrame(found, columns=["seed", "layer", "rho_l1", "relative_change", "scale_std"])
    table.to_csv(Path(__file__).with_name("initial.csv"), index=False)
    print(table.groupby("seed")[["rho_l1", "relative_change", "scale_std"]].agg(["mean", "min", "max"]).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
