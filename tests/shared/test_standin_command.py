from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.standin_command import make_in


def test_the_folder_is_named_at_the_end(capsys):
    told = []
    assert make_in(Path("somewhere"), "things", lambda on_progress: told.append(on_progress(1, 2))) == 0
    assert told == [None]
    assert capsys.readouterr().out.strip() == "data: somewhere"


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ConfigError("standin.seed is -1; allowed: 0 or more."), 2, "standin.seed is -1; allowed: 0 or more."),
        (
            OSError(28, "No space left on device"),
            1,
            "somewhere cannot be written ([Errno 28] No space left on device).",
        ),
    ],
)
def test_what_went_wrong_is_one_sentence_and_a_code(capsys, error, code, sentence):
    def generate(on_progress):
        raise error

    assert make_in(Path("somewhere"), "things", generate) == code
    captured = capsys.readouterr()
    assert captured.out.strip() == ""
    assert captured.err == f"{sentence}\n"
