"""The house rules as functions: each reads a tree and yields its breaches as "path:line: what is wrong"."""

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SOURCE_ROOMS = ("projects", "shared")
# No layer or loss may need these: the server that loads a model has none of them.
NOT_IN_MODELS = {"lightning", "pytorch_lightning", "hydra", "omegaconf", "albumentations", "tensorboard", "streamlit"}
DOMAIN_NOUNS = {"battery", "batteries", "ct", "resin", "porosity", "pill", "pills", "pillsnap"} | {
    *("redheart", "emotion", "emotions", "story", "stories", "spectrum", "spectra", "wavelength", "wavelengths")
}
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 40
LEFTOVER = re.compile(r"(?:utils?|helpers?|misc|common)|.+_(?:v\d+|legacy|new|old|copy|bak|backup|deprecated)")
MACHINE_PATH = re.compile(r"(?<![\w.~*)}>$-])/(?:root|home|work|tmp|mnt|opt|Users)/\w")
REGISTRY_HOST = re.compile(r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|registry\.npmjs\.org|deb\.debian\.org")
LAYER = re.compile(r"torch\.nn\.(?:Sequential|Linear|Parameter|Embedding|(?:Conv|BatchNorm|LayerNorm|Dropout)\w*)")
UNFINISHED = re.compile(r"\b(?:TO[D]O|FIX[M]E|X{3})\b")
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)

Breaches = Iterator[str]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def tracked(root: Path) -> list[Path]:
    """Return what git tracks or would track, so that outputs, caches and the environment are left out."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=root, env=clean, capture_output=True, check=True, text=True)
    paths = (root / name for name in done.stdout.split("\0") if name)
    return sorted({path for path in paths if path.is_file()})


def python(root: Path, *tops: str) -> list[Path]:
    """Return the Python files below the folders `tops`, or all of them."""
    files = [path for path in tracked(root) if path.suffix == ".py"]
    return [path for path in files if not tops or path.relative_to(root).parts[0] in tops]


def sources(root: Path) -> list[Path]:
    """Return the Python files of the two source rooms."""
    return python(root, *SOURCE_ROOMS)


def pages(root: Path) -> list[Path]:
    """Return the Markdown pages."""
    return [path for path in tracked(root) if path.suffix == ".md"]


def torch_only(root: Path) -> list[Path]:
    """Return the files of every `models/` and every `losses`, one file or a folder."""
    files = ((path, path.relative_to(root).with_suffix("").parts[2:]) for path in python(root, "projects"))
    return [path for path, rooms in files if rooms[:1] in (("models",), ("losses",))]


def in_room(root: Path, room: str) -> list[Path]:
    """Return the files of `projects/<p>/<room>.py` or of the folder of that name."""
    files = ((path, path.relative_to(root).with_suffix("").parts[2:]) for path in python(root, "projects"))
    return [path for path, rooms in files if rooms[:1] == (room,)]


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def text_of(path: Path) -> str | None:
    """Return the text of a file, None for a binary one."""
    try:
        content = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in content else content


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of each import at any depth; `from a import b` counts as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (f"{node.module}." if node.module else "")
            yield from ((node.lineno, prefix + alias.name) for alias in node.names)


@cache
def dotted_uses(tree: ast.AST) -> list[tuple[int, str]]:
    """Return (line, dotted name) of each name or attribute chain, import aliases resolved."""
    alias: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            alias |= {name.asname: name.name for name in node.names if name.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            alias |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    chains = [node for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)]
    parts = ((node.lineno, *ast.unparse(node).partition(".")) for node in chains)
    return [(line, alias.get(head, head) + dot + rest) for line, head, dot, rest in parts]


def public_functions(body: list[ast.stmt]) -> Iterator[Function]:
    """Yield public functions and the public methods of public classes."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield node


def decorators(function: Function) -> set[str]:
    """Return the last part of each decorator's name."""
    return {ast.unparse(node).split("(")[0].split(".")[-1] for node in function.decorator_list}


def imports_go_one_way(root: Path) -> Breaches:
    """projects -> shared -> libraries; no project reaches into another."""
    for path in sources(root):
        top, *rest = path.relative_to(root).parts
        own = f"projects.{rest[0]}." if top == "projects" else "(shared has none)"
        for line, name in imported(parsed(path)):
            reaches_over = name.split(".")[0] in {"projects", "tests", "bench"} and not f"{name}.".startswith(own)
            if reaches_over or name.startswith(".."):
                yield f"{path}:{line}: reaches into {name}"


