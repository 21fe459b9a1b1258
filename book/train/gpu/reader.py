"""The judge and the evaluation: an independent reader of photographs, and what it reads in paintings.

The reader starts from EfficientNet-Lite2's ImageNet weights, looks at 192 pixels and learns type, colour, gender and
pattern from real training photographs alone (those of held-out pairs too: it has to know them). How it is asked and
what is counted is :mod:`xlxmert_core.evaluate.products`. Axes: B batch, S pixels, C classes, M pictures.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from book.train.gpu.common import Clock, Data, Record, autocast, draw, jitter, say, sheet, train
from book.train.gpu.eye import load_codes
from book.train.gpu.networks import Lite2, unpack
from xlxmert_core import checkpoints
from xlxmert_core.data.catalogue import HELD_OUT, LABELS, noun_phrase
from xlxmert_core.data.coco import Record as Told
from xlxmert_core.evaluate.judges import paint_and_read
from xlxmert_core.evaluate.products import ProductJudge, ProductReader
from xlxmert_core.evaluate.scenes import frechet_distance
from xlxmert_core.pipeline import Pipeline
from xlxmert_core.train.labels import PictureObjective
from xlxmert_core.train.optimisers import adamw

SIDE = 192  # pixels at which the reader looks: its network was made for 260
EACH = 12  # paintings of each pair held out
TOLD = ("a red women's handbag", "a black men's formal shoe", "a striped blue men's shirt", "a white men's sports shoe",
        "a brown belt", "a pink women's top")  # fmt: skip


class Reader(ProductReader):
    """The catalogue's reader with a larger network and larger pictures."""

    def __init__(self, network: nn.Module | None = None, side: int = SIDE):
        super().__init__(imagenet=False)
        self.backbone, self.side = network or Lite2(), side
        self.norm, self.dropout = nn.BatchNorm1d(Lite2.width), nn.Dropout(0.3)
        self.heads = nn.ModuleDict({f"is_{name}": nn.Linear(Lite2.width, len(v)) for name, v in LABELS.items()})

    def pooled(self, images: Tensor) -> Tensor:
        """Pictures [-1, 1] [B, 3, S, S] -> the means of both maps, [B, 472]."""
        large = F.interpolate(images, size=(self.side, self.side), mode="bilinear", align_corners=False)
        maps = self.backbone(large.contiguous(memory_format=torch.channels_last))
        return torch.cat([x.mean((2, 3)) for x in maps], 1).float()


@dataclass
class Shown:
    """What a judge asks of a split (:class:`xlxmert_core.datasets.base.Split`): what is said of each picture."""

    records: list[Told]

    @property
    def texts(self) -> list[str]:
        """The first caption of each picture."""
        return [record.captions[0] for record in self.records]


def train_reader(data: Data, folder: Path, work: Path, clock: Clock, batch: int, side: int = SIDE) -> None:
    """Train until the clock says so; writes reader.safetensors and the rates on real test photographs."""
    record, device = Record(work, "reader"), data.images.device
    reader = Reader(unpack(folder, "lite2").requires_grad_(True), side).to(device).train()
    objective = PictureObjective(reader)
    optimiser = adamw(objective, lr=1.5e-3, weight_decay=0.05, fused=device.type == "cuda")
    rows_of = torch.cat([data.rows["trainable"], data.rows["held_out"]])

    def lesson(_: float) -> tuple[Tensor, dict]:
        rows = draw(rows_of, batch)
        images = jitter(data.images[rows].float()).permute(0, 2, 3, 1)  # 0 to 255, [B, S, S, 3]
        with autocast(device.type):
            return objective({"images": images} | {name: v[rows] for name, v in data.labels.items()})

    train(clock, record, reader, [optimiser], lesson, clip=5.0, seconds=8)
    checkpoints.save(reader.eval(), work / "reader.safetensors", bits=16)
    test = data.rows["test"]
    rates = ProductJudge(lambda: reader).paintings(pixels(data.images[test]), Shown(_told(data, test)))
    record.save(test=rates, steps=clock.step, side=side)
    say("[reader] on real test photographs:", rates)


