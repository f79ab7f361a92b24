import pytest
import torch

from terngen.host.train.scan import gradients, log_steps, scan

pytestmark = pytest.mark.train

SHAPES = [(1, 1, 1), (2, 2, 3), (3, 7, 5), (2, 64, 4), (1, 100, 2)]


def one_by_one(forget, update, state):
    states = []
    for t in range(update.shape[1]):
        state = forget[:, t] * state + update[:, t]
        states.append(state)
    return torch.stack(states, dim=1)


def example(shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    batch, _, width = shape
    forget = torch.rand(shape, generator=rng, dtype=torch.float64)
    update = torch.randn(shape, generator=rng, dtype=torch.float64)
    state  = torch.randn(batch, width, generator=rng, dtype=torch.float64)
    # Gates that forget all and nothing.
    forget.view(-1)[0], forget.view(-1)[-1] = 0, 1
    return forget, update, state


@pytest.mark.parametrize("shape", SHAPES)
def test_matches_one_by_one(shape):
    forget, update, state = example(shape)
    expected = one_by_one(forget, update, state)
    torch.testing.assert_close(scan(forget, update, state), expected)
    torch.testing.assert_close(scan(forget.float(), update.float(), state.float()), expected.float())


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients(shape):
    inputs = [tensor.requires_grad_() for tensor in example(shape)]
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.autograd.grad(one_by_one(*inputs), inputs, grad)
    actual   = torch.autograd.grad(scan(*inputs), inputs, grad)
    for name, one, other in zip(("forget", "update", "state"), actual, expected):
        torch.testing.assert_close(one, other, msg=lambda text, name=name: f"{name}: {text}")


def test_in_two_parts():
    forget, update, state = example((2, 30, 4))
    first  = scan(forget[:, :13], update[:, :13], state)
    second = scan(forget[:, 13:], update[:, 13:], first[:, -1])
    torch.testing.assert_close(torch.cat([first, second], dim=1), scan(forget, update, state))


def test_arguments_stay():
    inputs = example((2, 9, 3))
    before = [tensor.clone() for tensor in inputs]
    states = log_steps(*inputs)
    gradients(torch.ones_like(states), inputs[0], inputs[2], states)
    assert all(torch.equal(one, other) for one, other in zip(inputs, before))


def test_operators():
    """What the compiler believes of them is true."""
    forget, update, state = (tensor.float().requires_grad_() for tensor in example((2, 5, 3)))
    torch.library.opcheck(scan, (forget, update, state))
    torch.library.opcheck(gradients, tuple(tensor.detach() for tensor in (update, forget, state, update)))
