"""The model as it was when the server started: every worker gets these bytes, whatever happens to the file later.

The bytes stay in memory and not in a file, since folders for temporary files are swept on many machines, and a server
may run for months.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from projects.pillsnap.onnx_export.certificate import ModelRefused, certificate_path


@dataclass(frozen=True)
class PinnedModel:
    """A model file and its certificate.

    Attributes:
        path: Where the model stood, its folder without links.
        files: Content by path; the certificate may be missing, which a worker then says in its own words.
    """

    path: Path
    files: dict[Path, bytes]

    @classmethod
    def read(cls, model: Path) -> "PinnedModel":
        """Read both files out of one folder, also where a link to the folder is turned meanwhile.

        Args:
            model: The ONNX file; its folder may be reached by links.

        Raises:
            ModelRefused: If the model cannot be read.
        """
        path = model.parent.resolve() / model.name
        try:
            files = {path: path.read_bytes()}
        except OSError as error:
            raise ModelRefused(f"model file {model} cannot be read: {error.strerror or error}") from error
        certificate = certificate_path(path)
        try:
            files[certificate] = certificate.read_bytes()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ModelRefused(f"certificate {certificate} cannot be read: {error.strerror or error}") from error
        return cls(path, files)

    @contextmanager
    def laid_out(self) -> Iterator[Path]:
        """The two files in a private folder that is gone after the block; a worker keeps what it has loaded.

        Raises:
            OSError: If they cannot be written.
        """
        with tempfile.TemporaryDirectory(prefix="pillsnap-") as folder:
            for path, content in self.files.items():
                (Path(folder) / path.name).write_bytes(content)
            yield Path(folder) / self.path.name

    def in_own_words(self, sentence: str, laid_out: Path) -> str:
        """A worker's sentence about the copy as one about the file."""
        return sentence.replace(str(laid_out.parent), str(self.path.parent))