def models_import_torch_only(root: Path) -> Breaches:
    """A network or a loss runs where Lightning and Hydra are not installed."""
    for path in torch_only(root):
        for line, name in imported(parsed(path)):
            if name.split(".")[0] in NOT_IN_MODELS:
                yield f"{path}:{line}: models and losses may not import {name}"


def modules_define_no_layer(root: Path) -> Breaches:
    """`module.py` trains a network; what the network is made of stands in `models/`."""
    for path in in_room(root, "module"):
        for line, name in dotted_uses(parsed(path)):
            if LAYER.fullmatch(name):
                yield f"{path}:{line}: {name} belongs in models/"
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & {"nn.Module", "Module"}:
                yield f"{path}:{node.lineno}: the layer {node.name} belongs in models/"


def batch_contract_is_written(root: Path) -> Breaches:
    """Each project's `data` names the keys of its batch in a TypedDict."""
    for project in sorted({path.relative_to(root).parts[1] for path in in_room(root, "data")}):
        files = [path for path in in_room(root, "data") if path.relative_to(root).parts[1] == project]
        classes = [node for path in files for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef)]
        if not any("TypedDict" in ast.unparse(base) for node in classes for base in node.bases):
            yield f"projects/{project}/data: no TypedDict names the keys, shapes and units of a batch"


def shared_names_no_domain(root: Path) -> Breaches:
    """What is about one subject belongs to its project."""
    for path in python(root, "shared"):
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        names = [(node.lineno, node.name) for node in ast.walk(parsed(path)) if isinstance(node, kinds)]
        for line, name in [(1, path.stem), *names]:
            words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
            if nouns := words & DOMAIN_NOUNS:
                yield f"{path}:{line}: {name} holds the domain noun {sorted(nouns)[0]}"


def one_door_for_instantiate(root: Path) -> Breaches:
    """Only `shared/instantiate.py`, which checks the targets, may call Hydra's."""
    doors = {"hydra.utils.instantiate", "hydra.utils.call", "hydra._internal.instantiate"}
    for path in python(root):
        if path == root / "shared" / "instantiate.py":
            continue
        for line, name in [*imported(parsed(path)), *dotted_uses(parsed(path))]:
            if any(f"{name}.".startswith(f"{door}.") for door in doors):
                yield f"{path}:{line}: call shared.instantiate instead of {name}"


def entry_points_in_place(root: Path) -> Breaches:
    """`__main__` stands directly under projects/<p>/, in shared/<tool>.py, shared/<tool>/__main__.py or bench/."""
    for path in python(root):
        top, *rest = path.relative_to(root).parts
        mains = [node.lineno for node in ast.walk(parsed(path)) if _asks_for_main(node)]
        if path.name == "__main__.py":
            allowed, mains = top == "shared" and len(rest) == 2, mains or [1]
        else:
            allowed = (top, len(rest)) in {("projects", 2), ("shared", 1), ("bench", 1)}
        if mains and not allowed:
            yield f"{path}:{mains[0]}: no entry point belongs here"


def _asks_for_main(node: ast.AST) -> bool:
    """Tell whether a node compares `__name__`."""
    return isinstance(node, ast.Compare) and "__name__" in {
        ast.unparse(side) for side in (node.left, *node.comparators)
    }


def search_path_is_left_alone(root: Path) -> Breaches:
    """The package is installed editable; nothing edits `sys.path`."""
    for path in python(root):
        for line, name in dotted_uses(parsed(path)):
            if name in {"sys.path", "site.addsitedir"}:
                yield f"{path}:{line}: {name}"


def init_files_only_re_export(root: Path) -> Breaches:
    """Docstring, imports, `__all__`; a project's own only a docstring; `models/` also its builders and their lookup."""
    for path in sources(root):
        # shared/__init__.py sets what native libraries read while they load, and loads `load_run` on first use.
        if path.name != "__init__.py" or path == root / "shared" / "__init__.py":
            continue
        top, *rest = path.relative_to(root).parts
        own, models = top == "projects" and len(rest) == 2, top == "projects" and rest[1:-1] == ["models"]
        for node in parsed(path).body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if not (docstring or (_is_re_export(node) and not own) or (models and _is_builder(node))):
                yield f"{path}:{node.lineno}: {ast.unparse(node).splitlines()[0]}"


