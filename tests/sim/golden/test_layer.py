"""Whole layers of the golden machine against float64, stage by stage.

Each stage starts from what the machine itself had before it, so that an int8 code that falls to the
other side does not carry on. What is left is the rounding of one stage; docs/numerics.md derives the
bounds.
"""

import numpy as np
import pytest

from terngen.host.compile import compile_tape, default_config
from terngen.host.convert.checkpoint import Checkpoint
from terngen.hw.contract import formats
from terngen.hw.contract.tape import Op, Tape
from terngen.sim.golden.machine import GoldenMachine

#: Largest relative error of one rounding on the path (e6m11), and of a parameter on the tape (e6m9).
PATH, PARAMETER = 2.0**-12, 2.0**-10
#: Relative errors of activations before they become codes, and of row sums that became values again.
ACTIVATION = 2 * PARAMETER + 4 * PATH
VALUE      = 2 * PARAMETER + 9 * PATH
#: Largest absolute error of the sigmoid: half a cell of the table at its steepest, and two roundings.
SIGMOID    = 5.7e-4
#: Largest |x * sigmoid'(x)|, and largest |silu'(x)|.
SIGMOID_SLOPE, SILU_SLOPE = 0.224, 1.1

#: Operations of a layer that are compared, in order.
OPERATIONS = [Op.QUANTISE, Op.QUANTISE, Op.QUANTISE, Op.GATE, Op.STORE, Op.MLGRU, Op.QUANTISE, Op.RESIDUAL,
              Op.QUANTISE, Op.SILU, Op.GLU, Op.QUANTISE, Op.RESIDUAL]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def rms(x, eps):
    return x / root_mean_square(x, eps)


def root_mean_square(x, eps):
    return np.sqrt(np.mean(x**2) + eps)


def assert_near(actual, expected, tolerance):
    assert actual.shape == expected.shape
    excess = np.abs(actual - expected) - tolerance
    worst  = excess.argmax()
    assert excess[worst] <= 0, f"element {worst} is {actual[worst]}, not {expected[worst]}"


class Layer:
    """Stages of a layer, as the public implementation computes them, in float64."""

    def __init__(self, checkpoint, index):
        self._checkpoint = checkpoint
        self._name = f"model.layers.{index}"
        self.eps   = checkpoint.geometry.rms_norm_eps
        self.lower_bound = checkpoint.lower_bounds()[index]

    def weight(self, name):
        return self._checkpoint.tensor(f"{self._name}.{name}.weight").astype(np.float64)

    def norm(self, x, name):
        return rms(x, self.eps) * self.weight(name)

    def project(self, name, x, codes, acc):
        """What comes out for `x`, with the codes and sums of the machine, which are checked."""
        y     = rms(x, 1e-6) * self.weight(f"{name}.norm")
        scale = np.abs(y).max() / 127
        assert_near(codes, y / scale, 0.5 + 127 * ACTIVATION)
        trits, mean = self._checkpoint.ternary(f"{self._name}.{name}.weight")
        assert np.array_equal(acc, trits.astype(int) @ codes)
        return acc * scale * np.float64(mean)


class Machine:
    """A golden machine, and what it did in one layer."""

    def __init__(self, checkpoint, path, index):
        compile_tape(checkpoint, default_config(checkpoint.geometry), path)
        self._tape    = Tape.open(path)
        self._index   = index
        self._machine = GoldenMachine(self._tape.config, self._tape.image)

    def floats(self, codes):
        return formats.to_float(self._tape.config.path, codes)

    def step(self, token):
        """What went into the layer, and events of it as mappings."""
        model, marks, machine = self._tape.model, self._tape.marks, self._machine
        machine.embed({0: token}, model["embedding_start"], model["embedding_beats"], model["hidden_size"])
        events = []
        for index in range(model["num_hidden_layers"]):
            if index == self._index:
                x = self.floats(machine.x[0])
                machine.observe = events.append
            machine.play(marks[f"layer.{index}"])
            machine.observe = None
        events = [event for event in events if event.op in OPERATIONS]
        assert [event.op for event in events] == OPERATIONS
        return x, [{name: value[0] if name in ("code", "acc") else self.floats(value[0])
                    for name, value in event.elements.items()} for event in events]


@pytest.mark.parametrize("name, index", [("tiny", 0), ("tiny", 1), ("tiny-nolb", 1), ("trained", 0), ("trained", 3)])
def test_layer(root, tmp_path, name, index):
    checkpoint = Checkpoint.open(root / "tests" / "data" / "reference" / name)
    layer, machine = Layer(checkpoint, index), Machine(checkpoint, tmp_path / "tape", index)
    h = np.zeros(checkpoint.geometry.state_size)
    for token in np.random.default_rng(index).integers(0, 128, 8).tolist():
        x, (f, g, i, gate, store, mlgru, o, attention, p, half, glu, down, mlp) = machine.step(token)

        # Token mixer.
        a = layer.norm(x, "attn_norm")
        v = layer.project("attn.f_proj", a, f["code"], gate["acc"])
        z = (1 - layer.lower_bound) * sigmoid(-v)
        assert_near(gate["weighted"], z, SIGMOID + SIGMOID_SLOPE * VALUE + z * (PARAMETER + PATH))
        z = gate["weighted"]

        v = layer.project("attn.g_proj", a, g["code"], store["acc"])
        assert_near(store["value"], v, VALUE * np.abs(v))

        v = layer.project("attn.i_proj", a, i["code"], mlgru["acc"])
        c = silu(v)
        before, h = h, mlgru["state"]
        assert_near(h, (1 - z) * before + z * c,
                    z * np.abs(v) * (SILU_SLOPE * VALUE + SIGMOID + PATH)
                    + 2 * PATH * z * np.abs(c - before) + PATH * np.abs(h))

        u = store["value"] * silu(h)
        assert_near(mlgru["value"], u, np.abs(store["value"] * h) * (SIGMOID + 2 * PATH))
        # The norm of g, which the machine computes last.
        b = mlgru["value"] / root_mean_square(store["value"], layer.eps) * layer.weight("attn.g_norm")
        v = layer.project("attn.o_proj", b, o["code"], attention["acc"])
        assert_near(attention["value"], x + v, VALUE * np.abs(v) + PATH * np.abs(x + v) * (1 + VALUE))
        x = attention["value"]

        # Channel mixer.
        a = layer.norm(x, "mlp_norm")
        v = layer.project("mlp.gate_proj", a, p["code"], np.concatenate([half["acc"], glu["acc"]]))
        v, other = np.split(v, 2)
        assert_near(half["value"], silu(v), np.abs(v) * (SILU_SLOPE * VALUE + SIGMOID + PATH))
        t = half["value"] * other
        assert_near(glu["value"], t, np.abs(t) * (VALUE + PATH) * (1 + VALUE))
        v = layer.project("mlp.down_proj", glu["value"], down["code"], mlp["acc"])
        assert_near(mlp["value"], x + v, VALUE * np.abs(v) + PATH * np.abs(x + v) * (1 + VALUE))
