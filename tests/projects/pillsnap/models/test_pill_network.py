import pytest
import torch

from projects.pillsnap.models import build_network


def network(**changes):
    torch.manual_seed(0)
    options = {"num_classes": 7, "backbone": "test_resnet", "drop_path_rate": 0.0, "attribute_sizes": {"shape": 3}}
    return build_network("timm", **options | changes).eval()


def test_shapes_of_logits_features_and_attributes():
    model, image = network(), torch.randn(2, 3, 64, 64)
    features = model.features(image)
    assert model(image).shape == (2, 7)
    torch.testing.assert_close(model.head(features), model(image))
    assert {name: tuple(logits.shape) for name, logits in model.attributes(features).items()} == {"shape": (2, 3)}


def test_every_tensor_belongs_to_one_group():
    model = network()
    prefixes = [prefix for group in model.module_groups().values() for prefix in group]
    for name in model.state_dict():
        assert sum(name.startswith(prefix) for prefix in prefixes) == 1, name
    assert set(model.module_groups()) == {"backbone", "head", "attributes"}
    assert set(network(attribute_sizes=None).module_groups()) == {"backbone", "head"}


def test_the_reference_network_has_the_published_size():
    model = network(num_classes=100, backbone="tf_efficientnetv2_s", drop_path_rate=0.2, attribute_sizes=None)
    # 21.46 M with a head of 1,000 classes; a head of 100 has 900 * (1280 + 1) weights less.
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(21.46e6 - 900 * 1281, rel=2e-3)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match="network is 'resnet', allowed: timm"):
        build_network("resnet")
    with pytest.raises(ValueError, match=r"no parameter 'drop_out'.*did you mean 'dropout'"):
        build_network("timm", num_classes=2, drop_out=0.1)
