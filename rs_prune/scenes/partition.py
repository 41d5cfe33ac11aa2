"""The ways to divide a set into parts: by content within classes, by blocks of neighbours, by lists."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence

from rs_prune.contracts import Scenes
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.scenes.blocks import assign, cells, centres, joined

log = logging.getLogger("rs_prune")


def by_content(
    scenes: Scenes, digests: Sequence[str], shares: dict[str, float], seed: int, among: Sequence[int] | None = None
) -> dict[str, list[int]]:
    """Within every class by the rank of the content. `among`: the images to divide; None: all."""
    indices = range(len(digests)) if among is None else among
    first_label: dict[str, int] = {}
    members: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index in indices:
        digest, label = digests[index], scenes.labels[index]
        first_label[digest] = min(label, first_label.get(digest, label))
    for index in indices:
        members[first_label[digests[index]]][digests[index]].append(index)

    parts: dict[str, list[int]] = {part: [] for part in shares}
    for label, name in enumerate(scenes.classes):
        of_class = members[label]
        ordered = sorted(of_class, key=lambda digest: rank(seed, digest))
        sizes = _sizes(sum(map(len, of_class.values())), shares)
        if len(ordered) < len(shares) or min(sizes.values()) < 1:
            raise RsPruneError(
                f"class {name}: {len(ordered)} different images are too few to split "
                f"{'/'.join(f'{share:g}' for share in shares.values())}; add images or change "
                f"{', '.join(f'split.{part}' for part in shares)}"
            )
        queue = iter(ordered)
        for part in shares:
            taken: list[int] = []
            while len(taken) < sizes[part] and (unit := next(queue, None)) is not None:
                taken += of_class[unit]
            parts[part] += taken
    return parts


def by_block(
    scenes: Scenes, digests: Sequence[str], shares: dict[str, float], seed: int, block_km: float
) -> dict[str, list[int]]:
    """Whole blocks of neighbouring scenes; those that hold identical images count as one."""
    if not 0 < block_km <= 5000:
        raise RsPruneError(f"split.block_km={block_km:g}: must lie between 0 and 5000 kilometres")
    blocks = joined(cells(centres(scenes), block_km), digests)
    homes = assign(blocks, scenes.labels, shares, seed)
    parts = {part: [index for index, home in enumerate(homes) if home == part] for part in shares}
    for part, members in parts.items():
        held = {scenes.labels[index] for index in members}
        for label, name in enumerate(scenes.classes):
            if label not in held:
                own = {block for block, of in zip(blocks, scenes.labels, strict=True) if of == label}
                raise RsPruneError(
                    f"class {name}: none of its {scenes.labels.count(label)} images came into the {part} part: they "
                    f"lie in {len(own)} blocks of {block_km:g} km; set a smaller split.block_km"
                )
    reached = ", ".join(f"{part} {len(members) / len(homes):.1%}" for part, members in parts.items())
    log.info("%s: %d blocks of %g km: %s", scenes.root, len(set(blocks)), block_km, reached)
    return parts


def by_lists(scenes: Scenes, digests: Sequence[str], val: float, seed: int) -> dict[str, list[int]]:
    """The lists that came with the set; a validation part is carved out of training where they have none."""
    if not scenes.parts:
        raise DoesNotApply(f"split=lists: {scenes.name} brings no lists along; choose split=default")
    parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for index, file in enumerate(scenes.files):
        parts[scenes.parts[file]].append(index)
    for part in ("train", "test"):
        if not parts[part]:
            raise DoesNotApply(f"split=lists: the lists of {scenes.name} have no {part} part; use split=default")
    if not 0 <= val < 1:
        raise RsPruneError(f"split.val={val:g}: must be at least 0 and below 1")
    if not parts["val"] and val > 0:
        parts |= by_content(scenes, digests, {"train": 1 - val, "val": val}, seed, parts["train"])
    sides: dict[str, set[str]] = defaultdict(set)
    for part, members in parts.items():
        for index in members:
            sides[digests[index]].add(part)
    if torn := Counter(" and ".join(part for part in parts if part in on) for on in sides.values() if len(on) > 1):
        said = ", ".join(f"{count} in {where}" for where, count in sorted(torn.items()))
        log.warning("%s: the published lists have identical images in several parts: %s", scenes.root, said)
    return parts


def rank(seed: int, digest: str) -> str:
    return hashlib.sha256(f"{seed}/{digest}".encode()).hexdigest()


def _sizes(count: int, shares: dict[str, float]) -> dict[str, int]:
    """Whole numbers that sum to `count`, by largest remainder."""
    exact = {part: share * count for part, share in shares.items()}
    sizes = {part: int(value + 1e-9) for part, value in exact.items()}
    for part in sorted(shares, key=lambda part: sizes[part] - exact[part])[: count - sum(sizes.values())]:
        sizes[part] += 1
    return sizes
