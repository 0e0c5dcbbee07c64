"""Losses: by hand, masked to the last bit, with gradients that are right."""

from __future__ import annotations

import math

import pytest
import torch

from stgraph.models.losses import (
    class_losses,
    gaussian_losses,
    huber_losses,
    masked_error,
    masked_mean,
    pinball_losses,
    weigh_steps,
)


def test_pinball_by_hand() -> None:
    errors = torch.tensor([[2.0, -1.0, 0.0], [-4.0, 4.0, 4.0]])
    losses = pinball_losses(errors, (0.1, 0.5, 0.9))
    torch.testing.assert_close(losses, torch.tensor([0.2 + 0.5, 3.6 + 2.0 + 3.6]))


def test_more_levels_do_not_make_the_loss_larger() -> None:
    errors = torch.ones(5, 19)
    many = pinball_losses(errors, [k / 20 for k in range(1, 20)])
    torch.testing.assert_close(many, pinball_losses(errors[:, :3], (0.1, 0.5, 0.9)))


def test_huber_is_squared_near_and_linear_far() -> None:
    losses = huber_losses(torch.tensor([0.5, -2.0, 6.0]), 2.0)
    assert losses.tolist() == [0.125, 2.0, 2 * (6 - 1)]


def test_gaussian_is_the_density_without_its_constant() -> None:
    errors, deviation = torch.tensor([0.0, 3.0]), torch.tensor([1.0, 2.0])
    wanted = -torch.distributions.Normal(0, deviation).log_prob(errors)
    losses = gaussian_losses(errors, deviation) + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(losses, wanted)


def test_class_losses_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 4, generator=generator)
    classes = torch.randint(4, (7,), generator=generator)
    weights = torch.tensor([1.0, 2.0, 0.5, 0.1])
    wanted = torch.nn.functional.cross_entropy(logits, classes, weights, reduction="none")
    torch.testing.assert_close(class_losses(logits.log_softmax(-1), classes, weights), wanted)
    assert class_losses(torch.zeros(1, 2), torch.tensor([1]), None).item() == 0


def test_masked_mean_by_hand() -> None:
    losses = torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1)
    mask = torch.tensor([True, False, True]).reshape(1, 3, 1, 1)
    assert masked_mean(losses, mask).item() == 2.5
    weights = torch.tensor([3.0, 5.0, 1.0])
    assert masked_mean(losses, mask, weights).item() == (3 * 1 + 1 * 4) / 4
    for none in (torch.zeros_like(mask), torch.tensor([False, True, False]).reshape(1, 3, 1, 1)):
        assert masked_mean(losses, none & ~mask & torch.tensor(False), weights).item() == 0
    assert masked_mean(losses, ~mask, torch.tensor([1.0, 0.0, 1.0])).item() == 0  # only weight 0


@pytest.mark.parametrize("hidden", [7.0, 1e30, math.inf, math.nan])
def test_what_is_hidden_changes_no_bit(hidden: float) -> None:
    """Protects the mask: neither loss nor gradient know what stands where nothing was observed."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(3, 4, 2, 1, generator=generator)
    mask = torch.rand(truth.shape, generator=generator) < 0.5
    forecast = torch.randn(truth.shape, generator=generator)

    def learn(y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        f = forecast.clone().requires_grad_()
        loss = masked_mean(masked_error(y, f, mask) ** 2, mask)
        loss.backward()
        assert f.grad is not None
        return loss.detach(), f.grad

    first, second = learn(torch.where(mask, truth, 0)), learn(torch.where(mask, truth, hidden))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not second[1][~mask].any()


def test_a_reading_next_to_0_is_a_reading() -> None:
    """Protects from a mask by comparison: 0 scaled and back is 4e-6, and 4e-6 may be real."""
    truth = torch.tensor([0.0, 4e-6]).reshape(1, 2, 1, 1)
    mask = torch.tensor([True, False]).reshape(1, 2, 1, 1)
    error = masked_error(truth, torch.ones(1, 2, 1, 1), mask)
    assert masked_mean(error.abs(), mask).item() == 1


def test_ramps_have_mean_one() -> None:
    near = weigh_steps("near", 4)
    assert near is not None
    torch.testing.assert_close(near, torch.tensor([1.6, 1.2, 0.8, 0.4]))
    far = weigh_steps("far", 4)
    assert far is not None
    assert torch.equal(far, near.flip(0))
    assert weigh_steps("uniform", 4) is None
    own = weigh_steps((1, 0, 0, 3), 4)
    assert own is not None
    assert own.tolist() == [1, 0, 0, 3]


@pytest.mark.parametrize("name", ["pinball", "mae", "mse", "huber", "gaussian", "classes"])
def test_gradients_are_those_of_the_numbers(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    shape = (2, 3, 2, 1)
    truth = torch.randn(shape, generator=generator, dtype=torch.float64)
    mask = torch.rand(shape, generator=generator) < 0.7
    last = {"pinball": 3, "gaussian": 2, "classes": 4}.get(name, 1)
    answer = torch.randn((*shape, last), generator=generator, dtype=torch.float64)

    def loss(answer: torch.Tensor) -> torch.Tensor:
        errors = masked_error(truth, answer[..., 0], mask)
        if name == "pinball":
            wide = masked_error(truth[..., None], answer, mask[..., None])
            losses = pinball_losses(wide, (0.1, 0.5, 0.9))
        elif name == "gaussian":
            losses = gaussian_losses(errors, answer[..., 1].exp())
        elif name == "classes":
            losses = class_losses(
                answer.log_softmax(-1), (truth > 0).long(), answer.new_tensor([1, 2, 3, 4])
            )
        else:
            losses = {"mae": errors.abs(), "mse": errors**2, "huber": huber_losses(errors, 0.5)}[
                name
            ]
        return masked_mean(losses, mask, weigh_steps("near", 3).double())  # type: ignore[union-attr]

    assert torch.autograd.gradcheck(loss, (answer.requires_grad_(),))
