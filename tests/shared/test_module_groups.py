import pytest
import torch
from torch import nn

from shared.errors import ConfigError
from shared.module_groups import ModuleGroups


class Language(nn.Module):
    """An embedding tied to the output layer, with a batch norm in between and a scale of its own."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.output = nn.Linear(4, 7, bias=bias)
        self.output.weight = self.embedding.weight
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("mask", torch.zeros(3), persistent=False)


GROUPS = {"input": ["embedding.", "scale"], "body": ["body"], "output": ["output."]}


def test_every_tensor_has_one_owner_and_a_tied_one_counts_once():
    module = Language()
    groups = ModuleGroups.of(module, GROUPS)
    assert groups.names == ("input", "body", "output")
    assert groups.members["input"] == ("scale", "embedding.weight")
    assert groups.members["output"] == ("output.bias",)
    assert "body.1.running_mean" in groups.members["body"]
    assert groups.aliases == {"output.weight": "embedding.weight"}
    owned = [name for names in groups.members.values() for name in names]
    assert sorted([*owned, *groups.aliases]) == sorted(module.state_dict())
    assert groups.owner("output.weight") == "input"
    assert groups.owner("output.bias") == "output"
    described = groups.describe()
    assert described["groups"]["input"] == {"prefixes": ["embedding.", "scale"], "tensors": 2, "values": 29}
    assert described["tied"] == {"output.weight": "embedding.weight"}


def test_split_and_join_restore_a_tied_network():
    module, other = Language(), Language()
    groups = ModuleGroups.of(module, GROUPS)
    parts = groups.split(module.state_dict())
    assert "output.weight" not in parts["output"]
    joined = groups.join(parts)
    assert list(joined) == list(module.state_dict())
    other.load_state_dict(joined)
    assert torch.equal(other.output.weight, module.embedding.weight)
    assert other.output.weight is other.embedding.weight


def test_a_tie_follows_the_group_of_its_first_selected_name():
    first = ModuleGroups.of(Language(), {"all": ["embedding", "body", "output", "scale"]})
    assert first.members["all"].count("embedding.weight") == 1
    covered_by_alias = ModuleGroups.of(Language(), {"head": ["output"], "rest": ["body", "scale"]})
    assert covered_by_alias.members["head"] == ("output.weight", "output.bias")
    assert covered_by_alias.aliases == {"embedding.weight": "output.weight"}
    module = Language()
    state = covered_by_alias.join(covered_by_alias.split(module.state_dict()))
    assert torch.equal(state["embedding.weight"], module.embedding.weight)


def test_a_plain_module_is_grouped_by_child():
    groups = ModuleGroups.of(Language())
    assert groups.names == ("rest", "embedding", "body", "output")
    assert groups.members["rest"] == ("scale",)
    assert ModuleGroups.of(Language(bias=False)).names == ("rest", "embedding", "body")


def test_the_module_may_name_its_groups():
    class Named(Language):
        def module_groups(self):
            return {"front": ("embedding.", "scale"), "back": ("body.", "output.")}

    assert ModuleGroups.of(Named()).names == ("front", "back")
    assert ModuleGroups.of(Named(), GROUPS).names == ("input", "body", "output")


def test_a_prefix_stops_at_a_name_boundary():
    module = nn.ModuleDict({"a": nn.Linear(1, 1), "ab": nn.Linear(1, 1)})
    groups = ModuleGroups.of(module, {"one": ["a"], "two": ["ab."]})
    assert groups.members == {"one": ("a.weight", "a.bias"), "two": ("ab.weight", "ab.bias")}


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        ({**GROUPS, "body": ["bodi."]}, r"group body: prefix 'bodi\.' matches no parameter.*nearest: body"),
        ({**GROUPS, "body": ["body.0.wait"]}, r"prefix 'body\.0\.wait' matches no.*nearest: body\.0\.weight"),
        ({**GROUPS, "body": [""]}, "prefix '' matches no parameter and no buffer"),
        ({"input": ["embedding", "scale"], "output": ["output"]}, r"body\.0\.weight.*2 more are in no module group"),
        ({"input": ["embedding", "body", "output"]}, r"^scale is in no module group; the groups are input"),
        (
            {**GROUPS, "extra": ["body.0"]},
            r"body\.0\.weight, body\.0\.bias are in two module groups \(body and extra\)",
        ),
        ({**GROUPS, "a/b": ["body"]}, r"module group 'a/b' cannot name a file"),
        ({**GROUPS, "body": "body."}, r"module group body has 'body\.'; a list of prefixes"),
        ({**GROUPS, "body": []}, r"module group body has no prefix"),
        ({}, r"the module groups are empty"),
        ({"CON": ["embedding", "scale"], "con": ["body", "output"]}, "CON and con differ only in case.*rename one"),
    ],
)
def test_groups_that_do_not_partition_are_refused(groups, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ModuleGroups.of(Language(), groups)


def test_a_group_that_owns_only_ties_is_refused():
    with pytest.raises(ConfigError, match=r"output owns no tensor.*output\.weight is embedding\.weight"):
        ModuleGroups.of(Language(bias=False), GROUPS)


def test_views_of_one_memory_in_two_groups_are_refused():
    module = nn.ModuleDict({"encoder": nn.Linear(3, 5, bias=False), "decoder": nn.Linear(5, 3, bias=False)})
    module["decoder"].weight = nn.Parameter(module["encoder"].weight.detach().T)
    with pytest.raises(ConfigError, match="share memory in different forms; put both in one group"):
        ModuleGroups.of(module)
    assert len(ModuleGroups.of(module, {"both": ["encoder", "decoder"]}).members["both"]) == 2


def test_a_module_without_tensors_is_refused():
    with pytest.raises(ConfigError, match="ReLU has no parameter and no buffer"):
        ModuleGroups.of(nn.ReLU(), {"all": ["x"]})


@pytest.mark.parametrize(
    ("lazy", "names"), [(nn.LazyLinear(3), r"head\.weight, head\.bias are"), (nn.LazyBatchNorm1d(affine=False), "head")]
)
def test_a_lazy_module_before_its_first_batch_is_named(lazy, names):
    module = nn.ModuleDict({"stem": nn.Linear(2, 2), "head": lazy})
    with pytest.raises(ConfigError, match=f"^{names}.* not initialised yet.*run one batch .* known sizes"):
        ModuleGroups.of(module)
    lazy(torch.zeros(4, 2))
    assert ModuleGroups.of(module).names == ("stem", "head")


def test_missing_parts_and_names_are_named():
    module = Language()
    groups = ModuleGroups.of(module, GROUPS)
    state = dict(module.state_dict())
    parts = groups.split(state)
    with pytest.raises(ValueError, match="module groups output are missing"):
        groups.join({"input": parts["input"], "body": parts["body"]})
    with pytest.raises(ValueError, match=r"output\.bias is missing from the parts"):
        groups.join({**parts, "output": {}})
    del state["scale"]
    with pytest.raises(ValueError, match="scale is missing from the state dict"):
        groups.split(state)
    with pytest.raises(ValueError, match=r"no tensor is called 'outputs\.bias'; nearest: output\.bias"):
        groups.owner("outputs.bias")


def test_units_are_whole_submodules_and_lists_are_opened():
    module = nn.Module()
    module.stem = nn.Linear(2, 2)
    module.blocks = nn.ModuleList([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)])
    module.head = nn.Linear(2, 2)
    groups = ModuleGroups.of(module, {"front": ["stem."], "blocks": ["blocks."], "head": ["head.weight", "head.bias"]})
    assert groups.units(module) == {"stem": "front", "blocks.0": "blocks", "blocks.2": "blocks"}


def test_a_real_recurrent_layer_is_its_own_group():
    module = nn.ModuleDict({"rnn": nn.GRU(3, 4), "head": nn.Linear(4, 1)})
    assert ModuleGroups.of(module).names == ("rnn", "head")
