"""The sums of a pass: what is kept of a batch, metrics over a pass, and a state in its middle."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.training.meters import OverPass, Sums
from experiments.training.metrics import Collected, _placed
from experiments.training.serializable import packed, unpacked

CPU = torch.device("cpu")


def count(pred: Tensor, target: Tensor) -> Tensor:
    return (pred.argmax(1) == target).sum()


def batches(*sizes: int, outputs: int = 5) -> list[tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, outputs, generator=generator),
            torch.randint(outputs, (size,), generator=generator),
            torch.rand((), generator=generator),
        )
        for size in sizes
    ]


def means(metrics: dict[str, Any], given: list[tuple[Any, Any, Any]], **settings: Any) -> dict[str, float]:
    sums = Sums(metrics, **settings)
    for batch in given:
        sums.add(*batch)
    return sums.means()


def bytes_of(sums: Sums) -> int:
    return len(packed(sums.state_dict()))


def test_without_metrics_no_predictions_are_kept() -> None:
    sums = Sums({})
    for batch in batches(*[50] * 10, outputs=1000):
        sums.add(*batch)
    assert bytes_of(sums) < 10_000


def test_large_predictions_are_not_kept() -> None:
    sums = Sums({"count": count})
    for batch in batches(*[100] * 12, outputs=10_000):
        sums.add(*batch)
        assert bytes_of(sums) < 20 << 20
    assert sums.means()["count"] == sum(int(count(*batch[:2])) for batch in batches(*[100] * 12, outputs=10_000)) / 1200


def test_small_predictions_are_measured_64_batches_at_a_time() -> None:
    calls: list[int] = []

    def seen(pred: Tensor) -> int:
        calls.append(len(pred))
        return len(pred)

    means({"rows": lambda pred, target: torch.tensor(seen(pred))}, batches(*[3] * 130))
    assert calls == [64 * 3, 64 * 3, 2 * 3]


def test_a_metric_may_return_plain_numbers() -> None:
    given = batches(4, 4, 2)
    metrics = {
        "a": lambda pred, target: int(count(pred, target)),
        "b": lambda pred, target: pred.sum().double().numpy(),
    }
    found = means(metrics, given)
    assert found["a"] == sum(int(count(*batch[:2])) for batch in given) / 10
    assert found["b"] == pytest.approx(sum(float(pred.sum()) for pred, *_ in given) / 10, rel=1e-6)


def test_predictions_of_several_parts() -> None:
    given = [({"logits": pred, "more": pred[:, :1]}, (target, target), loss) for pred, target, loss in batches(4, 4, 2)]
    found = means({"accuracy": lambda pred, target: count(pred["logits"], target[0])}, given)
    assert found["accuracy"] == means({"accuracy": count}, batches(4, 4, 2))["accuracy"]


def test_batches_of_different_lengths() -> None:
    given = [(torch.ones(2, 5, length), torch.zeros(2, length), torch.tensor(0.0)) for length in (3, 3, 4)]
    assert means({"sum": lambda pred, target: pred[:, 0].mean(1).sum()}, given)["sum"] == 1


@pytest.mark.parametrize("by_rows", [True, False])
def test_a_function_over_a_pass_gets_all_rows_in_order_once(by_rows: bool) -> None:
    given, seen = batches(4, 4, 2), []

    def mine(pred: Tensor, target: Tensor) -> float:
        seen.append((pred, target))
        return 0.25

    function = OverPass(lambda: Collected(mine, None))
    assert means({"mine": function, "accuracy": count}, given, by_rows=by_rows)["mine"] == 0.25
    ((pred, target),) = seen
    assert torch.equal(pred, torch.cat([pred for pred, *_ in given]))
    assert torch.equal(target, torch.cat([target for _, target, _ in given]))


def test_a_function_over_a_pass_gets_the_rows_of_several_processes_as_one_has_them() -> None:
    """A batch is cut into consecutive shares."""
    given = batches(4, 4, 1)
    shares = [[(pred[:2], target[:2]) for pred, target, _ in given], [(p[2:], t[2:]) for p, t, _ in given[:2]]]
    collected = Collected(lambda pred, target: (pred, target), lambda own: shares)
    pred, _ = collected.compute()
    assert torch.equal(pred, torch.cat([pred for pred, *_ in given]))


def over_pass() -> dict[str, Any]:
    from torchmetrics import AUROC, F1Score

    def started(kind: Any) -> OverPass:
        make = functools.partial(kind, task="multiclass", num_classes=5, average="macro")
        return OverPass(lambda: _placed("f1", make, CPU, alone=True))

    return {
        "f1": started(F1Score),
        "auroc": started(AUROC),
        "mine": OverPass(lambda: Collected(lambda pred, target: pred.std(), None)),
        "accuracy": count,
    }


@pytest.mark.parametrize("done", [1, 5, 40])
def test_a_state_in_the_middle_continues_bit_for_bit(done: int) -> None:
    given = batches(*[20] * 40)
    before, after = Sums(over_pass()), Sums(over_pass())
    for batch in given[:done]:
        before.add(*batch)
    after.load_state_dict(unpacked(packed(before.state_dict())), CPU)
    for batch in given[done:]:
        after.add(*batch)
    assert after.means() == means(over_pass(), given)


@pytest.mark.parametrize("weight", [lambda rows: rows, lambda rows: torch.tensor(rows)], ids=["number", "tensor"])
@pytest.mark.parametrize("by_rows", [True, False])
def test_a_weight_may_be_any_number_and_that_of_a_batch_zero(weight: Any, by_rows: bool) -> None:
    given = [
        (pred, target, (loss, weight(size))) for (pred, target, loss), size in zip(batches(4, 4), (3, 1), strict=True)
    ]
    one, other = (float(loss) for *_, (loss, _) in given)
    found = means({}, given, by_rows=by_rows)["loss"]
    assert found == pytest.approx((one + other) / 4 if by_rows else (one / 3 + other) / 2)
    if by_rows:
        nothing = (*batches(4)[0][:2], (torch.zeros(()), weight(0)))
        assert means({}, [*given, nothing])["loss"] == found
