"""The paper's way of looking: torchvision's network, but at a grid or at given boxes; plain loops say the same."""

from fractions import Fraction
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.ops import nms, roi_align

from book.build.run_chapters import ROOT
from xlxmert_core import checkpoints
from xlxmert_core.data.images import ImageError, open_image
from xlxmert_core.scale import detector as module
from xlxmert_core.scale.detector import Detector, resized

PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "coco" / "val2017"


def picture(width=128, height=96, seed=0) -> np.ndarray:
    """uint8 [H, W, 3]: coarse blocks of colour, with noise."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 16, width // 16, 3)).repeat(16, 0).repeat(16, 1)
    return np.clip(blocks + rng.integers(-20, 20, blocks.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def detector():
    """Random weights, small pictures: 96 pixels and at most 160."""
    torch.manual_seed(0)
    return Detector(shorter=96, longer=160)


def close(got, want) -> bool:
    """Equal but for rounding, measured by the largest number."""
    return np.abs(np.asarray(got) - np.asarray(want)).max() <= 1e-4 * np.abs(np.asarray(want)).max()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((640, 480), (1056, 800)),
        ((480, 640), (800, 1056)),
        ((640, 427), (1184, 800)),
        ((1000, 300), (1312, 384)),
        ((300, 1000), (384, 1312)),
        ((800, 800), (800, 800)),
        ((1600, 1600), (800, 800)),
        ((5000, 10), (1312, 32)),
        ((1, 1), (800, 800)),
    ],
)
def test_sides_are_rounded_down_to_32_pixels(given, wanted):
    assert resized(*given) == wanted


def test_sides_follow_the_rule_for_every_size():
    for width, height in np.random.default_rng(0).integers(1, 3000, (500, 2)).tolist():
        scale = min(Fraction(800, min(width, height)), Fraction(1333, max(width, height)))
        exact = width * scale, height * scale
        assert resized(width, height) == tuple(max(int(side) // 32 * 32, 32) for side in exact)


def observed(network, run):
    """(proposals, fc6 before ReLU, class logits) of the network's last look while ``run()`` works."""
    heads, seen = network.roi_heads, {}
    hooks = [
        network.rpn.register_forward_hook(lambda m, i, out: seen.update(proposals=out[0])),
        heads.box_head.fc6.register_forward_hook(lambda m, i, out: seen.update(fc6=out)),
        heads.box_predictor.cls_score.register_forward_hook(lambda m, i, out: seen.update(logits=out)),
    ]
    with torch.inference_mode():
        run()
    for hook in hooks:
        hook.remove()
    return seen


def test_own_proposals_give_what_torchvision_computes(detector):
    """From the picture to fc6 through torchvision's own forward, its resizing and normalisation included."""
    pixels = picture()
    image = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    seen = observed(detector.network, lambda: detector.network([image]))
    boxes = seen["proposals"][0] / torch.tensor([128, 96, 128, 96])
    assert len(boxes) > 100
    got = detector.features(pixels, boxes.clamp(0, 1).numpy())
    assert got.shape == (1, len(boxes), 1024) and got.dtype == np.float32
    assert close(got[0], seen["fc6"].relu())


def test_it_is_torchvisions_network_key_by_key(detector):
    names = {key: value.shape for key, value in detector.network.state_dict().items()}
    other = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    assert names == {key: value.shape for key, value in other.items() if "num_batches" not in key}


