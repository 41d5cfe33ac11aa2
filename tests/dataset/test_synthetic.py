"""The default data set: what it writes, that it writes it whole, and that structure alone tells the classes apart."""

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import timm
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from rs_prune.dataset import synthetic
from rs_prune.dataset.synthetic import Synthetic
from rs_prune.errors import RsPruneError

CONF = Path(__file__).parents[2] / "conf" / "dataset" / "synthetic.yaml"


def small(root, **settings):
    return Synthetic(root=str(root), **{"images_per_class": 3, **settings})


def digests(root):
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*.tif")}


def test_lists_every_scene_under_its_class(tmp_path):
    scenes = small(tmp_path / "s")()
    assert len(scenes.classes) == 8
    assert scenes.classes == tuple(sorted(scenes.classes))
    assert scenes.files == tuple(sorted(p.relative_to(scenes.root).as_posix() for p in scenes.root.rglob("*.tif")))
    assert [scenes.classes[label] for label in scenes.labels] == [file.split("/")[0] for file in scenes.files]
    assert len(scenes.files) == 24
    assert scenes.mean is None and scenes.std is None  # not the default settings


def test_scenes_are_geotiffs_side_by_side(tmp_path):
    scenes = small(tmp_path / "s", size=32)()
    corners = set()
    for file in scenes.files:
        with rasterio.open(scenes.root / file) as scene:
            assert scene.crs.to_epsg() == 32633
            assert (scene.count, scene.height, scene.width, scene.dtypes) == (3, 32, 32, ("uint8",) * 3)
            assert scene.res == (10, 10)
            assert scene.transform.e == -10
            corners.add((scene.bounds.left, scene.bounds.top))
    assert len(corners) == len(scenes.files)
    assert all((x - 400_000) % 320 == 0 and (y - 5_500_000) % 320 == 0 for x, y in corners)


def test_same_settings_same_bytes_and_other_settings_others(tmp_path):
    first, again = digests(small(tmp_path / "a")().root), digests(small(tmp_path / "b")().root)
    assert first == again
    assert len(set(first.values())) == len(first)
    more = digests(small(tmp_path / "c", images_per_class=4)().root)
    assert first.items() < more.items()  # more scenes leave the first ones as they were
    for n, other in enumerate(({"seed": 1}, {"difficulty": 0.5})):
        assert not set(first.values()) & set(digests(small(tmp_path / f"d{n}", **other)().root).values())


def test_folder_follows_the_settings(tmp_path):
    assert Synthetic().folder() == Synthetic(on_error="skip").folder()
    folders = {Synthetic(**{name: 20}).folder() for name in ("images_per_class", "size", "seed", "difficulty")}
    assert len(folders | {Synthetic().folder()}) == 5
    assert Synthetic(root=str(tmp_path)).folder() == tmp_path


def test_yaml_names_every_argument_with_its_default():
    config = OmegaConf.to_container(OmegaConf.load(CONF))
    assert config.pop("_target_") == "rs_prune.dataset.synthetic.Synthetic"
    assert config == vars(Synthetic())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch, error):
    drawn = []

    def stumble(*args):
        drawn.append(args)
        if len(drawn) == 10:
            raise error
        return np.zeros((3, 64, 64), np.uint8)

    monkeypatch.setattr(synthetic, "draw", stumble)
    with pytest.raises(error):
        small(tmp_path / "s")()
    assert [p.name for p in tmp_path.iterdir()] in ([], ["s.lock"])
    monkeypatch.undo()
    assert len(digests(small(tmp_path / "s")().root)) == 24


def start(root):
    code = (
        "import logging, sys; logging.basicConfig(level=logging.INFO)\n"
        "from rs_prune.dataset.synthetic import Synthetic\n"
        f"print(len(Synthetic(root={str(root)!r}, images_per_class=30)().files))"
    )
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True, cwd=CONF.parents[2])


def test_two_processes_at_once_and_one_killed(tmp_path):
    root = tmp_path / "s"
    killed = start(root)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("s.partial/*/*.tif")) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (tmp_path / "s.partial").exists()
    assert not root.exists()
    both = [start(root), start(root)]
    said = [process.communicate() for process in both]
    assert [out.strip() for out, _ in said] == ["240", "240"]
    assert sum(err.count("generating 240 scenes") for _, err in said) == 1
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "s.lock") == ["s"]
    assert digests(root) == digests(small(tmp_path / "alone", images_per_class=30)().root)


