import pytest
import torch

from projects.pillsnap import module as pillsnap_module
from projects.pillsnap.module import PillClassifier
from projects.pillsnap.preprocess import UnifiedPreprocessor
from shared.errors import CheckpointError
from shared.metric_keys import metric_key
from shared.module_groups import ModuleGroups

PARTS = [metric_key("val", "accuracy", task=name) for name in ("real", "studio", "shape")]


def module(**changes):
    torch.manual_seed(0)
    options = {
        "network": "timm",
        "parameters": {"backbone": "test_resnet", "dropout": 0.0, "drop_path_rate": 0.0},
        "pretrained": False,
        "weights_path": None,
        "label_smoothing": 0.0,
        "mixing": {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "cutmix_area": [0.1, 1.0], "probability": 0.0},
        "attribute_weight": 0.5,
        "classes": [f"K-{code}" for code in range(7)],
        "attribute_names": {"shape": ["oval", "round"]},
        "domains": ["real", "studio"],
        "preprocessing": UnifiedPreprocessor(size_px=32).get_config(),
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "scheduler": {"name": "constant"},
    }
    return PillClassifier(**options | changes)


def batch(size=6):
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.randn(size, 3, 32, 32, generator=generator),
        "target": torch.arange(size) % 7,
        "attributes": torch.tensor([[0], [1], [-1]] * (size // 3)),
        "sample_index": torch.arange(size),
        "domain": torch.tensor([0, 1] * (size // 2)),
    }


def test_the_loss_is_that_of_pill_and_attributes():
    classifier, given = module().eval(), batch()
    outputs = classifier.shared_step(given, "val")
    features = classifier.features(given["image"])
    known = given["attributes"][:, 0] >= 0
    expected = torch.nn.functional.cross_entropy(classifier.network.head(features), given["target"])
    shape = classifier.network.attributes(features)["shape"][known]
    expected = expected + 0.5 * torch.nn.functional.cross_entropy(shape, given["attributes"][known, 0])
    torch.testing.assert_close(outputs["loss"], expected)
    assert set(outputs) == {"loss", "logits", "target", "sample_index", "attribute_logits"}


def test_without_attributes_there_is_no_head_and_no_entry():
    classifier = module(attribute_names={})
    given = {name: value for name, value in batch().items() if name != "attributes"}
    assert "attribute_logits" not in classifier.shared_step(given, "predict")
    assert set(classifier.module_groups()) == {"backbone", "head"}


def test_images_are_mixed_in_training_only():
    always = {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "cutmix_area": [0.1, 1.0], "probability": 1.0}
    classifier, given = module(mixing=always).eval(), batch()
    torch.manual_seed(0)
    mixed = classifier.shared_step(given, "train")["logits"]
    assert not classifier.unmixed_accuracy.update_called  # a mixed image has no one label
    plain = classifier.shared_step(given, "val")["logits"]
    assert not torch.allclose(mixed, plain)
    torch.testing.assert_close(classifier.shared_step(given, "test")["logits"], plain)


def test_unmixed_batches_count_for_the_training_accuracy():
    classifier = module().eval()
    classifier.shared_step(batch(), "train")
    assert classifier.unmixed_accuracy.update_called


def test_each_tensor_has_one_group_and_metrics_have_none():
    groups = ModuleGroups.of(module())
    assert set(groups.members) == {"backbone", "head", "attributes"}


def test_hyper_parameters_name_the_preprocessing():
    assert module().hparams["preprocessing"]["size_px"] == 32
    assert module().hparams["preprocessing"]["version"] == 1


def test_checkpoints_name_the_pixels_they_belong_to():
    saved = {}
    module().on_save_checkpoint(saved)
    module().on_load_checkpoint(saved)
    other = module(preprocessing=UnifiedPreprocessor(size_px=32, clahe=False).get_config())
    with pytest.raises(CheckpointError, match="was trained on pixels of preprocessing"):
        other.on_load_checkpoint(saved)
    with pytest.raises(CheckpointError, match="preprocessing None; this run"):
        other.on_load_checkpoint({})


def test_facts_for_the_report():
    facts = module().describe()
    assert facts["network"] == "timm"
    assert facts["pretrained weights"] == "none"
    with pytest.raises(ValueError, match="no parameter 'width'"):
        module(parameters={"width": 3})


def logged_by(classifier, monkeypatch, others=None):
    """Keys that the module logs; with `others`, what another rank says at each exchange, it is one of two ranks."""
    keys = []
    monkeypatch.setattr(classifier, "log", lambda key, *_, **__: keys.append(key))
    if others is not None:
        monkeypatch.setattr(pillsnap_module, "num_ranks", lambda: 2)
        monkeypatch.setattr(
            pillsnap_module, "largest_over_ranks", lambda own: [max(pair) for pair in zip(own, others, strict=True)]
        )
    return keys


@pytest.mark.parametrize(("others", "is_logged"), [([0], False), ([1], True), (None, False)])
def test_the_training_accuracy_is_logged_where_one_rank_had_an_unmixed_batch(others, is_logged, monkeypatch):
    always = {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "cutmix_area": [0.1, 1.0], "probability": 1.0}
    classifier = module(mixing=always)
    keys = logged_by(classifier, monkeypatch, others)
    classifier.training_step(batch(), 0)
    assert ("train/accuracy" in keys) is is_logged


def validated(classifier, attribute):
    given = batch() | {"domain": torch.zeros(6, dtype=torch.long), "attributes": torch.full((6, 1), attribute)}
    classifier.validation_step(given, 0)
    classifier.on_validation_epoch_end()


def test_parts_are_logged_once_where_one_rank_had_a_row_of_them(monkeypatch):
    classifier = module().eval()
    keys = logged_by(classifier, monkeypatch, others=[0, 1, 0])  # real, studio, shape
    validated(classifier, attribute=-1)
    assert [key for key in keys if key in PARTS] == PARTS[:2]


def test_alone_parts_with_rows_are_logged(monkeypatch):
    classifier = module().eval()
    keys = logged_by(classifier, monkeypatch)
    validated(classifier, attribute=1)
    assert [key for key in keys if key in PARTS] == [PARTS[0], PARTS[2]]