def cell_feature(detector, maps, box, width):
    """One box in pixels, one map chosen by the pyramid's rule, one pooling, one layer."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    level = int(np.clip(np.floor(4 + np.log2(np.sqrt(float(area)) / 224) + 1e-6), 2, 5)) - 2
    chosen = maps[str(level)]
    rois = torch.cat([torch.zeros(1), box])[None]  # [1, 5], of the first picture
    pooled = roi_align(chosen, rois, (7, 7), chosen.shape[-1] / width, sampling_ratio=2)  # [1, 256, 7, 7]
    layer = detector.network.roi_heads.box_head.fc6
    return (layer.weight @ pooled.flatten() + layer.bias).clamp(min=0)


@torch.inference_mode()
def test_cells_equal_a_loop_over_single_boxes(detector):
    pixels = picture(160, 96, seed=1)
    got = detector.features(pixels)
    assert got.shape == (1, 64, detector.feature_dim)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    image = (torch.from_numpy(pixels) / 255 - mean) / std
    maps = detector.network.backbone(image.permute(2, 0, 1)[None])
    for cell in range(64):
        row, column = divmod(cell, 8)
        box = torch.tensor([column * 20.0, row * 12.0, (column + 1) * 20.0, (row + 1) * 12.0])
        assert close(got[0, cell], cell_feature(detector, maps, box, 160)), cell
    assert got[0].std(0).max() > 0.05 * got.max()  # cells do differ


def test_large_boxes_are_read_from_coarser_maps(detector):
    """A picture of 480 pixels, so that boxes fall on all four maps."""
    pixels = picture(480, 480)[None]
    boxes = np.array([[0, 0, 0.1, 0.1], [0.1, 0.1, 0.4, 0.4], [0.2, 0.2, 0.8, 0.9], [0, 0, 1, 1]], np.float32)
    got = detector(pixels, [boxes])[0]
    with torch.inference_mode():
        _, maps = detector._maps(pixels)
        for box, feature in zip(boxes, got, strict=True):
            assert close(feature, cell_feature(detector, maps, torch.from_numpy(box * 480), 480)), box


def test_one_picture_many_pictures_and_boxes(detector, tmp_path):
    wide, high = picture(), picture(96, 128, seed=2)
    Image.fromarray(high).save(tmp_path / "high.png")
    both = detector.features([Image.fromarray(wide), tmp_path / "high.png"])  # two shapes
    assert both.shape == (2, 64, 1024)
    assert close(both[0], detector.features(wide)[0]) and close(both[1], detector.features(high)[0])
    cells = detector.cells.numpy()
    assert close(detector.features([wide, high], cells[:3]), both[:, :3])
    mixed = detector.features([wide, high], [cells[:2], cells[5:7]])
    assert close(mixed, np.stack([both[0, :2], both[1, 5:7]]))


def test_a_batch_gives_what_single_pictures_give(detector):
    pixels = np.stack([picture(seed=seed) for seed in range(3)])
    assert close(detector(pixels), detector.features(list(pixels)))


def test_pictures_are_resized_first(detector):
    image = Image.fromarray(picture(256, 192))
    assert detector.pixels(image).shape == (96, 128, 3)
    smaller = image.resize((128, 96), Image.Resampling.BILINEAR)
    assert close(detector.features(image), detector.features(smaller))


@pytest.mark.parametrize(
    "boxes",
    [
        [[0, 0, 1]],
        [0, 0, 1, 1],
        [[0, 0, 1, 1.5]],
        [[0.5, 0, 0.5, 1]],
        [[0, float("nan"), 1, 1]],
        [[[0, 0, 1, 1]], [[0, 0, 1, 1]], [[0, 0, 1, 1]]],
        [[[0, 0, 1, 1]], [[0, 0, 1, 1], [0, 0, 1, 1]]],
    ],
)
def test_boxes_that_are_none_are_refused(detector, boxes):
    with pytest.raises(ValueError, match=r"no boxes for 2 picture\(s\)"):
        detector.features([picture(), picture()], boxes)


def test_pictures_that_are_none_are_named(detector, tmp_path):
    with pytest.raises(ImageError, match="none.jpg is not there"):
        detector.features(tmp_path / "none.jpg")


def bottom_up(boxes, probabilities, count):
    """Rows of the boxes that bottom-up attention keeps: its loop over the classes."""
    best = torch.zeros(len(boxes))
    for label in range(1, probabilities.shape[1]):
        scores = probabilities[:, label]
        keep = nms(boxes, scores, 0.3)
        best[keep] = torch.maximum(best[keep], scores[keep])
    order = best.argsort(descending=True)
    return [int(row) for row in order if best[row] > 0][:count]


def test_the_most_certain_boxes_are_bottom_up_attentions(detector):
    pixels = picture(seed=3)
    seen = observed(detector.network, lambda: detector.network([torch.from_numpy(pixels).permute(2, 0, 1) / 255]))
    proposals = seen["proposals"][0]
    rows = bottom_up(proposals, seen["logits"].softmax(-1), 36)
    boxes, features = detector.detect(pixels)
    assert boxes.shape == (36, 4) and features.shape == (36, 1024) and len(rows) == 36
    assert np.allclose(boxes, proposals[rows] / torch.tensor([128, 96, 128, 96]), atol=1e-5)
    assert close(features, seen["fc6"][rows].relu())
    assert close(features, detector.features(pixels, boxes.clip(0, 1))[0])


def test_there_are_always_as_many_boxes_as_asked_for(detector, monkeypatch):
    pixels = np.stack([picture(seed=4), picture(seed=5)])
    many, _ = detector.detect(pixels[0], 5)
    assert np.allclose(many, detector.detect(pixels[0], 36)[0][:5])
    monkeypatch.setitem(detector.network.rpn._post_nms_top_n, "testing", 4)
    boxes, features = detector.strongest(pixels, 36)
    assert boxes.shape == (2, 36, 4) and features.shape == (2, 36, 1024)
    for image, found, values in zip(pixels, boxes.numpy(), features.numpy(), strict=True):
        assert (found[4:] == [0, 0, 1, 1]).all() and (found[:4] != [0, 0, 1, 1]).any()
        assert close(values[4:], np.repeat(detector.features(image, [[0, 0, 1, 1]])[0], 32, 0))


def test_training_mode_and_gradients_do_not_matter(detector):
    before, boxes = detector.features(picture()), detector.detect(picture())[0]
    detector.train()
    assert (detector.features(picture()) == before).all() and (detector.detect(picture())[0] == boxes).all()
    assert not any(p.requires_grad for p in detector.parameters()) and not detector.training


@pytest.fixture(scope="module")
def weights(detector, tmp_path_factory):
    """A file with the fixture's weights."""
    path = tmp_path_factory.mktemp("weights") / "detector.pth"
    torch.save(detector.network.state_dict(), path)
    return path


