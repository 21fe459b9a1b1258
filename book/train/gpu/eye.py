"""The eye and the codes: a GridEncoder that learns labels, parts and looks, then k-means on what it sees.

Shape and colour have numbers of their own in a feature, as in Storybook: the shape's learn type, part, gender,
pattern and a small grey sketch of the cell; the colour's learn the basic colour and the cell's mean in CIE Lab. The
heads are those of the catalogue's eye; what teaches looks is left behind. Gaussian noise on the features pushes unlike
cells apart before they are quantised.
Axes: B batch, N cells, g grid, F feature width, S pixels, M pictures, K codes.
"""

import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from book.train.gpu.common import (
    Clock,
    Data,
    Record,
    autocast,
    draw,
    jitter,
    save_tensors,
    say,
    to_unit,
    train,
)
from book.train.gpu.networks import unpack
from xlxmert_core import checkpoints
from xlxmert_core.data.arrays import product_table
from xlxmert_core.data.catalogue import LABELS
from xlxmert_core.data.catalogue.pictures import COVERED
from xlxmert_core.datasets.base import UNLABELLED
from xlxmert_core.datasets.catalogue import ACROSS
from xlxmert_core.features import GridEncoder, fold_batch_norm
from xlxmert_core.files import write_json
from xlxmert_core.folder import EYE
from xlxmert_core.train.optimisers import adamw

GRID = 8  # cells along a side
FEATURE, COLOUR = 64, 16  # F, and how many of them are the colour's
SHAPE = FEATURE - COLOUR
SKETCH = 8  # pixels along a side of a cell's sketch
NOISE = 0.5
# 0 is the ground in every head, as in the labels of the catalogue's chapters, which call a type "kind".
HEADS = {("kind" if name == "type" else name): len(values) + 1 for name, values in LABELS.items()}
HEADS["part"] = ACROSS**2 + 1
WEIGHTS = {"kind": 1.0, "part": 0.5, "gender": 0.3, "pattern": 0.5, "colour": 1.0, "ground": 0.2, "lab": 3.0,
           "sketch": 3.0}  # fmt: skip


class Lessons(nn.Module):
    """The eye with what it needs in training alone: heads for sketches, Lab, and where the product itself is."""

    def __init__(self, eye: GridEncoder):
        super().__init__()
        self.eye = eye
        self.where, self.sketch, self.lab = nn.Linear(SHAPE, 1), nn.Linear(SHAPE, SKETCH**2), nn.Linear(COLOUR, 5)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Features [B, N, F] -> logits [B, N, classes] of all heads, where [B, N], sketch [B, N, 64], lab [B, N, 5]."""
        found = {name: values.float() for name, values in self.eye.label_logits(features).items()}
        shape, colour = features.split([SHAPE, COLOUR], -1)
        looks = {"where": self.where(shape)[..., 0], "sketch": self.sketch(shape), "lab": self.lab(colour)}
        return found | {name: values.float() for name, values in looks.items()}


def new_eye(folder: Path) -> GridEncoder:
    """An eye that starts from EfficientNet-Lite0's ImageNet weights, carried in networks_lite0.safetensors."""
    eye = GridEncoder(FEATURE, HEADS, COLOUR, imagenet=False)
    eye.backbone.load_state_dict(unpack(folder, "lite0").state_dict())
    return eye


