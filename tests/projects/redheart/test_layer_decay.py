import pytest

from projects.redheart.layer_decay import layer_scales
from tests.fabricate.story_module import story_module

NAMES = [
    "network.backbone.position", "network.backbone.embed.weight", "network.backbone.layers.0.w",
    "network.backbone.layers.1.w", "network.backbone.norm.weight", "network.heads.emotion.bias",
    "network.analyzers.dsp.layers.0.w", "network.fusion.scores.emotion", "text_encoder.transformer.embeddings.w",
    "text_encoder.transformer.encoder.layer.0.w", "text_encoder.transformer.encoder.layer.1.w", "loss.s",
]  # fmt: skip


def test_rates_fall_towards_the_text() -> None:
    scale = layer_scales(NAMES, layer_decay=0.5, analyzer_lr_scale=1.5)
    assert [scale(name) for name in NAMES] == [
        0.125, 0.125, 0.25, 0.5, 0.5,  # backbone: before its two layers, the layers, behind them
        1.0, 1.5, 1.0,
        0.125 * 0.125, 0.125 * 0.25, 0.125 * 0.5,  # the text encoder goes on below
        1.0,
    ]  # fmt: skip


def test_the_network_itself_has_layers_that_are_found() -> None:
    names = [name for name, _ in story_module().named_parameters()]
    scale = layer_scales(names, layer_decay=0.95, analyzer_lr_scale=1.0)
    found = sorted({round(scale(name), 6) for name in names if name.startswith("network.backbone.")})
    assert found == [round(0.95**power, 6) for power in (3, 2, 1)]


def test_off_is_no_scale_at_all() -> None:
    assert layer_scales(NAMES, layer_decay=1.0, analyzer_lr_scale=1.0) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_decay": 1.1}, "layer_decay is 1.1, allowed: above 0, up to 1"),
        ({"analyzer_lr_scale": 0}, "is 0, allowed"),
    ],
)
def test_a_wrong_value_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer_scales(NAMES, **({"layer_decay": 1.0, "analyzer_lr_scale": 1.0} | changes))
