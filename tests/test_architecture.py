"""The rules of `house_rules` hold here, pass a sound tree, and each finds the strays planted for it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import house_rules as rules
from tests.house_rules import Breaches

ROOT = Path(__file__).resolve().parents[1]


# rule: (the files it is about, path and content of a stray that it must find)
RULES: dict[Callable[[Path], Breaches], tuple[Callable[[Path], list[Path]], list[tuple[str, str]]]] = {
    rules.imports_go_one_way: (
        rules.sources,
        [
            ("projects/a/data.py", "from projects import b"),
            ("projects/a/data.py", "def f():\n    import projects.ab.losses"),
            ("projects/a/models/net.py", "from ..losses import focal"),
            ("shared/x.py", "from projects.a.data import f"),
        ],
    ),
    rules.models_import_torch_only: (
        rules.torch_only,
        [
            ("projects/a/models/net.py", "import lightning as L"),
            ("projects/a/losses.py", "from hydra.utils import call"),
            ("projects/a/losses/focal.py", "from omegaconf import DictConfig"),
        ],
    ),
    rules.modules_define_no_layer: (
        lambda root: rules.in_room(root, "module"),
        [
            ("projects/a/module.py", "from torch import nn\nnet = nn.Sequential()"),
            ("projects/a/module/b.py", "import torch.nn as nn\nclass Net(nn.Module):\n    pass"),
        ],
    ),
    rules.batch_contract_is_written: (
        lambda root: rules.in_room(root, "data"),
        [("projects/a/data.py", "class Batch(dict): ..."), ("projects/a/data/ct.py", "x = 1")],
    ),
    rules.shared_names_no_domain: (
        lambda root: rules.python(root, "shared"),
        [("shared/pill_splits.py", ""), ("shared/x.py", "class CTScan: ..."), ("shared/x.py", "def by_battery(): ...")],
    ),
    rules.one_door_for_instantiate: (
        rules.python,
        [
            ("shared/x.py", "from hydra.utils import instantiate as build"),
            ("projects/a/train.py", "import hydra\nhydra.utils.instantiate({})"),
            ("tests/test_x.py", "from hydra import utils\nutils.instantiate({})"),
        ],
    ),
    rules.entry_points_in_place: (
        rules.python,
        [
            ("projects/a/models/net.py", "if __name__ == '__main__':\n    pass"),
            ("shared/callbacks/ema.py", "if '__main__' == __name__:\n    pass"),
            ("projects/a/__main__.py", "print()"),
        ],
    ),
    rules.search_path_is_left_alone: (
        rules.python,
        [("tests/x.py", "import sys\nsys.path.append('.')"), ("x.py", "from sys import path\npath")],
    ),
    rules.init_files_only_re_export: (
        rules.sources,
        [
            ("projects/a/__init__.py", "from projects.a.data import f"),
            ("shared/report/__init__.py", "def f(): ..."),
            ("projects/a/data/__init__.py", "TABLE = {}"),
            ("projects/a/models/__init__.py", "def forward(): ..."),
        ],
    ),
    rules.sizes_are_readable: (
        rules.python,
        [("tests/test_x.py", "\n" * 401), ("shared/x.py", "def f():\n    'Doc.'\n" + "    x = 1\n" * 40)],
    ),
    rules.public_functions_are_typed_and_documented: (
        rules.sources,
        [("shared/x.py", "def f():\n    'Doc.'"), ("shared/x.py", "class A:\n    def f(self) -> int: ...")],
    ),
    rules.nothing_is_left_over: (
        rules.tracked,
        [
            ("shared/utils.py", "x = 1"),
            ("conf/model/cbam_v2.yaml", ""),
            ("shared/x.py", ""),
            ("shared/x.py", "# TO" + "DO: x"),
        ],
    ),
    rules.no_machine_paths_or_registry_hosts: (
        rules.tracked,
        [("docs/a.md", "see /" + "home/ada/x"), ("Makefile", "pip install -i https://pypi" + ".org/simple")],
    ),
    rules.lock_has_hashes_and_no_address: (
        lambda root: [root / "requirements.lock"],
        [
            ("requirements.lock", "a==1 \\\n  --hash=sha256:0\nb==1\n"),
            ("requirements.lock", "a @ file://x --hash=sha256:0"),
        ],
    ),
    rules.links_resolve: (
        rules.pages,
        [("docs/a.md", "[x](missing.md#part)"), ("a.md", "[x]: docs/no.md"), ("a.md", "[x](../..)")],
    ),
    rules.sources_are_not_ignored: (rules.sources, [("projects/a/ignored/x.py", "x = 1")]),
}
SOUND = {
    ".gitignore": "ignored/\n",
    "README.md": "[the lock](requirements.lock) [top](#top) `[code](no.md)` [far](https://example.org)\n",
    "requirements.lock": "a==1 \\\n  --hash=sha256:0\n",
    "shared/__init__.py": "import os\nos.environ['A'] = 'b'",
    "shared/instantiate.py": "import hydra\ndef build(x) -> None:\n    'Doc.'\n    hydra.utils.instantiate(x)",
    "shared/compare/__main__.py": "if __name__ == '__main__':\n    pass",
    "projects/b/__init__.py": "'Doc.'",
    "projects/b/data/__init__.py": "from .ct import Batch\n__all__ = ['Batch']",
    "projects/b/data/ct.py": "from typing import TypedDict\nclass Batch(TypedDict): ...",
    "projects/b/models/__init__.py": "from .net import net\nBUILDERS = {'net': net}\ndef build_b() -> int:\n    'Doc.'",
    "projects/b/models/net.py": "import torch\nfrom projects.b import losses",
    "projects/b/losses.py": "import torch",
    "projects/b/module.py": "from torch import nn\ndef f(net: nn.Module) -> None:\n    'Doc.'",
    "projects/b/train.py": "if __name__ == '__main__':\n    pass",
}
STRAYS = [
    pytest.param(rule, *stray, id=f"{rule.__name__}-{n}")
    for rule, (_, all_) in RULES.items()
    for n, stray in enumerate(all_)
]


@pytest.fixture
def sound_tree(tmp_path: Path) -> Path:
    """Return a small repository that keeps every rule."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    for name, content in SOUND.items():
        plant(tmp_path, name, content)
    return tmp_path


def plant(root: Path, name: str, content: str) -> None:
    """Write one file of a tree."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content, encoding="utf-8")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule: Callable[[Path], Breaches]) -> None:
    assert RULES[rule][0](ROOT), "the rule looks at no file"
    breaches = [breach.replace(f"{ROOT}{os.sep}", "") for breach in rule(ROOT)]
    assert not breaches, f"{rule.__doc__}\n" + "\n".join(breaches)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_tree_passes(rule: Callable[[Path], Breaches], sound_tree: Path) -> None:
    assert list(rule(sound_tree)) == []


@pytest.mark.parametrize(("rule", "name", "content"), STRAYS)
def test_a_planted_stray_is_found(rule: Callable[[Path], Breaches], name: str, content: str, sound_tree: Path) -> None:
    plant(sound_tree, name, content)
    assert list(rule(sound_tree))


def test_models_and_losses_load_without_lightning_and_hydra() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in rules.torch_only(ROOT)
    ]
    assert names, "no models and no losses found"
    code = f"import sys, importlib\nsys.modules.update(dict.fromkeys({sorted(rules.NOT_IN_MODELS)}))\n"
    code += f"for name in {names}:\n    importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