def load_reader(work: Path, device: torch.device | str, side: int) -> Reader:
    """What :func:`train_reader` left."""
    reader = Reader(side=side)
    checkpoints.load(reader, work / "reader.safetensors")
    return reader.to(device).eval().requires_grad_(False)


def pixels(images: Tensor) -> np.ndarray:
    """uint8 [M, 3, S, S] -> uint8 [M, S, S, 3], as the module's faces take pictures."""
    return images.permute(0, 2, 3, 1).cpu().numpy()


def _told(data: Data, rows: Tensor) -> list[Told]:
    return [data.records[row] for row in rows.tolist()]


def held_out_texts(each: int) -> Shown:
    """Texts of the pairs that training never shows, ``each`` of every pair: "a purple shirt" of Shirts, purple."""
    records = []
    for kind, colour in HELD_OUT:
        facts = [("type", kind), ("colour", colour)]
        forms = [noun_phrase(kind, colour), noun_phrase(kind, colour, "women's"), noun_phrase(kind, colour, "men's")]
        records += [Told(f"{kind} {colour} {i}", Path(), [forms[i % 3]], [facts]) for i in range(each)]
    return Shown(records)


def evaluate(data: Data, work: Path, painter: Pipeline, end: float, side: int, seeds: int = 3,
             most: int | None = None, **settings) -> None:  # fmt: skip
    """Read photographs, reconstructions and paintings of test captions; write contact sheets.

    Stops adding seeds when half of the time until ``end`` is over. Without a reader there are sheets alone.

    Args:
        painter: all that was trained, as ``xlxmert_core.load`` opens it; ``settings`` go to its ``paint``.
        most: so many test photographs.
    """
    record, device, clock = Record(work, "evaluation"), data.images.device, Clock(end)
    test = data.rows["test"][:most]
    there, shown = pixels(data.images[test]), Shown(_told(data, test))
    copies = painter.render(load_codes(work, device)[1][test, 0])
    pairs = np.stack([there, copies], 1)[:64].reshape(-1, *there.shape[1:])
    _sheet(pairs, work, "photograph_copy_pairs", 16)
    told = painter.paint(TOLD * 6, **settings).images
    _sheet(told.reshape(6, 6, *told.shape[1:]).swapaxes(0, 1).reshape(told.shape), work, "six_texts_six_seeds", 6)
    if not (work / "reader.safetensors").is_file():
        first = painter.paint(shown.texts[:64], **settings).images
        return _sheet(first, work, "paintings_64", 8)
    reader = load_reader(work, device, side)
    judge = ProductJudge(lambda: reader)
    base = judge.embed(there)
    others = judge.embed(pixels(data.images[data.rows["val"][:most]]))
    record.save(photographs=judge.paintings(there, shown), reconstructions=judge.paintings(copies, shown),
                frechet={"others": frechet_distance(others, base),
                         "reconstructions": frechet_distance(judge.embed(copies), base)})  # fmt: skip
    say("[evaluation] reconstructions:", record.numbers["reconstructions"])
    runs = []
    while len(runs) < seeds and (not runs or clock.progress() < 0.5):
        scores, images = paint_and_read(painter, judge, shown, (len(runs),), **settings)
        if not runs:
            some = np.linspace(0, len(images) - 1, min(64, len(images))).astype(int)
            _sheet(images[some], work, "paintings_64", 8)
            (work / "sheets" / "paintings_64.txt").write_text("\n".join(shown.texts[i] for i in some) + "\n")
            record.numbers["frechet"]["paintings"] = frechet_distance(judge.embed(images), base)
        runs.append(scores)
        record.save(paintings={name: float(np.mean([run[name] for run in runs])) for name in scores}, seeds=len(runs))
        say("[evaluation]", record.numbers["paintings"])
    pairs = held_out_texts(EACH if most is None else 1)
    scores, images = paint_and_read(painter, judge, pairs, (0,), **settings)
    _sheet(images, work, "held_out_pairs", EACH)
    record.save(held_out=scores)
    return None


def _sheet(images: np.ndarray, work: Path, name: str, columns: int) -> None:
    sheet([torch.from_numpy(images).permute(0, 3, 1, 2)], work / "sheets" / f"{name}.png", columns)