def test_weights_come_from_a_file(detector, weights):
    other = Detector(weights, shorter=96, longer=160)
    assert (other.features(picture()) == detector.features(picture())).all()


def test_the_file_says_how_many_classes_there_are(weights, tmp_path):
    state = checkpoints.read(weights)
    head = "roi_heads.box_predictor."
    state |= {f"{head}cls_score.weight": torch.ones(5, 1024), f"{head}cls_score.bias": torch.ones(5)}
    state |= {f"{head}bbox_pred.weight": torch.ones(20, 1024), f"{head}bbox_pred.bias": torch.ones(20)}
    torch.save(state, tmp_path / "five.pth")
    assert Detector(tmp_path / "five.pth").network.roi_heads.box_predictor.cls_score.out_features == 5


def test_weights_that_do_not_fit_are_named(weights, tmp_path):
    state = checkpoints.read(weights)
    state["extra.weight"] = state.pop("backbone.body.conv1.weight")
    state["roi_heads.box_head.fc6.bias"] = torch.zeros(2048)
    torch.save(state, tmp_path / "wrong.pth")
    with pytest.raises(ValueError, match="missing: backbone.body.conv1.weight; unexpected: extra.weight; .*fc6.bias"):
        Detector(tmp_path / "wrong.pth")
    with pytest.raises(FileNotFoundError, match="none.pth is not there"):
        Detector(tmp_path / "none.pth")


@pytest.mark.parametrize("error", [URLError("no network"), RuntimeError("invalid hash value")])
def test_without_a_network_the_missing_file_is_named(monkeypatch, error):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(module.FasterRCNN_ResNet50_FPN_Weights, "get_state_dict", fail)
    with pytest.raises(FileNotFoundError, match=r"fetch fasterrcnn_resnet50_fpn_coco-\w+.pth on a machine") as caught:
        Detector("torchvision")
    assert "://" not in str(caught.value)


def test_torchvisions_weights_are_loaded_by_name(monkeypatch, weights, detector):
    asked = lambda self, **options: checkpoints.read(weights)  # noqa: E731
    monkeypatch.setattr(module.FasterRCNN_ResNet50_FPN_Weights, "get_state_dict", asked)
    other = Detector("torchvision", shorter=96, longer=160)
    assert (other.features(picture()) == detector.features(picture())).all()


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="no real photographs beside the clone (shared/data)")
def test_real_photographs_of_two_shapes(detector):
    paths = sorted(PHOTOGRAPHS.glob("*.jpg"))[:40]
    wide = next(p for p in paths if open_image(p).width > open_image(p).height)
    high = next(p for p in paths if open_image(p).width < open_image(p).height)
    features = detector.features([wide, high])
    assert features.shape == (2, 64, 1024) and np.isfinite(features).all() and (features >= 0).all()
    assert np.abs(features[0] - features[1]).max() > 0.01 * features.max()
    boxes, values = detector.detect(high)
    assert boxes.shape == (36, 4) and values.shape == (36, 1024)
    assert (boxes >= 0).all() and (boxes <= 1).all() and (boxes[:, :2] < boxes[:, 2:]).all()
