"""A Faster R-CNN whose region proposals are replaced by a grid: the paper's eye, with torchvision's network.

The paper's detector (X-152 trained on Visual Genome's objects and attributes, 2048 numbers a region) is not in
torchvision; this one is its ResNet-50 with a feature pyramid, trained on COCO's objects, 1024 numbers a region.
What is done with it is the same: resize, replace the proposals, read the box head's first layer (fc6).
"""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, FasterRCNN_ResNet50_FPN_Weights
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d, batched_nms

from xlxmert_core import checkpoints
from xlxmert_core.data.arrays import check_boxes
from xlxmert_core.data.images import ImageLike, open_image
from xlxmert_core.files import why
from xlxmert_core.model import grid_boxes

STRIDE = 32  # of the coarsest map: both sides of a picture are multiples of it
CLASSES = 91  # COCO's, with the background
OVERLAP = 0.3  # two boxes of one class that share more than this are one thing (bottom-up attention)


def resized(width: int, height: int, shorter: int = 800, longer: int = 1333) -> tuple[int, int]:
    """(width, height) that the detector sees: the shorter side ``shorter`` pixels, the longer one at most ``longer``.

    Both are rounded down to a multiple of 32, to 32 at least (the paper's setting; method, section 2).
    """
    small, large = min(width, height), max(width, height)
    numerator, denominator = (shorter, small) if large * shorter <= longer * small else (longer, large)
    width, height = (max(side * numerator // denominator // STRIDE, 1) * STRIDE for side in (width, height))
    return width, height


class Detector(nn.Module):
    """Pictures in, one feature for each cell of a grid or for each box out.

    Args:
        weights: None (random, from torch's generator), "torchvision" (downloaded once), or a file of weights with
            torchvision's names; the number of classes is the file's. Batch norms have eps 0, as in these weights.
        shorter, longer: sides of the resized picture in pixels (:func:`resized`).
        grid: cells along one side.

    Colours are normalised with torchvision's means and deviations, which belong to its weights; the paper's
    BGR means belong to the paper's detector. It is made for looking only: no parameter asks for a gradient.
    Raises FileNotFoundError or ValueError naming what is wrong with the weights.
    """

    network: Any  # torchvision's, whose parts are called by names that it does not declare
    cells: Tensor  # [N, 4]

    def __init__(self, weights: str | os.PathLike | None = None, shorter: int = 800, longer: int = 1333, grid: int = 8):
        super().__init__()
        self.size = partial(resized, shorter=shorter, longer=longer)
        state = {} if weights is None else _torchvision() if weights == "torchvision" else checkpoints.read(weights)
        classes = len(state.get("roi_heads.box_predictor.cls_score.bias", range(CLASSES)))
        norm = partial(FrozenBatchNorm2d, eps=0.0)
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=norm)
        self.network = FasterRCNN(backbone, classes, min_size=shorter, max_size=longer)
        if weights is not None:
            checkpoints.load_state(self.network, state, source=str(weights))
        self.register_buffer("cells", grid_boxes(grid), persistent=False)  # [N, 4]
        self.requires_grad_(False).eval()

    @property
    def feature_dim(self) -> int:
        """F, the width of a feature."""
        return self.network.roi_heads.box_head.fc6.out_features

    def pixels(self, image: Image.Image) -> np.ndarray:
        """A picture, resized: uint8 [H, W, 3] with H and W from :func:`resized`."""
        return np.array(image.resize(self.size(*image.size), Image.Resampling.BILINEAR))

    @torch.inference_mode()
    def forward(self, pixels: np.ndarray | Tensor, boxes: Sequence[np.ndarray | Tensor] | None = None) -> Tensor:
        """Resized pictures of one shape, uint8 [B, H, W, 3] -> features [B, N, F] of the grid's cells.

        Args:
            boxes: instead of the grid, float [N, 4] for each picture, as (x0, y0, x1, y1) between 0 and 1.
        """
        _, maps = self._maps(pixels)
        placed = [self.cells] * len(pixels) if boxes is None else [torch.as_tensor(b).to(self.cells) for b in boxes]
        height, width = pixels.shape[1:3]
        scale = self.cells.new_tensor([width, height, width, height])
        return torch.stack(self._regions(maps, [b * scale for b in placed], (height, width)))

    def features(self, images: ImageLike | Sequence[ImageLike], boxes: ArrayLike | None = None) -> np.ndarray:
        """The features of one picture or of a list of them (paths, PIL images or arrays): float32 [B, N, F].

        Args:
            boxes: float [N, 4] for all pictures, or one such array for each, as (x0, y0, x1, y1) between 0 and 1;
                the cells of the grid when None.

        Raises :class:`~xlxmert_core.data.images.ImageError` for a picture, ValueError for boxes that are none.
        """
        given = list(images) if isinstance(images, list | tuple) else [images]
        placed = [None] * len(given) if boxes is None else _boxes(boxes, len(given))[:, None]  # [B, 1, N, 4]
        pictures = (self.pixels(open_image(image))[None] for image in given)  # [1, H, W, 3], each of its own shape
        return np.concatenate([self(p, b).cpu().numpy() for p, b in zip(pictures, placed, strict=True)])

    def detect(self, image: ImageLike, count: int = 36) -> tuple[np.ndarray, np.ndarray]:
        """The ``count`` most certain boxes of one picture, and their features: float32 [count, 4] and [count, F].

        See :meth:`strongest`.
        """
        boxes, features = self.strongest(self.pixels(open_image(image))[None], count)
        return boxes[0].cpu().numpy(), features[0].cpu().numpy()

    @torch.inference_mode()
    def strongest(self, pixels: np.ndarray | Tensor, count: int = 36) -> tuple[Tensor, Tensor]:
        """Bottom-up attention's boxes of resized pictures of one shape, uint8 [B, H, W, 3], most certain first.

        Boxes are the network's own proposals (not moved by the class's regression, so that features belong to
        them). Of those that overlap by more than 0.3 each class keeps its most probable one; a box's certainty is
        the best probability that a class keeps it for. Where fewer are kept the whole picture fills the rest.

        Returns (boxes float32 [B, count, 4] as (x0, y0, x1, y1) between 0 and 1, features float32 [B, count, F]).
        """
        self.eval()
        images, maps = self._maps(pixels)
        height, width = size = int(pixels.shape[1]), int(pixels.shape[2])
        proposals, _ = self.network.rpn(ImageList(images, [size] * len(images)), maps)
        whole = self.cells.new_tensor([[0, 0, width, height]])
        proposals = [torch.cat([boxes, whole.expand(count, 4)]) for boxes in proposals]  # [P + count, 4]
        features = self._regions(maps, proposals, size)
        heads = self.network.roi_heads
        chosen = []
        for boxes, values in zip(proposals, features, strict=True):
            classes = heads.box_predictor.cls_score(heads.box_head.fc7(values).relu()).softmax(-1)[:, 1:]
            kept = _most_certain(boxes[:-count], classes[:-count], count)
            chosen.append(torch.cat([kept, torch.arange(len(boxes) - count, len(boxes)).to(kept)])[:count])
        boxes = torch.stack([b[rows] for b, rows in zip(proposals, chosen, strict=True)]) / whole[0, [2, 3, 2, 3]]
        return boxes, torch.stack([f[rows] for f, rows in zip(features, chosen, strict=True)])

    def _maps(self, pixels: np.ndarray | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """uint8 [B, H, W, 3] -> normalised colours [B, 3, H, W], and the pyramid's maps of them."""
        images = torch.as_tensor(pixels).to(self.cells.device).permute(0, 3, 1, 2) / 255  # [B, 3, H, W]
        images = self.network.transform.normalize(images)
        return images, self.network.backbone(images)

    def _regions(self, maps: dict[str, Tensor], boxes: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """The box head's fc6 with ReLU on boxes in pixels, [n, 4] for each picture -> [n, F] for each."""
        heads = self.network.roi_heads
        pooled = heads.box_roi_pool(maps, boxes, [size] * len(boxes))  # [sum of n, 256, 7, 7]
        return list(heads.box_head.fc6(pooled.flatten(1)).relu().split([len(b) for b in boxes]))


def _torchvision() -> dict[str, Tensor]:
    source = FasterRCNN_ResNet50_FPN_Weights.COCO_V1
    try:
        return source.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network; a file that was cut off
        name = source.url.rsplit("/", 1)[-1]
        raise FileNotFoundError(
            f"torchvision's weights cannot be downloaded here ({why(error)}): fetch {name} on a machine with a network "
            "and give that file as `weights`."
        ) from error


def _boxes(boxes: ArrayLike, count: int) -> np.ndarray:
    """Boxes for all pictures or for each -> float32 [B, N, 4]."""
    try:
        array = np.asarray(boxes, dtype=np.float32)
        array = np.broadcast_to(array, (count, *array.shape[-2:]))
        check_boxes(array, count, array.shape[1])
        good = (array[..., :2] < array[..., 2:]).all()  # what is read must have a size
    except (ValueError, IndexError):  # ragged, or another number of pictures
        good = False
    if not good:
        raise ValueError(
            f"These are no boxes for {count} picture(s): give [N, 4] for all, or as many boxes for each, "
            "as (x0, y0, x1, y1) between 0 and 1 with x0 < x1 and y0 < y1."
        )
    return array.copy()  # torch wants to be able to write


def _most_certain(boxes: Tensor, classes: Tensor, count: int) -> Tensor:
    """Rows of at most ``count`` boxes [P, 4] by the best probability, [P, C], that a class keeps them for."""
    rows, labels = torch.meshgrid(*(torch.arange(n, device=boxes.device) for n in classes.shape), indexing="ij")
    rows, labels, scores = rows.flatten(), labels.flatten(), classes.flatten()  # [P * C]
    kept = rows[batched_nms(boxes[rows], scores, labels, OVERLAP)].tolist()  # the most probable first
    return torch.tensor(list(dict.fromkeys(kept))[:count], dtype=torch.long, device=boxes.device)
