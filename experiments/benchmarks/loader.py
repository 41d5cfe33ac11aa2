"""Images per second that reach the trainer, beside torchvision's ImageFolder with a DataLoader, on all of EuroSAT.

Both deliver normalised float batches of 32, mirrored and turned by quarter turns. The other side has two workers and
the fastest of a few settings, found first on a part of the set; its workers augment bytes, and whole batches become
floats, which is faster than doing so image by image. Its main process has one thread, which is best beside two workers;
ours has no workers once the cache is made, and as many threads as PyTorch takes by itself. The first epoch begins with
nothing: folders are listed, workers started, and on our side everything is hashed, decoded and written to a new cache.
Later epochs have all that behind them. The sides alternate, and ratios of the medians count; processor time is noted
too, as a busy machine gives three processes more of itself than one. The image files are in the system's page cache
throughout. Last, a narrow ResNet trains, and the share of a step that it waits for its batch is measured (a later
epoch).

    RS_PRUNE_DATA=... python experiments/benchmarks/loader.py
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import functional as tv

from rs_prune.contracts import Split
from rs_prune.dataset.eurosat import EuroSAT
from rs_prune.results.provenance import hardware
from rs_prune.scenes.load import _load, load
from rs_prune.training.datamodule import SceneData

ROOT = Path(os.environ["RS_PRUNE_DATA"]) / "eurosat_rgb"
BATCH = 32
ROUNDS = 5
STEPS = 60
THREADS = torch.get_num_threads()
SHARES = {"train": 0.6, "val": 0.1, "test": 0.3}


def ours(cache: Path) -> SceneData:
    """The data module with every image in its training part."""
    _load.cache_clear()
    found = load(EuroSAT(root=str(ROOT)), identity="benchmark", shares=SHARES, seed=0, cache=cache)
    everything = Split(train=tuple(range(len(found.scenes.files))), val=found.parts.val, test=found.parts.test)
    return SceneData.of(
        replace(found, parts=everything),
        batch_size=BATCH,
        seed=0,
        flips=True,
        rotations=True,
    )


def delivered(data: SceneData, epoch: int) -> Iterator[Tensor]:
    torch.set_num_threads(THREADS)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    for batch in loader:
        yield data._prepare(batch)["image"]


def augment(image: Tensor) -> Tensor:
    turns, mirror = torch.randint(4, (2,)).tolist()
    image = torch.rot90(image, turns, (1, 2))
    return (image.flip(2) if mirror % 2 else image).contiguous()


def with_torchvision(path: str) -> Tensor:
    return decode_image(path, mode=ImageReadMode.RGB)


def theirs(decoder: str, prefetch: int, images: int | None = None) -> DataLoader[Any]:
    if decoder == "PIL":
        found = ImageFolder(str(ROOT), transform=lambda image: augment(tv.pil_to_tensor(image)))
    else:
        found = ImageFolder(str(ROOT), transform=augment, loader=with_torchvision)
    part = found if images is None else Subset(found, range(0, len(found), len(found) // images))
    return DataLoader(
        part, batch_size=BATCH, shuffle=True, num_workers=2, prefetch_factor=prefetch, persistent_workers=True
    )


def of_theirs(loader: DataLoader[Any]) -> Iterator[Tensor]:
    torch.set_num_threads(1)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (EuroSAT.mean, EuroSAT.std))
    for image, _ in loader:
        image = image.float().div_(255).sub_(mean).div_(std)
        yield image.contiguous(memory_format=torch.channels_last)


def processor() -> float:
    """Processor seconds of this process, of the workers it has now, and of those that have ended."""
    ended = os.times()
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ended.children_user + ended.children_system + ticks / os.sysconf("SC_CLK_TCK")


def cost(batches: Callable[[], Iterator[Tensor]], costs: list[float]) -> float:
    """The rate; processor microseconds an image are noted in `costs`."""
    before, started, images = processor(), time.perf_counter(), 0
    for batch in batches():
        images += len(batch)
        if images == 27_000:
            costs.append((processor() - before) / images * 1e6)
    return images / (time.perf_counter() - started)


def rate(batches: Callable[[], Iterator[Tensor]]) -> float:
    started, images = time.perf_counter(), 0
    for batch in batches():
        images += len(batch)
    return images / (time.perf_counter() - started)


def best_setting() -> tuple[tuple[str, int], dict[str, float]]:
    """Rates of a second epoch over 3,000 images, and the setting that has the highest."""
    rates = {}
    for decoder in ("PIL", "torchvision"):
        for prefetch in (2, 8):
            loader = theirs(decoder, prefetch, images=3000)
            rate(lambda loader=loader: of_theirs(loader))
            rates[decoder, prefetch] = rate(lambda loader=loader: of_theirs(loader))
    return max(rates, key=lambda key: rates[key]), {f"{key[0]}, prefetch {key[1]}": rates[key] for key in rates}


def waiting(data: SceneData, threads: int) -> dict[str, float]:
    """Median milliseconds of a training step in a later epoch, and of the wait for its batch."""
    torch.set_num_threads(threads)
    kwargs = {"stem_width": 16, "channels": [32, 64, 128, 256]}
    net = timm.create_model("resnet10t", num_classes=10, **kwargs).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for _ in data.train_dataloader():
        pass  # the first epoch is over: the array is mapped
    loader = iter(data.train_dataloader())
    waits: dict[str, list[float]] = {"wall": [], "processor": []}
    steps: dict[str, list[float]] = {"wall": [], "processor": []}
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    for _ in range(STEPS):
        started = {name: clock() for name, clock in clocks.items()}
        batch = data._prepare(next(loader))
        for name, clock in clocks.items():
            waits[name].append(clock() - started[name])
        optimizer.zero_grad()
        F.cross_entropy(net(batch["image"]), batch["label"]).backward()
        optimizer.step()
        for name, clock in clocks.items():
            steps[name].append(clock() - started[name])
    found = {}
    for name in clocks:
        wait, step = statistics.median(waits[name][5:]), statistics.median(steps[name][5:])
        found |= {f"{name}_step_ms": step * 1e3, f"{name}_wait_ms": wait * 1e3, f"{name}_share": wait / step}
    return found


def main() -> None:
    for path in ROOT.glob("*/*.jpg"):
        path.read_bytes()  # into the page cache
    setting, settings = best_setting()
    rates: dict[str, list[float]] = {"ours_first": [], "theirs_first": [], "ours_later": [], "theirs_later": []}
    costs: dict[str, list[float]] = {key: [] for key in rates}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            made: dict[str, Any] = {}

            def first_of_ours(number: int = number, made: dict[str, Any] = made) -> Iterator[Tensor]:
                made["ours"] = ours(Path(folder) / str(number))
                yield from delivered(made["ours"], 0)

            def first_of_theirs(made: dict[str, Any] = made) -> Iterator[Tensor]:
                made["theirs"] = theirs(*setting)
                yield from of_theirs(made["theirs"])

            rates["ours_first"].append(cost(first_of_ours, costs["ours_first"]))
            rates["theirs_first"].append(cost(first_of_theirs, costs["theirs_first"]))
            rates["ours_later"].append(cost(lambda made=made: delivered(made["ours"], 1), costs["ours_later"]))
            rates["theirs_later"].append(cost(lambda made=made: of_theirs(made["theirs"]), costs["theirs_later"]))
            print({key: round(values[-1]) for key, values in rates.items()}, flush=True)
        started = time.perf_counter()
        data = ours(Path(folder) / "0")
        found_s = time.perf_counter() - started
        waits = {f"threads_{threads}": waiting(data, threads) for threads in (1, 2)}
    medians = {key: statistics.median(values) for key, values in rates.items()}
    result = {
        "images": 27_000,
        "size": 64,
        "batch": BATCH,
        "page_cache": "warm",
        "their_settings_images_per_s": settings,
        "their_setting": f"{setting[0]}, prefetch {setting[1]}, 2 workers",
        "images_per_s": rates,
        "median_images_per_s": medians,
        "median_processor_us_per_image": {key: statistics.median(values) for key, values in costs.items()},
        "ratio_first": medians["ours_first"] / medians["theirs_first"],
        "ratio_later": medians["ours_later"] / medians["theirs_later"],
        "cache_found_s": found_s,
        "resnet_narrow": waits,
        "load_average": os.getloadavg()[0],
        "hardware": hardware(torch.device("cpu")),
        "torch": torch.__version__,
    }
    print(json.dumps(result, indent=1))
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