def _is_re_export(node: ast.stmt) -> bool:
    """Tell whether a statement is an import or assigns `__all__`."""
    return isinstance(node, ast.Import | ast.ImportFrom) or ast.unparse(node).startswith("__all__ = ")


def _is_builder(node: ast.stmt) -> bool:
    """Tell whether a statement is a name -> builder dict or the function that looks one up."""
    if isinstance(node, Function):
        return node.name.startswith("build_")
    return isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict)


def sizes_are_readable(root: Path) -> Breaches:
    """Files up to 400 lines, functions up to 40 without their docstring."""
    for path in python(root):
        num_lines = len(path.read_text(encoding="utf-8").splitlines())
        if num_lines > MAX_FILE_LINES:
            yield f"{path}:{num_lines}: {num_lines} lines; split it at {MAX_FILE_LINES}"
    for path in sources(root):
        for node in ast.walk(parsed(path)):
            if isinstance(node, Function) and (length := _length(node)) > MAX_FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines; {MAX_FUNCTION_LINES} are allowed"


def _length(function: Function) -> int:
    """Count the lines of a function without its docstring."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    return function.end_lineno - function.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)


def public_functions_are_typed_and_documented(root: Path) -> Breaches:
    """A return annotation on each; a docstring on each but overloads and `@override`."""
    for path in sources(root):
        for node in public_functions(parsed(path).body):
            if node.returns is None:
                yield f"{path}:{node.lineno}: {node.name} has no return annotation"
            if not ast.get_docstring(node) and not decorators(node) & {"overload", "override", "setter"}:
                yield f"{path}:{node.lineno}: {node.name} has no docstring"


def nothing_is_left_over(root: Path) -> Breaches:
    """No catch-all or second-version names, no empty files, no notes to finish later."""
    for path in tracked(root):
        for part in path.relative_to(root).parts:
            if LEFTOVER.fullmatch(part.split(".")[0]):
                yield f"{path}:1: name the thing, not {part}"
        if path.suffix == ".py":
            content = path.read_text(encoding="utf-8")
            if not content.strip() and path.name != "__init__.py":
                yield f"{path}:1: an empty file"
            for number, line in enumerate(content.splitlines(), 1):
                if UNFINISHED.search(line):
                    yield f"{path}:{number}: {line.strip()}"


def no_machine_paths_or_registry_hosts(root: Path) -> Breaches:
    """A checkout says nothing about the machine it was made on."""
    for path in tracked(root):
        for number, line in enumerate((text_of(path) or "").splitlines(), 1):
            if found := MACHINE_PATH.search(line) or REGISTRY_HOST.search(line):
                yield f"{path}:{number}: {found.group()}"


def lock_has_hashes_and_no_address(root: Path) -> Breaches:
    """The lock installs from whichever index the machine uses, and only what was hashed."""
    for path in sorted(root.glob("requirements*.lock")):
        for block in re.split(r"(?<!\\)\n", path.read_text(encoding="utf-8").rstrip("\n")):
            if "://" in block or " @ " in block:
                yield f"{path}:1: an address: {block.splitlines()[0]}"
            if "--hash=sha256:" not in block:
                yield f"{path}:1: no hash: {block.splitlines()[0]}"


def links_resolve(root: Path) -> Breaches:
    """Each relative link of a page leads to a file of this repository."""
    for path in pages(root):
        for target in (a or b for a, b in LINK.findall(CODE.sub("", path.read_text(encoding="utf-8")))):
            place = (path.parent / target.split("#")[0]).resolve()
            outside = not place.is_relative_to(root.resolve())
            if not re.match(r"[a-z]+:|#", target) and (outside or not place.exists()):
                yield f"{path}:1: the link {target} leads nowhere"


def sources_are_not_ignored(root: Path) -> Breaches:
    """A folder such as projects/<p>/data/ must not fall under a pattern meant for the data sets."""
    known = set(tracked(root))
    for top in (*SOURCE_ROOMS, "conf", "tests", "bench", "docs"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in {".py", ".yaml", ".md", ".j2", ".css"} and path not in known:
                yield f"{path}:1: git ignores this source file"
