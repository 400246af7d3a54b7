import hashlib
import json

import pytest

from projects.pillsnap.onnx_export.certificate import (
    ModelRefused,
    certificate_path,
    check_certificate,
    read_certificate,
    remove_pair,
    write_certificate,
)

CONTENT = b"the bytes of a model"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model_int8.onnx"
    path.write_bytes(CONTENT)
    return path


def certify(model, **changes):
    entries = {
        "source": {"run": "r", "final_sha256": "0"},
        "preprocessing_digest": "d",
        "versions": {"onnxruntime": "1.21.0", "torch": "2.6.0"},
        "provider": "CPUExecutionProvider",
        "preprocessing_agreement": {"images": 3, "max_grey_levels": 1, "tolerance": 1},
        "network_agreement": {"images": 3, "max_abs_probability": 1e-6, "top1_agreement": 1.0, "tolerances": {}},
        "passed": True,
    }
    return write_certificate(model, **(entries | changes))


def test_it_stands_beside_the_model_and_names_its_bytes(model):
    path = certify(model)
    assert path == certificate_path(model) == model.with_name("model_int8.certificate.json")
    content = json.loads(path.read_text())
    assert content["format"] == "pillsnap-certificate-1"
    assert content["model"] == {
        "file": "model_int8.onnx", "sha256": hashlib.sha256(CONTENT).hexdigest(), "bytes": len(CONTENT),
    }  # fmt: skip
    assert check_certificate(model, CONTENT, "1.21.0") == content


@pytest.mark.parametrize("runtime", ["1.21.0", "1.21.1", "1.100.0", "2.0", "1.21.0+cpu"])
def test_the_same_runtime_or_a_later_one_will_do(model, runtime):
    certify(model)
    assert check_certificate(model, CONTENT, runtime)["passed"] is True


@pytest.mark.parametrize("runtime", ["1.20.9", "1.3.0", "0.99"])
def test_an_older_runtime_is_refused(model, runtime):
    certify(model)
    with pytest.raises(ModelRefused, match=rf"certified with onnxruntime 1\.21\.0, this is the older {runtime}"):
        check_certificate(model, CONTENT, runtime)


def test_other_bytes_are_refused(model):
    certify(model)
    with pytest.raises(ModelRefused, match=r"model_int8\.onnx is not the file that was certified"):
        check_certificate(model, CONTENT + b" ", "1.21.0")


def test_a_failed_test_is_refused(model):
    certify(model, passed=False)
    with pytest.raises(ModelRefused, match=r"did not pass its test .*model_int8\.certificate\.json has the numbers"):
        check_certificate(model, CONTENT, "1.21.0")


def test_a_missing_certificate_is_refused(model):
    with pytest.raises(ModelRefused, match=r"has no certificate \(model_int8\.certificate\.json is missing\)"):
        read_certificate(model)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "cannot be read"),
        ("[]", "has format None, allowed: 'pillsnap-certificate-1'"),
        ('{"format": "other"}', "has format 'other', allowed"),
        ('{"format": "pillsnap-certificate-1", "model": {}}', "has no usable entry 'preprocessing_digest'"),
        (
            '{"format": "pillsnap-certificate-1", "model": {}, "preprocessing_digest": "", "versions": {}, '
            '"passed": 1}',
            "has no usable entry 'passed'",
        ),
    ],
)
def test_a_strange_certificate_is_refused(model, text, sentence):
    certificate_path(model).write_text(text)
    with pytest.raises(ModelRefused, match=sentence):
        read_certificate(model)


@pytest.mark.parametrize("versions", [{"torch": "2.6.0"}, {"onnxruntime": "latest"}, {"onnxruntime": "1"}])
def test_the_runtime_must_be_stated_in_numbers(model, versions):
    with pytest.raises(ValueError, match=r"that of onnxruntime is needed, in numbers such as 1\.20\.0"):
        certify(model, versions=versions)


@pytest.mark.parametrize("version", [None, "", "latest", "v1.21.0", 1.21, ["1.21.0"]])
def test_a_certificate_without_a_version_to_compare_with_is_refused(model, version):
    path = certify(model)
    content = json.loads(path.read_text())
    del content["versions"]["onnxruntime"]
    if version is not None:
        content["versions"]["onnxruntime"] = version
    path.write_text(json.dumps(content))
    with pytest.raises(ModelRefused, match=r"was made with onnxruntime .*; a version in numbers, such as '1.20.0'"):
        check_certificate(model, CONTENT, "1.21.0")


def test_a_short_version_is_that_with_a_zero(model):
    certify(model, versions={"onnxruntime": "1.21.0"})
    assert check_certificate(model, CONTENT, "1.21")["passed"] is True


def test_a_pair_is_removed_once_and_for_all(model):
    path = certify(model)
    remove_pair(model)
    assert not model.exists()
    assert not path.exists()
    remove_pair(model)
