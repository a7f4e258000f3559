"""`python -m experiments.predict`: what a model reads in picture files, whatever their size, colours and format."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

import experiments
from experiments import predict as command
from experiments.answer import plain
from experiments.data import images, preprocess
from experiments.data.tensors import to_float
from experiments.runs import load
from experiments.runs import prediction as views
from experiments.runs.find import run_in
from experiments.runs.prediction import Prediction
from experiments.runs.reading import predict
from experiments.tracking.record import RunRecord
from experiments.training import build
from tests.support.forked import Ended, forked
from tests.support.places import MNIST, needs_mnist

Bytes = NDArray[np.uint8]
DIGITS = {"light_on_dark": True, "centred": 20 / 28}
QUIET = ["tracking=none", "figures=false", "device=cpu"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that reads digits fairly well, after two seconds."""
    root = tmp_path_factory.mktemp("reader")
    settings = ["dataset=mnist_5k", "model=mlp", "optim=adam", "epochs=4", "seed=0"]
    folder = experiments.run([*settings, *QUIET, f"output_root={root / 'outputs'}"]).folder
    assert folder is not None
    return folder


@pytest.fixture(scope="module")
def digits() -> tuple[Bytes, Bytes]:
    """100 validation digits (100, 28, 28) and their labels."""
    x, y = build.load_dataset({"name": "mnist_5k"}).valid.tensors
    return x[:100].reshape(-1, 28, 28).numpy(), y[:100].numpy().astype(np.uint8)


@pytest.fixture
def some(digits: tuple[Bytes, Bytes], tmp_path: Path) -> list[Path]:
    """Three digits as files."""
    return [save(tmp_path / f"{index}.png", digits[0][index]) for index in range(3)]


def save(path: Path, pixels: Bytes | Image.Image, **options: Any) -> Path:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(path, **options)
    return path


def is_png(path: Path) -> bool:
    with Image.open(path) as picture:
        return picture.format == "PNG"


def enlarged(pixels: Bytes, side: int = 140) -> Image.Image:
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)


def on_paper(pixels: Bytes, size: tuple[int, int] = (300, 200), corner: tuple[int, int] = (110, 30)) -> Image.Image:
    """Dark ink somewhere on a larger light canvas."""
    canvas = Image.new("L", size, 245)
    ink = ImageOps.invert(enlarged(pixels))
    canvas.paste(ink.point(lambda value: value * 245 // 255), corner)
    return canvas


def seen(path: Path, facts: dict[str, Any] = DIGITS, shape: tuple[int, int, int] = (1, 28, 28)) -> preprocess.Seen:
    return preprocess.fit(images.read(path, shape[0]), shape, facts)


def read(folder: Path, *paths: Path) -> list[Prediction]:
    return predict(folder, paths)


# What the model is given


def test_a_light_on_dark_picture_of_the_very_size_is_taken_bit_for_bit(
    digits: tuple[Bytes, Bytes], tmp_path: Path
) -> None:
    for index, pixels in enumerate(digits[0]):
        given = seen(save(tmp_path / f"{index}.png", pixels))
        assert np.array_equal(given.pixels[0], pixels) and given.how == ()


def test_one_that_is_dark_on_light_is_inverted_and_no_more(digits: tuple[Bytes, Bytes], tmp_path: Path) -> None:
    for index, pixels in enumerate(digits[0]):
        given = seen(save(tmp_path / f"{index}.png", 255 - pixels))
        assert np.array_equal(given.pixels[0], pixels) and given.how == ("dark on light, inverted",)


def test_data_of_which_nothing_is_known_is_never_inverted(digits: tuple[Bytes, Bytes], tmp_path: Path) -> None:
    pixels = 255 - digits[0][0]
    assert np.array_equal(seen(save(tmp_path / "a.png", pixels), facts={}).pixels[0], pixels)


def digit_in(pixels: Bytes) -> tuple[int, int, float, float]:
    """Height and width of the ink, and its centre of mass."""
    rows, columns = np.nonzero(pixels > 25)
    mass = pixels.astype(float)
    centre = [float((mass.sum(axis=1 - axis) * np.arange(28)).sum() / mass.sum()) for axis in (0, 1)]
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1, centre[0], centre[1]


def test_a_digit_anywhere_on_paper_comes_to_where_mnist_has_it(digits: tuple[Bytes, Bytes], tmp_path: Path) -> None:
    for index, pixels in enumerate(digits[0][:20]):
        given = seen(save(tmp_path / f"{index}.png", on_paper(pixels)))
        height, width, down, right = digit_in(given.pixels[0])
        assert 19 <= max(height, width) <= 20
        assert abs(down - 14) <= 0.6 and abs(right - 14) <= 0.6
        assert given.how == ("dark on light, inverted", "300x200, cropped and centred")


def test_other_pictures_are_padded_to_the_aspect_and_resized(tmp_path: Path) -> None:
    wide = np.zeros((20, 80), np.uint8)
    wide[5:15, 20:60] = 200
    given = seen(save(tmp_path / "wide.png", wide), {"light_on_dark": True})
    assert given.pixels.shape == (1, 28, 28) and given.how == ("80x20, resized",)
    rows, columns = np.nonzero(given.pixels[0] > 100)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 14, 7, 20)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 24)])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2), (7, 200)])