def lab(images: Tensor) -> Tensor:
    """sRGB in [-1, 1] [B, 3, S, S] -> CIE L*a*b* (D65) [B, 3, S, S]: L 0 to 100, a and b about -100 to 100."""
    rgb = ((images + 1) / 2).clamp(0, 1)
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    matrix = torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]],
                          device=images.device)  # fmt: skip
    white = torch.tensor([0.9505, 1.0, 1.089], device=images.device)
    xyz = torch.einsum("ij,bjhw->bihw", matrix / white[:, None], linear)
    f = torch.where(xyz > 0.008856, xyz.clamp_min(1e-6) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def cells(values: Tensor) -> Tensor:
    """[B, C, S, S] -> the pixels of each cell [B, N, C, S/g, S/g]."""
    side = values.shape[-1] // GRID
    parts = values.unflatten(3, (GRID, side)).unflatten(2, (GRID, side))  # [B, C, g, s, g, s]
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


@torch.no_grad()
def targets(images: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """What cells show, read off pictures [B, 3, S, S] and their products' masks bool [B, S, S].

    on bool [B, N] is where the product is; part int64 [B, N] is 0 off it, else 1 + its place in the product's box; lab
    [B, N, 5] is the product's mean L, a, b in the cell and the deviations of L and of colour; sketch [B, N, 64] its L.
    """
    inside, pixels = cells(masks[:, None].float()), cells(lab(images))  # [B, N, 1, s, s], [B, N, 3, s, s]
    share = inside.mean((2, 3, 4))  # [B, N]
    on = share >= share.amax(1, keepdim=True).clamp_max(COVERED)
    weight = torch.where(on[..., None, None, None], inside, torch.ones_like(inside))
    total = weight.sum((3, 4)).clamp_min(1)  # [B, N, 1]
    mean = (pixels * weight).sum((3, 4)) / total  # [B, N, 3]
    spread = ((pixels - mean[..., None, None]).square() * weight).sum((3, 4)) / total  # [B, N, 3]
    deviation = torch.stack([spread[..., 0], spread[..., 1:].sum(-1)], -1).clamp_min(1e-4).sqrt()
    colours = torch.cat([mean / 50 - mean.new_tensor([1.0, 0, 0]), deviation / 25], -1)
    grey = F.adaptive_avg_pool2d(pixels[:, :, 0], SKETCH)  # [B, N, 8, 8]
    sketch = (grey - mean[..., :1, None]).flatten(2) / 50
    return {"on": on, "part": torch.where(on, 1 + places(masks), 0), "lab": colours, "sketch": sketch}


def places(masks: Tensor) -> Tensor:
    """Each cell's place among ACROSS x ACROSS in the product's box (catalogue.parts): [B, S, S] -> int64 [B, N]."""
    centre = (torch.arange(GRID, device=masks.device) + 0.5) / GRID
    found = []
    for axis in (2, 1):  # rows, then columns
        there = masks.any(axis).float()  # [B, S]
        first, last = there.argmax(1) / there.shape[1], 1 - there.flip(1).argmax(1) / there.shape[1]
        where = (centre - first[:, None]) / (last - first)[:, None]  # [B, g]
        found.append((where * ACROSS).floor().clamp(0, ACROSS - 1).long())
    return (found[0][:, :, None] * ACROSS + found[1][:, None, :]).flatten(1)


def pooled(found: dict[str, Tensor], on: Tensor | None = None) -> dict[str, Tensor]:
    """One answer a picture, logits [B, classes] without the ground's, from those of its cells (:class:`Lessons`).

    Type and gender are the mean over the cells on the product; colour and pattern are read where the head "where" says
    that the product itself is (and not the jeans below the shirt).
    """
    on = found["part"].argmax(-1) > 0 if on is None else on
    where = found["where"].masked_fill(~on, -30).softmax(1)[..., None]  # [B, N, 1]
    share = (on.float() / on.sum(1, keepdim=True).clamp_min(1))[..., None]  # [B, N, 1]
    weights = {"type": share, "gender": share, "colour": where, "pattern": where}
    heads = {name: found["kind" if name == "type" else name][..., 1:] for name in weights}
    return {name: (logits.log_softmax(-1) * weights[name]).sum(1) for name, logits in heads.items()}


def eye_loss(lessons: Lessons, images: Tensor, masks: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict]:
    """Pictures [B, 3, S, S], masks bool [B, S, S] and labels [B] -> (loss, each term)."""
    seen = targets(images, masks)
    with autocast(images.device.type):
        features = lessons.eye(images)
        found = lessons(features + NOISE * torch.randn_like(features))
    on = seen["on"]
    of_cells = {
        name: torch.where(on, torch.where(labels[name] < 0, UNLABELLED, labels[name] + 1)[:, None], 0)
        for name in ("type", "gender")
    }  # fmt: skip  [B, N]
    whole, ground = pooled(found, on), (~on).float()
    terms = {
        "kind": _entropy(found["kind"].flatten(0, 1), of_cells["type"].flatten()),
        "gender": _entropy(found["gender"].flatten(0, 1), of_cells["gender"].flatten()),
        "part": F.cross_entropy(found["part"].flatten(0, 1), seen["part"].flatten()),
        "pattern": _entropy(whole["pattern"], labels["pattern"]),
        "colour": _entropy(whole["colour"], labels["colour"]),
        "ground": _ground(found["colour"], ground) + _ground(found["pattern"], ground),
        "lab": F.smooth_l1_loss(found["lab"], seen["lab"], beta=0.2),
        "sketch": F.smooth_l1_loss(found["sketch"], seen["sketch"], beta=0.2),
    }  # fmt: skip
    loss = sum((WEIGHTS[name] * term for name, term in terms.items()), start=images.new_zeros(()))
    return loss, {name: term.detach() for name, term in terms.items()}


def _ground(logits: Tensor, ground: Tensor) -> Tensor:
    """Whether a cell [B, N, classes] is told from the ground float [B, N], class 0, whatever else it is."""
    return F.binary_cross_entropy_with_logits(logits[..., 0] - logits[..., 1:].logsumexp(-1), ground)


def _entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy [M, C] over the labels that are there; zero without any."""
    loss = F.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="sum", label_smoothing=0.05)
    return loss / (labels != UNLABELLED).sum().clamp_min(1)


def train_eye(data: Data, folder: Path, work: Path, clock: Clock, batch: int) -> Lessons:
    """Train on the trainable photographs until the clock says so; writes encoder.safetensors and encoder.json."""
    record, device = Record(work, "eye"), data.images.device
    masks = torch.from_numpy(np.load(work / "masks.npy")).to(device)
    lessons = Lessons(new_eye(folder)).to(device).train()
    optimiser = adamw(lessons.requires_grad_(True), lr=2e-3, weight_decay=0.05, fused=device.type == "cuda")

    def lesson(_: float) -> tuple[Tensor, dict]:
        rows = draw(data.rows["trainable"], batch)
        both = jitter(torch.cat([to_unit(data.images[rows]), masks[rows][:, None].float()], 1))  # [B, 4, S, S]
        labels = {name: values[rows] for name, values in data.labels.items()}
        loss, numbers = eye_loss(lessons, both[:, :3], both[:, 3] > 0.5, labels)
        return loss, {"loss": loss, **numbers}

    train(clock, record, lessons, [optimiser], lesson, clip=5.0, seconds=4)
    eye = lessons.eval().eye
    checkpoints.save(eye, work / "model" / "encoder.safetensors", bits=16)
    write_json(work / "encoder.json", {name: getattr(eye, name) for name in EYE})
    record.save(steps=clock.step)
    return lessons


@torch.no_grad()
def look(eye: GridEncoder, images: Tensor, mirrored: bool = False, batch: int = 512) -> Tensor:
    """Features float32 [M, N, F] of pictures uint8 [M, 3, S, S], or of their mirror images."""
    eye, parts = fold_batch_norm(eye), []  # ty: ignore[invalid-assignment]
    with torch.backends.cudnn.flags(enabled=True, benchmark=False):  # for the one batch that is smaller
        for part in images.split(batch):
            unit = to_unit(part)
            parts.append(eye(unit.flip(3) if mirrored else unit).float())
    return torch.cat(parts)


@torch.no_grad()
def read_rates(lessons: Lessons, features: Tensor, data: Data, rows: Tensor) -> dict[str, float]:
    """How often the heads read each attribute right off features [M, N, F] of the rows (or their centroids)."""
    rates = {}
    for name, logits in pooled(lessons(features)).items():
        right = data.labels[name][rows]
        rates[name] = float((logits.argmax(1) == right)[right != UNLABELLED].float().mean())
    return rates


def seeds(rows: Tensor, count: int, rounds: int = 16) -> Tensor:
    """Where k-means begins: rows [n, F] -> [count, F], most of them far from the others.

    k-means++ draws one row at a time in proportion to its squared distance; here an equal share in each round
    (Bahmani et al. 2012), since a GPU waits for each draw.
    """
    rows = rows[torch.randperm(len(rows), device=rows.device)[: 32 * count]]
    chosen, each = rows[:1], max(1, math.ceil((count - 1) / rounds))
    far = (rows - chosen).square().sum(1)
    while len(chosen) < count:
        drawn = rows[torch.multinomial(far + 1e-9, min(each, count - len(chosen)))]
        chosen = torch.cat([chosen, drawn])
        far = torch.minimum(far, nearest(rows, drawn)[0])
    return chosen


def nearest(rows: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """rows [n, F] -> (squared distance [n] and number int64 [n] of the nearest of centroids [K, F])."""
    distance, number = [], []
    squares = centroids.square().sum(1)
    for part in rows.split(max(1, min(2**16, 2**26 // len(centroids)))):
        least, best = (squares - 2 * part @ centroids.T).min(1)
        distance.append((least + part.square().sum(1)).clamp_min(0))
        number.append(best)
    return torch.cat(distance), torch.cat(number)


def k_means(rows: Tensor, count: int, iterations: int = 20, starts: int = 1) -> tuple[Tensor, float]:
    """Lloyd's iterations, the best of several starts: rows [n, F] -> (centroids [count, F], mean squared distance).

    A cluster that has come out empty begins again at one of the rows that lie farthest from theirs.
    """
    best, least = rows[:0], math.inf
    for _ in range(starts):
        centroids = seeds(rows, count)
        for _ in range(iterations):
            distance, number = nearest(rows, centroids)
            sums = torch.zeros_like(centroids).index_add_(0, number, rows)
            sizes = torch.bincount(number, minlength=count)
            centroids = sums / sizes.clamp_min(1)[:, None]
            empty = (sizes == 0).nonzero()[:, 0]
            if len(empty):
                centroids[empty] = rows[torch.multinomial(distance[: 2**20] + 1e-9, len(empty))]
        error = float(nearest(rows, centroids)[0].mean())
        if error < least:
            best, least = centroids, error
    return best, least


def make_codes(data: Data, lessons: Lessons, work: Path, shapes: int, colours: int, most: int = 2**20) -> None:
    """Fit shape and colour codes on training cells and write codes.pt: shape, colour, and codes int32 [M, 2, N].

    codes[:, 0] are the pictures', codes[:, 1] their mirror images'; a code is shape x colours + colour. At most
    ``most`` cells are looked at.
    """
    record, begun = Record(work, "codes"), time.time()
    features = torch.stack([look(lessons.eye, data.images, mirrored) for mirrored in (False, True)], 1)  # [M, 2, N, F]
    say(f"[codes] all pictures seen after {time.time() - begun:.1f} s")
    those = features[data.rows["trainable"]].flatten(0, 2)  # [n, F]
    those = those[torch.randperm(len(those), device=those.device)[:most]]
    shape, shape_error = k_means(those[:, :SHAPE].contiguous(), shapes)
    colour, colour_error = k_means(those[:, SHAPE:].contiguous(), colours, starts=6)
    flat = features.flatten(0, 2)
    codes = nearest(flat[:, :SHAPE], shape)[1] * colours + nearest(flat[:, SHAPE:], colour)[1]
    codes = codes.view(features.shape[:3])
    save_tensors(work / "codes.pt", {"shape": shape.cpu(), "colour": colour.cpu(), "codes": codes.int().cpu()})
    say(f"[codes] codes after {time.time() - begun:.1f} s")
    test = data.rows["test"]
    decoded = F.embedding(codes[test, 0], product_table(shape, colour))  # [n, N, F]
    record.save(shape_error=shape_error / SHAPE, colour_error=colour_error / COLOUR, used=len(codes.unique()),
                shapes_used=len((codes // colours).unique()), probe=read_rates(lessons, decoded, data, test),
                eye=read_rates(lessons, features[test, 0], data, test))  # fmt: skip
    say("[codes] read off codes", record.numbers["probe"], "off features", record.numbers["eye"])


def load_codes(work: Path, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """(centroids [K, F] of all shape-colour pairs, codes int64 [M, 2, N])."""
    saved = torch.load(work / "codes.pt", map_location=device, weights_only=True)
    return product_table(saved["shape"], saved["colour"]), saved["codes"].long()
