import pytest

from projects.pillsnap.onnx_export.certificate import ModelRefused
from projects.pillsnap.server.pinned import PinnedModel


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.onnx").write_bytes(b"model")
    (tmp_path / "run" / "a.certificate.json").write_bytes(b"certificate")
    (tmp_path / "latest").symlink_to("run")
    return tmp_path


def test_both_files_are_kept_whatever_becomes_of_them(folder):
    pinned = PinnedModel.read(folder / "latest" / "a.onnx")
    (folder / "latest").unlink()
    (folder / "run" / "a.onnx").write_bytes(b"other")
    with pinned.laid_out() as copy:
        assert copy.read_bytes() == b"model"
        assert copy.with_name("a.certificate.json").read_bytes() == b"certificate"
        assert copy.parent.stat().st_mode & 0o777 == 0o700
    assert not copy.parent.exists()


def test_a_file_that_is_a_link_keeps_its_name_and_its_certificate(folder):
    (folder / "run" / "blob").write_bytes(b"linked")
    (folder / "run" / "a.onnx").unlink()
    (folder / "run" / "a.onnx").symlink_to("blob")
    with PinnedModel.read(folder / "latest" / "a.onnx").laid_out() as copy:
        assert (copy.name, copy.read_bytes()) == ("a.onnx", b"linked")
        assert copy.with_name("a.certificate.json").exists()


def test_a_sentence_about_the_copy_becomes_one_about_the_file(folder):
    pinned = PinnedModel.read(folder / "latest" / "a.onnx")
    with pinned.laid_out() as copy:
        assert pinned.in_own_words(f"{copy} is bad", copy) == f"{folder / 'run' / 'a.onnx'} is bad"


def test_what_cannot_be_read_is_named(folder):
    with pytest.raises(ModelRefused, match=r"model file .*b\.onnx cannot be read: No such file or directory"):
        PinnedModel.read(folder / "b.onnx")
    (folder / "run" / "a.certificate.json").unlink()
    with PinnedModel.read(folder / "run" / "a.onnx").laid_out() as copy:
        assert [path.name for path in copy.parent.iterdir()] == ["a.onnx"]
    (folder / "run" / "a.certificate.json").mkdir()
    with pytest.raises(ModelRefused, match=r"certificate .*a\.certificate\.json cannot be read: Is a directory"):
        PinnedModel.read(folder / "run" / "a.onnx")
