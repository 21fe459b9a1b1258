"""What a process of test_types.py does: one step of each training, one painting, and the types of their products."""

import json
import sys

import torch
from test_finetuning import TEXTS, data_of, small
from test_pretraining import CELLS, EXAMPLES, TINY, TOKENIZER
from tiny import tiny_painter
from torch.utils._python_dispatch import TorchDispatchMode

from xlxmert_core.evaluate.scenes import SceneReader
from xlxmert_core.features import Backbone, GridEncoder
from xlxmert_core.generator import Discriminator
from xlxmert_core.kmeans import Nearest
from xlxmert_core.model import XLxmert
from xlxmert_core.text import Tokenizer
from xlxmert_core.train import loop, optimisers
from xlxmert_core.train.finetuning import Answering, Judging, Writing, batches
from xlxmert_core.train.generator_losses import GeneratorObjective, gan_optimisers
from xlxmert_core.train.labels import LabelObjective
from xlxmert_core.train.pretraining import PairedText, Pretraining, PretrainingBatches

PRODUCTS = ("mm", "mv", "linear", "conv", "attention", "dot", "bilinear")


class Recorder(TorchDispatchMode):
    """Notes, for each matrix product, attention or convolution, the types of what it multiplies."""

    def __init__(self):
        super().__init__()
        self.seen: set[tuple[str, str]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Note the operation (not its masks) and let it happen."""
        name = func.overloadpacket.__name__
        if any(part in name for part in PRODUCTS):
            tensors = [x for x in args if isinstance(x, torch.Tensor)]
            self.seen |= {
                (name, str(x.dtype).removeprefix("torch.")) for x in tensors if x.dim() > 1 and x.dtype != torch.bool
            }
        return func(*args, **(kwargs or {}))


def pictures(step, generator) -> dict:
    """Noise with labels on its cells."""
    images = torch.randint(256, (4, 128, 128, 3), dtype=torch.uint8, generator=generator)
    kinds = torch.randint(3, (4, 8, 8), generator=generator)
    return {"images": images, "kind": kinds, "codes": torch.randint(13, (4, 64), generator=generator)}


def labels(encoder, optimiser) -> None:
    """One step of an eye or a reader."""
    loop.fit(LabelObjective(encoder), optimiser(encoder), pictures, 1)


def eye() -> None:
    """Chapter 02's: EfficientNet-Lite0 with label heads."""
    labels(GridEncoder(10, {"kind": 3}, imagenet=False), lambda part: optimisers.adamw(part, 1e-3))


def reader() -> None:
    """The independent reader of scenes."""
    model = SceneReader()
    images = torch.zeros(2, 128, 128, 3, dtype=torch.uint8)
    loss = sum(v.square().mean() for v in model.label_logits(model(images.permute(0, 3, 1, 2).float())).values())
    loss.backward()


def pretraining() -> None:
    """Chapter 05's: the three tasks in turn, with Muon."""
    data = PairedText.build(EXAMPLES, range(100, 106), torch.arange(24).view(6, CELLS), TOKENIZER, ["yes", "no"], 12)
    objective = Pretraining(XLxmert(TINY, torch.randn(24, 10)))
    loop.fit(objective, optimisers.muon(objective), PretrainingBatches(data, TOKENIZER, 4), 3)


def generator() -> None:
    """Chapter 06's: both networks, once."""
    torch.manual_seed(0)
    painter = tiny_painter()
    critic = Discriminator(10, 8, painter.image_size, painter.grid)
    objective = GeneratorObjective(painter.generator, critic, Backbone(), painter.model.centroids)
    loop.fit(
        objective,
        gan_optimisers(objective),
        lambda *_: {
            "images": torch.zeros(2, 64, 64, 3, dtype=torch.uint8),
            "codes": torch.zeros(2, 16, dtype=torch.long),
        },
        1,
        clip=None,
    )


def skills() -> None:
    """Chapters 08 and 09: a step of each fine-tuning."""
    tokenizer, features = Tokenizer.from_corpus(TEXTS), torch.randn(5, 4, 10)
    told = [{"yes": 1.0}, {"no": 1.0}, {"red": 0.6}]
    one = data_of(tokenizer, told)
    two = data_of(tokenizer, [{"yes": 1.0}, {"no": 1.0}, {"no": 1.0}], ((0, 1), (1, 2), (2, 3)))
    kinds = ((Answering(small(tokenizer)), one), (Judging(small(tokenizer)), two),
             (Writing(small(tokenizer, 12), tokenizer), one))  # fmt: skip
    for objective, data in kinds:
        loop.fit(objective, optimisers.muon(objective), batches(data, lambda r: features[r], 2), 1)


def painting() -> None:
    """By the plain model, polished and chosen; what the engine multiplies stands in its graphs."""
    painter = tiny_painter()
    assert painter.engine is painter.model
    painter.paint("a red house in the snow", steps=3)
    painter.caption(painter.encode(painter.paint("two blue boats").images))


def codes() -> None:
    """The nearest centroids of some rows."""
    Nearest(torch.randn(13, 10).numpy())(torch.randn(50, 10).numpy())


STAGES = (eye, reader, pretraining, generator, skills, painting, codes)

if __name__ == "__main__":
    found = {}
    for stage in STAGES:
        with Recorder() as recorder:
            stage()
        found[stage.__name__] = sorted(recorder.seen)
    json.dump(found, sys.stdout)
