import contextlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terngen.host.convert.geometry import Geometry
from terngen.host.errors import UnsupportedError

SMALL = {"model_type": "hgrn_bit", "vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 2,
         "intermediate_size": 16}


@pytest.mark.parametrize("config, ternary, everything", [
    ({"hidden_size": 1024, "num_hidden_layers": 24},                                 341_049_344, 374_108_160),
    ({},                                                                           1_298_661_376, 1_364_779_008),
    ({"hidden_size": 2560, "num_hidden_layers": 32, "hidden_ratio": 1, "intermediate_size": 6912},
                                                                                   2_619_473_920, 2_702_357_504),
])
def test_published_sizes(config, ternary, everything):
    geometry = Geometry.from_config({"model_type": "hgrn_bit"} | config)
    assert geometry.ternary_weights == ternary
    assert sum(map(math.prod, geometry.tensors.values())) == everything


def test_defaults():
    assert Geometry.from_config({"model_type": "hgrn_bit"}) == Geometry(
        vocab_size=32000, hidden_size=2048, num_hidden_layers=24, expand_ratio=1, intermediate_size=5632,
        use_lower_bound=True, rms_norm_eps=1e-6, bos_token_id=1, eos_token_id=2)


@pytest.mark.parametrize("hidden_size, hidden_ratio, intermediate_size", [
    (64, 4, 256), (128, 3, 256), (128, 4, 512), (256, 4, 768), (384, 1, 256), (386, 1, 512), (2560, 4, 6912),
])
def test_intermediate_size(hidden_size, hidden_ratio, intermediate_size):
    config = {"model_type": "hgrn_bit", "hidden_size": hidden_size, "hidden_ratio": hidden_ratio}
    assert Geometry.from_config(config).intermediate_size == intermediate_size
    assert Geometry.from_config(config | {"intermediate_size": None}).intermediate_size == intermediate_size
    assert Geometry.from_config(config | {"intermediate_size": 160}).intermediate_size == 160


def test_expand_ratio():
    geometry = Geometry.from_config(SMALL | {"use_lower_bound": False, "expand_ratio": 2})
    assert geometry.state_size == 16
    assert geometry.tensors["model.layers.1.attn.f_proj.weight"] == (16, 8)
    assert geometry.tensors["model.layers.1.attn.g_norm.weight"] == (16,)
    assert geometry.tensors["model.layers.1.attn.o_proj.weight"] == (8, 16)
    assert geometry.tensors["model.layers.1.attn.o_proj.norm.weight"] == (16,)


def test_harmless_options():
    harmless = {"torch_dtype": "float16", "num_heads": 4, "pad_token_id": 0, "hidden_act": "silu",
                "quantization_config": None, "use_cache": False}
    assert Geometry.from_config(SMALL | harmless) == Geometry.from_config(SMALL)


@pytest.mark.parametrize("name, value, message", [
    ("model_type", "llama", r'^Option model_type must be "hgrn_bit" \(MatMul-free LM\), not \'llama\'$'),
    ("model_type", "bitnet", r"^Option model_type must be"),
    ("attn_mode", "chunk", r'^Option attn_mode must be "fused_recurrent", not \'chunk\'$'),
    ("hidden_act", "relu2", r'^Option hidden_act must be "swish" or "silu", not \'relu2\'$'),
    ("use_short_conv", True, r"^Option use_short_conv must be false, not True$"),
    ("use_short_conv", 0, r"^Option use_short_conv must be false, not 0$"),
    ("tie_word_embeddings", True, r"^Option tie_word_embeddings must be false, not True$"),
    ("expand_ratio", 2, r"^Option expand_ratio must be 1 with use_lower_bound, .* not 2; other ratios"),
    ("expand_ratio", 0.01, r"^Option expand_ratio must make a state of 1 to 131072 values, not 0$"),
    ("expand_ratio", "1", r"^Option expand_ratio must be a number"),
    ("quantization_config", {"quant_method": "bitnet"}, r"^Option 'quantization_config' with value .* is not"),
    ("rope_theta", 1e4, r"^Option 'rope_theta' with value 10000.0 is not supported; supported are .*hidden_size"),
    ("vocab_size", 0, r"^Option vocab_size must be between 1 and 1048576, not 0$"),
    ("hidden_size", 1 << 18, r"^Option hidden_size must be between 1 and 131072, not 262144$"),
    ("hidden_size", 10**30, r"^Option hidden_size must be a whole number up to 1048576, not 1000"),
    ("hidden_size", 8.0, r"^Option hidden_size must be a whole number up to 1048576, not 8.0$"),
    ("num_hidden_layers", True, r"^Option num_hidden_layers must be a whole number up to 1048576, not True$"),
    ("num_hidden_layers", 1025, r"^Option num_hidden_layers must be between 1 and 1024, not 1025$"),
    ("intermediate_size", -256, r"^Option intermediate_size must be between 1 and 131072, not -256$"),
    ("rms_norm_eps", 0, r"^Option rms_norm_eps must be between 0 and 1, not 0$"),
    ("use_lower_bound", None, r"^Option use_lower_bound must be true or false, not None$"),
    ("bos_token_id", 12, r"^Option bos_token_id must be null or a token below 12, not 12$"),
    ("eos_token_id", [1, 2], r"^Option eos_token_id must be a whole number .* not \[1, 2\]$"),
])
def test_option_unsupported(name, value, message):
    with pytest.raises(UnsupportedError, match=message):
        Geometry.from_config(SMALL | {name: value})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([*SMALL, "expand_ratio", "hidden_ratio", "rms_norm_eps", "eos_token_id",
                                        "attn_mode", "use_lower_bound", "foreign"]),
                       JSON, max_size=3))
def test_any_config(options):
    with contextlib.suppress(UnsupportedError):
        Geometry.from_config(SMALL | options)
