"""Pictures of every kind come out as RGB, and a picture that cannot is named in one sentence."""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xlxmert_core.data.images import ImageError, open_image, picture_size, to_square

RED, GREY = (204, 51, 0), 90  # a red that palettes have


def quarters() -> np.ndarray:
    """A picture with four different quarters, 8 high and 12 wide, so that every turn of it shows."""
    picture = np.zeros((8, 12, 3), np.uint8)
    picture[:4, :6], picture[:4, 6:], picture[4:, :6], picture[4:, 6:] = RED, (0, 200, 0), (0, 0, 200), (250, 250, 0)
    return picture


def pixels(source) -> np.ndarray:
    """The opened picture as an array; its mode is RGB."""
    image = open_image(source)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_path_text_pil_and_numpy_agree(tmp_path):
    path = tmp_path / "picture of a house \u00e9\u4e2d.png"
    Image.fromarray(quarters()).save(path)
    with Image.open(path) as opened:
        for source in (path, str(path), opened, quarters(), Image.fromarray(quarters())):
            assert (pixels(source) == quarters()).all()


def test_arrays_of_all_promised_shapes():
    assert (pixels(np.full((3, 5), GREY, np.uint8)) == GREY).all()
    assert (pixels(quarters()[::-1, ::2]) == quarters()[::-1, ::2]).all()  # not contiguous
    clear = np.dstack([quarters(), np.full((8, 12), 255, np.uint8)])
    clear[:4, :, 3] = 0
    assert (pixels(clear)[:4] == 255).all()  # laid on white
    assert (pixels(clear)[4:] == quarters()[4:]).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4), np.uint16),
        np.zeros(4, np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((3, 4, 4), np.uint8)[None],
    ],
    ids=lambda a: f"{a.dtype}{list(a.shape)}",
)
def test_other_arrays_are_refused(array):
    with pytest.raises(ImageError, match="A picture array is uint8") as caught:
        open_image(array)
    assert f"{array.dtype} {list(array.shape)}" in str(caught.value)


@pytest.mark.parametrize("source", [None, 5, b"a.png", [1, 2]])
def test_other_sources_are_refused(source):
    with pytest.raises(ImageError, match=f"not {type(source).__name__}"):
        open_image(source)


@pytest.mark.parametrize("address", ["https://example.com/cat.jpg", "file:///etc/passwd", "ftp://a/b"])
def test_addresses_are_not_fetched(address):
    with pytest.raises(ImageError, match="download the picture first") as caught:
        open_image(address)
    assert address in str(caught.value)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "HSV"])
def test_colours_survive_every_mode(mode):
    image = Image.new("RGB", (6, 4), RED).convert(mode)
    assert np.abs(pixels(image).astype(int) - RED).max() <= 8


@pytest.mark.parametrize(("mode", "value"), [("1", 255), ("L", GREY), ("LA", GREY)])
def test_grey_stays_grey(mode, value):
    image = Image.new("L", (6, 4), value).convert(mode)
    assert (pixels(image) == value).all()


@pytest.mark.parametrize(("name", "mode"), [("a.jpg", "CMYK"), ("a.jpg", "L"), ("a.gif", "P"), ("a.webp", "RGBA")])
def test_files_of_other_modes(tmp_path, name, mode):
    path = tmp_path / name
    Image.new("RGB", (16, 16), RED).convert(mode).save(path)
    wanted = round(0.299 * RED[0] + 0.587 * RED[1] + 0.114 * RED[2]) if mode == "L" else RED
    assert np.abs(pixels(path).astype(int) - wanted).max() <= 8


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_half_transparent_is_mixed_with_white(mode):
    image = Image.new("LA", (2, 2), (100, 128)).convert(mode)
    assert np.abs(pixels(image).astype(int) - 177).max() <= 1