def test_any_size_will_do(size: tuple[int, int], shape: tuple[int, int, int], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    path = save(tmp_path / "odd.png", generator.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8))
    for facts in ({}, DIGITS):
        assert seen(path, facts, shape).pixels.shape == shape


@pytest.mark.parametrize("grey", [0, 90, 255])
def test_an_empty_sheet_is_an_empty_picture(grey: int, tmp_path: Path) -> None:
    given = seen(save(tmp_path / "empty.png", np.full((90, 60), grey, np.uint8)))
    assert not given.pixels.any()


def test_the_shade_of_a_photograph_is_no_ink(digits: tuple[Bytes, Bytes], tmp_path: Path) -> None:
    paper = np.asarray(on_paper(digits[0][0])).astype(float)
    shade = np.linspace(1, 0.75, paper.shape[1])[None] * np.linspace(1, 0.9, paper.shape[0])[:, None]
    grain = np.random.default_rng(0).normal(0, 4, paper.shape)
    photograph = np.clip(paper * shade + grain, 0, 255).astype(np.uint8)
    plain = seen(save(tmp_path / "plain.png", on_paper(digits[0][0]))).pixels[0]
    shaded = seen(save(tmp_path / "photograph.jpg", photograph, quality=80)).pixels[0]
    moved = [np.roll(shaded, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    assert max(np.corrcoef(plain.ravel(), picture.ravel())[0, 1] for picture in moved) > 0.95


# Formats


def rgba(pixels: Bytes, ink: int) -> Image.Image:
    """Ink of one grey on a transparent ground."""
    return Image.merge("RGBA", [Image.new("L", (28, 28), ink)] * 3 + [Image.fromarray(pixels)])


def formats(pixels: Bytes, folder: Path) -> dict[str, Path]:
    """The same digit in many a mode and format, each without loss."""
    grey = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter
    sixteen = Image.fromarray(pixels.astype(np.uint16) * 257)
    blank = Image.new("L", (28, 28))
    other = {"save_all": True, "append_images": [blank, blank], "duration": 100}
    return {
        "RGB": save(folder / "rgb.png", grey.convert("RGB")),
        "RGBA": save(folder / "rgba.png", grey.convert("RGBA")),
        "LA": save(folder / "la.png", grey.convert("LA")),
        "palette": save(folder / "palette.png", grey.convert("P")),
        "16 bits": save(folder / "sixteen.png", sixteen),
        "16 bits in a TIFF": save(folder / "sixteen.tif", sixteen),
        "32-bit reals": save(folder / "real.tif", Image.fromarray(pixels.astype(np.float32) / 255)),
        "turned": save(folder / "turned.png", grey.transpose(Image.Transpose.ROTATE_90), exif=turned),
        "animated": save(folder / "animated.gif", grey, **other),
        "animated PNG": save(folder / "animated.png", grey, **other),
        "BMP": save(folder / "a.bmp", grey),
        "PGM": save(folder / "a.pgm", grey),
        "WEBP": save(folder / "a.webp", grey.convert("RGB"), lossless=True),
        "capitals": save(folder / "A.PNG", grey),
        "light ink on nothing": save(folder / "light.png", rgba(pixels, 255)),
        "dark ink on nothing": save(folder / "dark.png", rgba(pixels, 0)),
    }


NAMES = [
    *("RGB", "RGBA", "LA", "palette", "16 bits", "16 bits in a TIFF", "32-bit reals", "turned", "animated"),
    *("animated PNG", "BMP", "PGM", "WEBP", "capitals", "light ink on nothing", "dark ink on nothing"),
]


@pytest.mark.parametrize("name", NAMES)
def test_every_mode_and_format_gives_the_same_picture(name: str, digits: tuple[Bytes, Bytes], tmp_path: Path) -> None:
    pixels = digits[0][0].copy()
    pixels[0, 0], pixels[14, 14] = 0, 255  # the whole range, which reals are brought to
    given = seen(formats(pixels, tmp_path)[name]).pixels[0]
    assert np.abs(given.astype(int) - pixels).max() <= (1 if name.endswith("nothing") else 0)


def test_colours_stay_colours_for_a_model_that_takes_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    path = save(tmp_path / "a.png", pixels)
    assert np.array_equal(seen(path, {}, (3, 8, 8)).pixels, pixels.transpose(2, 0, 1))


def test_an_opaque_sheet_with_round_corners_keeps_its_ground(digits: tuple[Bytes, Bytes], tmp_path: Path) -> None:
    sheet = on_paper(digits[0][0]).convert("RGBA")
    alpha = np.full((200, 300), 255, np.uint8)
    alpha[:9, :9] = alpha[-9:, -9:] = 0
    sheet.putalpha(Image.fromarray(alpha))
    plain = seen(save(tmp_path / "plain.png", on_paper(digits[0][0]))).pixels
    assert np.abs(seen(save(tmp_path / "a.png", sheet)).pixels.astype(int) - plain).max() <= 30


# What the model reads


def classes(predictions: list[Prediction]) -> list[int]:
    return [prediction.ranked[0] for prediction in predictions]


def test_pictures_are_read_as_the_model_reads_the_tensors(
    reader: Path, digits: tuple[Bytes, Bytes], tmp_path: Path
) -> None:
    pixels, labels = digits
    paths = [save(tmp_path / f"{index:03}.png", picture) for index, picture in enumerate(pixels)]
    with torch.inference_mode():
        expected = experiments.load(reader)(to_float(torch.from_numpy(pixels)).reshape(-1, 784)).softmax(dim=1)
    found = read(reader, *paths)
    assert classes(found) == expected.argmax(dim=1).tolist()
    assert torch.allclose(torch.tensor([prediction.outputs for prediction in found]), expected)
    assert (np.array(classes(found)) == labels).mean() > 0.8


def test_enlarged_and_dark_on_paper_they_are_read_nearly_as_well(
    reader: Path, digits: tuple[Bytes, Bytes], tmp_path: Path
) -> None:
    pixels, labels = digits
    large = [save(tmp_path / f"large{index:03}.png", enlarged(picture)) for index, picture in enumerate(pixels)]
    paper = [save(tmp_path / f"paper{index:03}.png", on_paper(picture)) for index, picture in enumerate(pixels)]
    for paths in (large, paper):
        assert (np.array(classes(read(reader, *paths))) == labels).mean() > 0.75


def test_the_runs_transforms_hold_and_its_dataset_is_not_needed(
    some: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["dataset=mnist_5k", "model=logistic", "transforms=normalize", "loader.valid_shuffle=true"]
    folder = experiments.run([*settings, *QUIET, "limit_batches=5", f"output_root={tmp_path / 'outputs'}"]).folder
    assert folder is not None

    def gone(_settings: Any) -> Any:
        raise AssertionError("the dataset is loaded")

    monkeypatch.setattr(build, "load_dataset", gone)
    x = torch.stack([to_float(torch.from_numpy(np.array(Image.open(path)))) for path in some]).reshape(-1, 784)
    expected = experiments.load(folder)((x - 0.1307) / 0.3081).softmax(dim=1)
    found = torch.tensor([prediction.outputs for prediction in read(folder, *some)])
    assert torch.allclose(found, expected)


def test_a_model_trained_on_a_card_reads_where_there_is_none(
    reader: Path, some: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_card(folder: Path) -> RunRecord:
        run = run_in(folder)
        words = [*(word for word in run.overrides if word != "device=cpu"), "device=cuda", "device.index=3"]
        return replace(run, overrides=words)

    monkeypatch.setattr("experiments.runs.load.run_in", on_a_card)
    assert len(read(reader, *some)) == 3


def test_real_targets_are_read_as_numbers(tmp_path: Path, some: list[Path]) -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (40, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "own.npz", x=x, y=generator.random((40, 2), np.float32))
    settings = ["dataset=arrays", f"dataset.path={tmp_path / 'own.npz'}", "model=mlp", "loss=mse", "metrics=none"]
    folder = experiments.run([*settings, *QUIET, "epochs=1", f"output_root={tmp_path / 'outputs'}"]).folder
    assert folder is not None
    (found,) = read(folder, some[0])
    assert len(found.outputs) == 2 and not found.labels
    assert (found.answer.label, found.answer.outputs) == (None, found.outputs)
    assert views.line(found) == f"{some[0]}  {found.outputs[0]!r}, {found.outputs[1]!r}"
    views.draw([found], tmp_path / "out.png")


def test_a_model_of_two_channels_is_told(tmp_path: Path, some: list[Path]) -> None:
    settings = ["dataset=synthetic", "dataset.shape=[2,4,4]", "dataset.train=40", "dataset.valid=20", "model=mlp"]
    folder = experiments.run([*settings, *QUIET, "epochs=1", f"output_root={tmp_path / 'outputs'}"]).folder
    assert folder is not None
    with pytest.raises(experiments.ConfigError, match="it takes 2 channels; an image file has 1"):
        read(folder, *some)


# What is no picture


def bad(path: Path, told: str) -> None:
    with pytest.raises(experiments.DataError) as caught:
        images.read(path, 1)
    assert str(caught.value).startswith(f"{path}: {told}"), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"no picture at all", b"<svg></svg>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0"]
)
def test_what_is_no_picture_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    bad(tmp_path / "a.png", "not an image (PNG, JPEG, ")


def test_an_empty_a_missing_and_a_special_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    bad(tmp_path / "empty.png", "an empty file")
    bad(tmp_path / "none.png", "there is no such file")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        bad(tmp_path / "pipe.png", "not a file")


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.jpg", "a.webp", "a.tif", "a.bmp"])
def test_a_picture_that_is_cut_off_is_told(name: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8)
    whole = save(tmp_path / name, Image.fromarray(noise).convert("RGB" if name.endswith("webp") else "L")).read_bytes()
    for length in (30, len(whole) // 2):
        (tmp_path / name).write_bytes(whole[:length])
        bad(tmp_path / name, "")


def test_more_pixels_than_pillow_thinks_safe_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "bomb.png", np.zeros((30, 40), np.uint8))
    for limit in (1000, 100):  # where Pillow warns, and where it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        bad(path, f"an image of more than {limit:,} pixels")


def test_a_folder_gives_its_pictures_sorted_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt", "c.npz"):
        (tmp_path / name).touch()
    (tmp_path / "d.png").mkdir()
    assert [path.name for path in images.files(tmp_path)] == ["a.JPG", "b.png"]


def test_a_folder_without_pictures_is_told(tmp_path: Path) -> None:
    with pytest.raises(experiments.DataError, match="a folder without images"):
        images.files(tmp_path)


# The command


def command_says(*arguments: str | Path) -> Ended:
    return forked(lambda: command.main([str(argument) for argument in arguments]))


def test_a_line_for_each_and_a_picture_beside_the_run(reader: Path, some: list[Path]) -> None:
    done = command_says(reader, *some)
    assert done.code == 0, done
    found = read(reader, *some)
    assert done.out.splitlines() == [views.line(prediction) for prediction in found]
    best, second, third = found[0].ranked[:3]
    p = found[0].outputs
    assert done.out.startswith(
        f"{some[0]}  {best} {p[best]:.2%}  then {second} {p[second]:.2%}, {third} {p[third]:.2%}"
    )
    assert done.err == f"what the model saw: {reader / 'predictions.png'}\n"
    assert is_png(reader / "predictions.png")


def test_a_bad_one_among_several_is_told_and_the_others_are_read(reader: Path, some: list[Path]) -> None:
    broken = some[0].with_name("broken.png")
    broken.write_bytes(b"no picture")
    done = command_says(reader, some[0], broken, some[0].with_name("none.png"), some[1])
    assert done.code == 1
    assert [line.split()[0] for line in done.out.splitlines()] == [str(some[0]), str(some[1])]
    first, second, picture = done.err.splitlines()
    assert first.startswith(f"error: {broken}: not an image (") and second.endswith("none.png: there is no such file")
    assert picture.startswith("what the model saw: ")


def test_none_that_can_be_read_draws_nothing(reader: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = command_says(reader, tmp_path / "empty", "--picture", tmp_path / "out.png")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: {tmp_path / 'empty'}: a folder without images")
    assert not (tmp_path / "out.png").exists()


def test_no_picture_at_all_is_told(reader: Path) -> None:
    done = command_says(reader)
    assert done.code == 2 and done.err.splitlines()[-1].endswith("give images, or one of --row, --rows and --text")


def test_json_has_all_probabilities(reader: Path, some: list[Path], tmp_path: Path) -> None:
    done = command_says(reader, "--json", *some)
    told = json.loads(done.out)["answer"]["pictures"]
    assert done.code == 0
    assert told == [plain(prediction.answer) for prediction in read(reader, *some)]
    assert sum(told[0]["outputs"]) == pytest.approx(1)
    assert told[0]["probability"] == max(told[0]["outputs"]) == told[0]["outputs"][told[0]["index"]]


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("out.jpg", "--picture: out.jpg should end in .png"),
        ("0.png", "--picture: 0.png is one of the images to read"),
        ("none/out.png", "--picture: none/out.png cannot be written: No such file or directory"),
    ],
)
def test_a_picture_that_cannot_be_drawn_there_is_told(
    target: str, told: str, reader: Path, some: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(some[0].parent)
    before = some[0].read_bytes()
    done = command_says(reader, some[0], "--picture", target)
    assert (done.code, done.err) == (2, f"error: {told}\n")
    assert some[0].read_bytes() == before


def test_names_break_neither_terminal_nor_picture(reader: Path, some: list[Path]) -> None:
    names = ["a$b_{$.png", "red\x1b[31m\n.png", "\u202egnp.exe.png", "\u6570\u5b57.png", os.fsdecode(b"\xff.png")]
    paths = [some[0].rename(some[0].with_name(names[0]))]
    for name in names[1:]:
        paths.append(paths[0].with_name(name))
        paths[-1].write_bytes(paths[0].read_bytes())
    done = command_says(reader, *paths, paths[0].with_name("none\x1b.png"))
    assert done.code == 1 and len(done.out.splitlines()) == len(names), done
    assert "\\x1b[31m\\n.png" in done.out and "\x1b" not in done.out + done.err
    assert "\\u202egnp" in done.out and "\\udcff.png" in done.out


def test_an_unknown_run_is_one_message(workplace: Path) -> None:
    done = command_says("none", "a.png")
    assert done.code == 2 and done.err.startswith("error: none: no run; one is named by its folder")
    assert done.err.count("\n") == 1


def test_labels_and_many_classes_are_drawn_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "SHOWN", 5)
    labels = tuple(f"${number}_{{$ \x1b" for number in range(40))
    pixels = np.zeros((3, 8, 8), np.uint8)
    found = Prediction(tmp_path / "a.png", (0.5, *[0.5 / 39] * 39), labels, pixels, ())
    views.draw([found] * 7, tmp_path / "out.png")
    assert "\x1b" not in views.line(found)
    assert is_png(tmp_path / "out.png")


@pytest.mark.slow
def test_the_command_works_as_it_is_typed(reader: Path, some: list[Path], cli: Any) -> None:
    done = cli(str(reader), *map(str, some), module="experiments.predict")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3, done.stderr


# The tutorial's model on the real test digits


@pytest.fixture(scope="module")
def stage_12(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of stage 12's model, trained on all of MNIST for five epochs under seed 0."""
    root = tmp_path_factory.mktemp("stage")
    data = [f"dataset.root={root / 'data'}", f"dataset.source={MNIST}"]
    settings = ["stage=12_wrapped_dataloader", "epochs=5", "seed=0", *QUIET, f"output_root={root / 'outputs'}"]
    folder = experiments.run([*settings, *data]).folder
    assert folder is not None
    return folder


@pytest.fixture(scope="module")
def hundred(stage_12: Path) -> tuple[Bytes, Bytes]:
    """The first 100 test digits and their labels."""
    test = build.load_dataset(load.configuration(stage_12).dataset).test
    assert test is not None
    x, y = test.tensors
    return x[:100].reshape(-1, 28, 28).numpy(), y[:100].numpy().astype(np.uint8)


@pytest.mark.slow
@needs_mnist
def test_stage_12_reads_a_hundred_test_digits_as_it_reads_the_tensors(
    stage_12: Path, hundred: tuple[Bytes, Bytes], tmp_path: Path
) -> None:
    pixels, labels = hundred
    paths = [save(tmp_path / f"{index:03}.png", picture) for index, picture in enumerate(pixels)]
    with torch.inference_mode():
        outputs = experiments.load(stage_12)(to_float(torch.from_numpy(pixels)).reshape(-1, 1, 28, 28))
    found = classes(read(stage_12, *paths))
    assert found == outputs.argmax(dim=1).tolist()
    assert (np.array(found) == labels).sum() >= 90


@pytest.mark.slow
@needs_mnist
@pytest.mark.parametrize("drawn", [enlarged, on_paper])
def test_stage_12_reads_them_enlarged_and_on_paper(
    drawn: Any, stage_12: Path, hundred: tuple[Bytes, Bytes], tmp_path: Path
) -> None:
    pixels, labels = hundred
    paths = [save(tmp_path / f"{index:03}.png", drawn(picture)) for index, picture in enumerate(pixels)]
    right = int((np.array(classes(read(stage_12, *paths))) == labels).sum())
    print(f"{drawn.__name__}: {right} of 100")
    assert right >= 90
