import json

import pytest

from shared.errors import ConfigError
from shared.sweep.overview import read_facts
from shared.sweep.search import Search
from tests.fabricate.toy_sweep import toy_search


@pytest.mark.parametrize("read", [Search.load, read_facts])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"objective": "os.system"}, "objective is 'os.system'; it must be a function below one of shared., projects."),
        ({"objective": "shared./../../etc/passwd.x"}, "objective is 'shared./../../etc/passwd.x'; it must be"),
        ({"primary": "../elsewhere"}, "primary is '../elsewhere'; allowed are battery, pillsnap, redheart, spectra"),
        ({"primary": "experiment"}, "primary is 'experiment'; allowed are"),
    ],
)
def test_a_file_that_names_other_code_is_refused(tmp_path, read, change, sentence):
    folder = toy_search(tmp_path).folder
    path = folder / "sweep.json"
    read(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | change) + "\n")
    with pytest.raises(ConfigError) as caught:
        read(folder)
    assert str(caught.value).startswith(f"{path}: {sentence}")