def test_an_empty_folder_is_filled_and_a_second_call_only_looks(tmp_path, monkeypatch):
    small(tmp_path)()
    monkeypatch.setattr(synthetic, "draw", None)
    assert len(small(tmp_path)().files) == 24


def test_refuses_a_folder_that_holds_something_else(tmp_path):
    root = small(tmp_path / "s")().root
    with pytest.raises(RsPruneError, match=r"holds other files.*dataset\.root"):
        small(root, seed=1)()
    next(root.rglob("*.tif")).unlink()
    with pytest.raises(RsPruneError, match="holds other files"):
        small(root)()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(RsPruneError, match="holds other files"):
        small(tmp_path / "mine")()
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("wrong", [{"images_per_class": 0}, {"size": 8}, {"difficulty": 3}, {"seed": -1}])
def test_refuses_settings_out_of_range(tmp_path, wrong):
    with pytest.raises(RsPruneError, match=next(iter(wrong))):
        small(tmp_path / "s", **wrong)()
    assert not (tmp_path / "s").exists()


def test_says_where_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RsPruneError, match=r"cannot keep scenes here.*dataset\.root"):
        small(tmp_path / "file" / "s")()


# ------------------------------------------------------------------------- the default scenes


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    scenes = Synthetic(root=str(tmp_path_factory.mktemp("synthetic") / "s"))()
    return scenes, np.stack([rasterio.open(scenes.root / file).read() for file in scenes.files])


def halves(labels):
    train = np.arange(len(labels)) % 5 < 3
    return np.flatnonzero(train), np.flatnonzero(~train)


def colour_accuracy(images, labels):
    """The better of logistic regression and nearest class mean, on the mean and deviation of each band."""
    bands = images.reshape(len(images), 3, -1) / 255
    features = np.concatenate([bands.mean(2), bands.std(2)], 1)
    train, test = halves(labels)
    features = (features - features[train].mean(0)) / features[train].std(0)
    centres = np.stack([features[train][labels[train] == c].mean(0) for c in range(8)])
    nearest = np.linalg.norm(features[test][:, None] - centres, axis=2).argmin(1)
    x, y = torch.tensor(features, dtype=torch.float32), torch.tensor(labels)
    weight, bias = torch.zeros(6, 8, requires_grad=True), torch.zeros(8, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(x[train] @ weight + bias, y[train])
        loss.backward()
        return loss

    optimizer.step(closure)
    logistic = (x[test] @ weight + bias).argmax(1).detach().numpy()
    return max((nearest == labels[test]).mean(), (logistic == labels[test]).mean())


def test_declared_statistics_are_those_of_the_default_scenes(default):
    scenes, images = default
    assert scenes.mean == pytest.approx((images / 255).mean((0, 2, 3)), abs=1e-3)
    assert scenes.std == pytest.approx((images / 255).std((0, 2, 3)), abs=1e-3)


def test_colour_alone_is_a_weak_classifier(default):
    scenes, images = default
    labels = np.array(scenes.labels)
    assert 0.3 < colour_accuracy(images, labels) < 0.6
    tinted = np.clip(images.astype(float) + 60 * labels[:, None, None, None] - 120, 0, 700)
    assert colour_accuracy(tinted, labels) > 0.75  # it would have told, had colour carried the class


def test_structure_is_learnable(default):
    scenes, images = default
    labels, threads = np.array(scenes.labels), torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train, test = halves(labels)
    x = (torch.tensor(images) / 255 - 0.37) / 0.12
    y = torch.tensor(labels)
    net = timm.create_model("resnet10t", num_classes=8, stem_width=8, channels=(16, 32, 64, 128))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = [batch for _ in range(5) for batch in torch.tensor(train)[torch.randperm(len(train))].split(32)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=len(steps))
    for batch in steps:
        turned = torch.rot90(x[batch], int(torch.randint(4, ())), (2, 3))
        optimizer.zero_grad()
        F.cross_entropy(net(turned), y[batch]).backward()
        optimizer.step()
        schedule.step()
    torch.set_num_threads(threads)
    net.eval()
    with torch.no_grad():
        accuracy = (net(x[test]).argmax(1) == y[test]).float().mean().item()
    assert accuracy > 0.7
    assert accuracy > colour_accuracy(images, labels) + 0.15
