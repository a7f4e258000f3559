"""Reading checkpoints: the newest that is whole, and nothing that is damaged, foreign, newer or more than data."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.errors import CheckpointError
from experiments.training.checkpoint import SCHEMA, Checkpoints, State
from experiments.training.meters import Sums

Damage = Callable[[bytes], bytes]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES: dict[str, Damage] = {
    "truncated": lambda content: content[: len(content) // 2],
    "without its last byte": lambda content: content[:-1],
    "one bit flipped": flipped,
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
}


def state(value: float) -> State:
    return {"value": value, "tensor": torch.full((3,), value)}


def saved(folder: Path, *values: float, key: str = "") -> list[Path]:
    """One checkpoint after each epoch, oldest first."""
    checkpoints = Checkpoints(folder, key=key)
    for epoch, value in enumerate(values, 1):
        checkpoints.save(state(value), epoch=epoch, step=0)
    return sorted(folder.glob("last-*.pt"))


def damage(path: Path, how: Damage) -> None:
    path.write_bytes(how(path.read_bytes()))


def newest(folder: Path) -> State:
    found = Checkpoints(folder).newest()
    assert found is not None
    return found


def named(folder: Path, content: bytes, epoch: int = 1) -> Path:
    """A checkpoint of any content, its hash in its name."""
    folder.mkdir(exist_ok=True)
    path = folder / f"last-{epoch:05d}-000000-{hashlib.sha256(content).hexdigest()[:16]}.pt"
    path.write_bytes(content)
    return path


def packed(found: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(found, buffer)
    return buffer.getvalue()


def test_a_state_that_could_not_be_read_again_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        Checkpoints(tmp_path).save({"callbacks": [{}, {"best": np.float64(1)}]}, epoch=1, step=0)
    found = "a numpy.float64 at ['callbacks'][1]['best']; only tensors and plain values can be loaded"
    assert str(caught.value) == f"the training's state cannot be saved: it holds {found}"
    assert list(tmp_path.iterdir()) == []


def test_what_torch_reads_again_is_kept(tmp_path: Path) -> None:
    plain = [1, 2.0, None, "a", b"b", 1j, True]
    kept: State = {"plain": plain, "torch": (torch.float32, torch.Size([1])), "others": {3: {1, 2}, 4: OrderedDict()}}
    Checkpoints(tmp_path).save(kept, epoch=1, step=0)
    assert {name: newest(tmp_path)[name] for name in kept} == kept


def test_in_mid_epoch_a_state_holds_no_more_targets_than_it_has_seen(tmp_path: Path) -> None:
    sums, targets = Sums({}), torch.zeros(100_000)
    sums.add(torch.zeros(4), targets[:4], torch.tensor(0.0))
    Checkpoints(tmp_path).save(sums.state_dict(), epoch=1, step=0)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size < targets.nbytes / 10


def test_a_training_without_checkpoints_has_no_newest(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none").newest() is None


def test_the_newest_is_what_was_saved_last(tmp_path: Path) -> None:
    saved(tmp_path, 1.0, 2.0)
    found = newest(tmp_path)
    assert found["value"] == 2.0 and torch.equal(found["tensor"], torch.full((3,), 2.0))


def test_a_step_of_a_later_epoch_is_newer_than_any_of_an_earlier_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state(1.0), epoch=9, step=1000)
    checkpoints.save(state(2.0), epoch=10, step=0)
    assert newest(tmp_path)["value"] == 2.0


def test_numbers_longer_than_their_places_keep_their_order(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state(1.0), epoch=99_999, step=999_999)
    checkpoints.save(state(2.0), epoch=99_999, step=1_000_000)
    checkpoints.save(state(3.0), epoch=100_000, step=1)
    assert newest(tmp_path)["value"] == 3.0 and len(list(tmp_path.iterdir())) == 2


def test_the_best_weights_are_no_state_to_go_on_from(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save_best({"w": torch.ones(1)}, epoch=7)
    assert Checkpoints(tmp_path).newest() is None


@pytest.mark.parametrize("how", DAMAGES.values(), ids=DAMAGES)
def test_of_a_damaged_newest_the_one_before_is_taken(how: Damage, tmp_path: Path) -> None:
    damage(saved(tmp_path, 1.0, 2.0)[1], how)
    assert newest(tmp_path)["value"] == 1.0


@pytest.mark.parametrize("how", DAMAGES.values(), ids=DAMAGES)
def test_the_damaged_one_is_named_in_a_warning(how: Damage, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path, 1.0, 2.0)[1]
    damage(path, how)
    newest(tmp_path)
    told = f"resuming from the previous checkpoint: {path} is damaged (its SHA-256 differs from its name)"
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.WARNING, told)]


def test_a_newest_that_cannot_be_read_is_as_a_damaged_one(tmp_path: Path) -> None:
    path = saved(tmp_path, 1.0, 2.0)[1]
    path.unlink()
    path.mkdir()
    assert newest(tmp_path)["value"] == 1.0


def test_where_all_are_damaged_each_is_listed_with_its_reason(tmp_path: Path) -> None:
    older, newer = saved(tmp_path, 1.0, 2.0)
    damage(newer, DAMAGES["empty"])
    older.unlink()
    other = named(tmp_path, b"no checkpoint at all", epoch=1)
    with pytest.raises(CheckpointError) as caught:
        newest(tmp_path)
    first, *reasons = str(caught.value).splitlines()
    assert first == f"no checkpoint in {tmp_path} can be used:"
    assert reasons[0] == f"  {newer} is damaged (its SHA-256 differs from its name)"
    assert reasons[1].startswith(f"  {other} holds something else than tensors and plain values: ")
    assert len(reasons) == 2


def test_after_a_damaged_newest_two_good_ones_are_kept_again(tmp_path: Path) -> None:
    damage(saved(tmp_path, 1.0, 3.0)[1], flipped)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state(1.5), epoch=1, step=2)
    damage(max(tmp_path.glob("last-*.pt")), flipped)
    assert newest(tmp_path)["value"] == 1.0


def test_one_saved_before_damaged_ones_is_kept(tmp_path: Path) -> None:
    content = packed({"schema": SCHEMA, "key": "", **state(1.0)})
    named(tmp_path, content, epoch=1)
    for epoch in (3, 4):  # three of them: a process died before it removed the oldest
        damage(named(tmp_path, packed(state(epoch)), epoch), flipped)
    Checkpoints(tmp_path).save(state(1.5), epoch=1, step=2)
    assert newest(tmp_path)["value"] == 1.5


def test_a_newer_versions_checkpoint_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = named(tmp_path, packed({"schema": SCHEMA + 1, "key": "", **state(1.0)}))
    with pytest.raises(CheckpointError) as caught:
        newest(tmp_path)
    told = f"{path} was made by a newer version of experiments (schema {SCHEMA + 1}, this one reads {SCHEMA}); "
    assert str(caught.value) == f"{told}upgrade, or resume with the version that made it"


def test_a_newer_versions_checkpoint_is_not_passed_over_for_an_older_one(tmp_path: Path) -> None:
    saved(tmp_path, 1.0)
    named(tmp_path, packed({"schema": SCHEMA + 1, "key": "", **state(2.0)}), epoch=2)
    with pytest.raises(CheckpointError, match="newer version"):
        newest(tmp_path)


def test_another_trainings_checkpoint_is_refused(tmp_path: Path) -> None:
    (path,) = saved(tmp_path, 1.0, key="this")
    with pytest.raises(CheckpointError) as caught:
        Checkpoints(tmp_path, key="that").newest()
    assert str(caught.value) == f"{path} was made by another training"


class Malicious:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


PACKINGS: dict[str, Callable[[Any], bytes]] = {
    "as torch saves": packed,
    "a plain pickle": pickle.dumps,
    "a plain pickle of protocol 2": lambda found: pickle.dumps(found, protocol=2),
    "within a state": lambda found: packed({"schema": SCHEMA, "key": "", "model": {"w": found}}),
}


@pytest.mark.parametrize("packing", PACKINGS.values(), ids=PACKINGS)
def test_the_payload_works_where_it_is_trusted(packing: Callable[[Any], bytes], tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    content = packing(Malicious(marker))
    torch.load(io.BytesIO(content), weights_only=False) if content[:2] == b"PK" else pickle.loads(content)
    assert marker.exists()


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("packing", PACKINGS.values(), ids=PACKINGS)
def test_a_checkpoint_that_holds_code_is_refused_and_the_code_not_run(
    packing: Callable[[Any], bytes], forced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker = tmp_path / "marker"
    path = named(tmp_path / "checkpoints", packing(Malicious(marker)))
    with pytest.raises(CheckpointError) as caught:
        newest(tmp_path / "checkpoints")
    assert f"{path} holds something else than tensors and plain values" in str(caught.value)
    assert not marker.exists()


NONSENSE = {
    "nothing": b"",
    "text": b"hello, I am no checkpoint",
    "an empty archive": b"PK\x05\x06" + bytes(18),
    "half an archive": packed(state(1.0))[:200],
    "zeros": bytes(1000),
    "a stop": b"\x80\x02.",
    "a memo that is not there": b"\x80\x02h\x05.",
    "an unknown opcode": b"\x80\x02\xff.",
    "a tensor": packed(torch.ones(1)),
    "a list": packed([1]),
}


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE)
def test_a_file_that_is_no_state_is_refused_though_its_hash_fits(content: bytes, tmp_path: Path) -> None:
    path = named(tmp_path, content)
    with pytest.raises(CheckpointError) as caught:
        newest(tmp_path)
    assert str(path) in str(caught.value)