def test_transparent_colour_of_a_palette(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    image.putpalette([0, 0, 0, *RED])
    image.save(tmp_path / "a.png", transparency=0)
    assert pixels(tmp_path / "a.png").tolist() == [[[255] * 3, [*RED]]]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_keep_their_order(tmp_path, name):
    deep = np.array([[0, 16384, 32768, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / name)
    found = pixels(tmp_path / name)[0, :, 0].astype(int)
    assert np.abs(found - [0, 64, 128, 255]).max() <= 1


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_black_of_many_bits_is_black(mode):
    assert (pixels(Image.new(mode, (3, 3), 0)) == 0).all()


TURNED = {  # orientation -> how the camera's pixels lie, so that the picture is quarters() when turned back
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: lambda p: np.rot90(p, -1),
}


@pytest.mark.parametrize("orientation", TURNED)
def test_the_orientation_of_the_camera_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(TURNED[orientation](quarters()))).save(path, exif=exif)
    assert (pixels(path) == quarters()).all()


def jpeg() -> bytes:
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


BROKEN = {
    "truncated.jpg": jpeg()[:900],
    "header.jpg": jpeg()[:20],
    "text.jpg": b"<html>404 not found</html>",
    "empty.jpg": b"",
    "half.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    with pytest.raises(ImageError, match="is broken .*: replace or remove it") as caught:
        open_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    path.rename(tmp_path / "moved")  # nothing holds it open


@pytest.mark.parametrize(("name", "what"), [("gone.jpg", "not there"), ("folder", "a folder, not a picture")])
def test_what_is_no_file_is_named(tmp_path, name, what):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ImageError, match=what) as caught:
        open_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_picture_too_large_to_be_true_is_refused(tmp_path, monkeypatch):
    Image.fromarray(quarters()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(ImageError, match="decompression bomb"):
        open_image(tmp_path / "a.png")


@pytest.mark.parametrize(("width", "height"), [(12, 8), (8, 12), (1, 1), (1, 300), (500, 333)])
@pytest.mark.parametrize("size", [1, 8, 128])
def test_squares(width, height, size):
    square = to_square(Image.new("RGB", (width, height), RED), size)
    assert square.shape == (size, size, 3)
    assert square.dtype == np.uint8
    assert square.flags.writeable
    assert (square == RED).all()


@pytest.mark.parametrize("turn", [0, 1])
def test_a_square_is_the_middle(turn):
    picture = np.zeros((8, 24, 3), np.uint8)
    picture[:, 8:16] = RED
    assert (to_square(open_image(np.rot90(picture, turn)), 8) == RED).all()


def test_a_square_of_the_same_size_is_the_same():
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert (to_square(open_image(picture), 16) == picture).all()


PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "coco" / "val2017"


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="shared/data/coco, real photographs, is not here")
def test_photographs_open():
    for path in sorted(PHOTOS.glob("*.jpg"))[:20]:
        square = to_square(open_image(path), 64)
        assert square.std() > 5, f"{path.name} came out blank"


def late(turned: Image.Image, kind: bytes, content: bytes) -> bytes:
    """A PNG with a chunk between its pixels and its end."""
    stream = io.BytesIO()
    turned.save(stream, "PNG")
    data = stream.getvalue()
    chunk = len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
    return data[:-12] + chunk + data[-12:]


SIDEWAYS = Image.new("RGB", (50, 30))
ORIENTATION = Image.Exif()
ORIENTATION[0x0112] = 6
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def written(kind: str) -> bytes:
    stream = io.BytesIO()
    SIDEWAYS.save(stream, kind, exif=ORIENTATION)
    return stream.getvalue()


UPRIGHT = {
    "exif_after_the_pixels.png": late(SIDEWAYS, b"eXIf", ORIENTATION.tobytes()[6:]),
    "xmp_after_the_pixels.png": late(SIDEWAYS, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    **{f"exif.{kind.lower()}": written(kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF")},
}


@pytest.mark.parametrize("name", UPRIGHT)
def test_the_size_is_that_of_the_opened_picture(tmp_path, name):
    (tmp_path / name).write_bytes(UPRIGHT[name])
    assert picture_size(tmp_path / name) == open_image(tmp_path / name).size == (30, 50)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "ICO", "TGA", "PCX"])
def test_the_size_of_every_kind_is_that_of_the_opened_picture(tmp_path, kind):
    path = tmp_path / "a.png"  # the content decides
    SIDEWAYS.convert("P" if kind == "GIF" else "RGB").save(path, kind)
    assert picture_size(path) == open_image(path).size


FAULTS = Path(__file__).parents[2] / "shared" / "spec" / "faults"


@pytest.mark.skipif(not FAULTS.is_dir(), reason="shared/spec/faults is not here")
@pytest.mark.parametrize("name", ["exif_after_idat.png", "xmp_after.png", "exif.tif"])
def test_pictures_that_others_reported(name):
    assert picture_size(FAULTS / name) == open_image(FAULTS / name).size == (30, 50)
