"""Training the generator: a picture must match in pixels and features, fool a critic, and keep its codes.

Paper, section 3.3: perceptual 10, hinge 1, feature matching 10, codes 1, no pixel loss. On Storybook a code
and its neighbours settle nearly every pixel, so there the book adds a pixel loss and can do without the critic.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlxmert_core.features import to_float
from xlxmert_core.generator import Discriminator, Generator
from xlxmert_core.train.muon import Muon


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator's hinge loss; a picture's score is its mean patch logit [B, 1, g, g]."""
    real, fake = real.flatten(1).mean(1), fake.flatten(1).mean(1)  # [B]
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_g(fake: Tensor) -> Tensor:
    """Generator's hinge loss: minus the mean patch logit of its pictures."""
    return -fake.mean()


def map_distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """Smooth-L1 between two lists of maps, summed over the list; no gradient into ``theirs``."""
    pairs = zip(ours, theirs, strict=True)
    return sum(F.smooth_l1_loss(a, b.detach()) for a, b in pairs)  # ty: ignore[invalid-explicit-return]


def feature_matching(fake_maps: Sequence[Tensor], real_maps: Sequence[Tensor]) -> Tensor:
    """Distance of the discriminator's maps on fake and real pictures, all blocks but the last."""
    return map_distance(fake_maps[:-1], real_maps[:-1])


def perceptual(network: Callable[[Tensor], Sequence[Tensor]], fake: Tensor, real: Tensor) -> Tensor:
    """Distance of the maps of a network, pictures -> list of maps (paper: ResNet-50 layers 1-4)."""
    with torch.no_grad():
        target = network(real)
    return map_distance(network(fake), target)


def code_loss(code_features: Tensor, codes: Tensor, centroids: Tensor) -> Tensor:
    """Cross-entropy of the code at each cell, through the frozen classifier C^T.

    code_features [B, F, g, g], codes int64 [B, N], centroids [K, F].
    """
    features = code_features.flatten(2).transpose(1, 2)  # [B, N, F]
    logits = features @ centroids.detach().T  # [B, N, K]
    return F.cross_entropy(logits.flatten(0, 1), codes.flatten())


@dataclass(frozen=True)
class LossWeights:
    """What each term of the generator's loss counts; the defaults are the paper's."""

    perceptual: float = 10.0
    hinge: float = 1.0
    matching: float = 10.0
    code: float = 1.0
    pixel: float = 0.0
    things: float = 6.0  # of the pixels of a cell that shows a thing, beside one that shows none


STORYBOOK_WEIGHTS = LossWeights(perceptual=1.0, hinge=1.0, matching=4.0, code=0.4, pixel=30.0)


class GeneratorObjective(nn.Module):
    """``forward(batch, turn)`` with turn "generator", then "discriminator".

    Args:
        generator, discriminator: the two networks; ``discriminator=None`` trains on pixels and features alone.
        network: pictures [-1, 1] -> list of maps, for the perceptual loss; kept frozen.
        centroids: float [K, F], frozen.

    A batch holds images uint8 [B, S, S, 3] and codes int64 [B, N], and may hold things bool [B, g, g]: cells whose
    pixels count more, because most of a picture is background.
    """

    centroids: Tensor

    def __init__(self, generator: Generator, discriminator: Discriminator | None, network: nn.Module,
                 centroids: Tensor, weights: LossWeights = STORYBOOK_WEIGHTS):  # fmt: skip
        super().__init__()
        self.generator, self.discriminator, self.weights = generator, discriminator, weights
        self._frozen = [network.eval().requires_grad_(False)]  # in a list: not ours to save or to train
        self.register_buffer("centroids", centroids, persistent=False)

    def paint(self, codes: Tensor) -> Tensor:
        """Codes int64 [B, N] -> pictures [B, 3, S, S] in [-1, 1]."""
        grid = self.generator.config.grid
        features = F.embedding(codes, self.centroids).transpose(1, 2)  # [B, F, N]
        return self.generator(features.unflatten(2, (grid, grid)))

    def forward(self, batch: dict, turn: str = "generator") -> tuple:
        """The loss of one network and its numbers; the generator also hands its pictures to the critic's turn."""
        real = to_float(batch["images"])
        if turn == "generator":
            fake = self.paint(batch["codes"])
            return *self._generator(real, fake, batch["codes"], batch.get("things")), {"painted": fake.detach()}
        return self._discriminator(real, batch["painted"], batch["codes"])

    def _pixel(self, real, fake, things):
        if things is None:
            return F.l1_loss(fake, real)
        cells = F.avg_pool2d((fake - real).abs().mean(1), real.shape[-1] // things.shape[-1])  # [B, g, g]
        weight = torch.where(things, self.weights.things, 1.0)
        return (cells * weight).sum() / weight.sum()

    def _generator(self, real, fake, codes, things):
        weights, network = self.weights, self._frozen[0].to(real.device)
        terms = {"perceptual": perceptual(lambda images: network.stages(images)[:3], fake, real)}
        if weights.pixel:
            terms["pixel"] = self._pixel(real, fake, things)
        if self.discriminator is not None:
            patch, maps, features = self.discriminator(fake)
            with torch.no_grad():
                real_maps = self.discriminator(real)[1]
            terms["hinge"], terms["matching"] = hinge_g(patch), feature_matching(maps, real_maps)
            terms["code"] = code_loss(features, codes, self.centroids)
        total = sum(getattr(weights, name) * term for name, term in terms.items())
        return total, {name: term.detach() for name, term in terms.items()}

    def _discriminator(self, real, fake, codes):
        real_patch, _, real_features = self.discriminator(real)
        fake_patch, _, fake_features = self.discriminator(fake)
        adversarial = hinge_d(real_patch, fake_patch)
        codes_seen = code_loss(real_features, codes, self.centroids) + code_loss(fake_features, codes, self.centroids)
        numbers = {"critic": adversarial.detach(), "critic_codes": codes_seen.detach()}
        return adversarial + codes_seen, numbers


def gan_optimisers(objective: GeneratorObjective, generator_lr: float = 2e-3, discriminator_lr: float = 4e-4,
                   muon_lr: float = 0.0) -> dict:  # fmt: skip
    """Adam for each of the two networks, momentum-free as in the paper (beta1 = 0 for the critic).

    With ``muon_lr`` Muon moves the generator's convolutions, but for those that end in colours.
    """
    turns: dict = {"generator": torch.optim.Adam(objective.generator.parameters(), generator_lr, betas=(0.5, 0.999))}
    if muon_lr:
        inside, rest = [], []
        for name, p in objective.generator.named_parameters():
            (inside if p.ndim == 4 and "to_rgb" not in name else rest).append(p)
        turns["generator"] = [Muon(inside, muon_lr), torch.optim.Adam(rest, generator_lr, betas=(0.9, 0.99))]
    if objective.discriminator is not None:
        critic = objective.discriminator.parameters()
        turns["discriminator"] = torch.optim.Adam(critic, discriminator_lr, betas=(0.0, 0.999), eps=1e-7)
    return turns
