"""Small networks of several topologies, seeded sources for their groups, and grouped batches."""

import torch
from torch import Tensor, nn

from shared.crossover.evaluator import Source
from shared.module_groups import ModuleGroups

WIDTH, CLASSES = 6, 3


class Network(nn.Module):
    """Anything with a forward from a batch to logits, as a module whose predict_step returns what is needed."""

    def logits(self, batch: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"logits": self.logits(batch), "target": batch["target"]}


class Leaves(Network):
    """Backbone and three leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())
        self.a, self.b, self.c = (nn.Linear(WIDTH, CLASSES) for _ in range(3))

    def logits(self, batch):
        features = self.backbone(batch["image"])
        return self.a(features) + self.b(features) + self.c(features)


class InPlace(Leaves):
    """A leaf that writes into the backbone's output, and one that reads it afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(WIDTH, CLASSES))


class Joined(Network):
    """Two branches and what joins them."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.join = nn.Sequential(nn.Tanh(), nn.Linear(2 * WIDTH, CLASSES))

    def logits(self, batch):
        return self.join(torch.cat([self.left(batch["image"]), self.right(batch["image"])], dim=1))


class Twice(Network):
    """A unit called twice a batch, on different inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def logits(self, batch):
        first = self.body(batch["image"])
        return self.head(torch.tanh(self.body(torch.tanh(first))))


class Tied(Network):
    """Two groups with one weight between them: the decoder's changes when the encoder's source does."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.middle = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.decoder = nn.Linear(WIDTH, WIDTH)
        self.decoder.weight = self.encoder.weight

    def logits(self, batch):
        # The decoder also sees the batch itself, so its input alone does not tell that its weight has changed.
        own = self.decoder(batch["image"])
        return (self.middle(torch.tanh(self.encoder(batch["image"]))) + own)[:, :CLASSES]


class Flipped(Network):
    """The mean over the input and its mirror image, as a classifier averages over views."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Tanh(), nn.Flatten())
        self.head = nn.Linear(4 * (WIDTH - 2), CLASSES)

    def logits(self, batch):
        image = batch["image"][:, None]
        return (self.head(self.backbone(image)) + self.head(self.backbone(image.flip(2)))) / 2


class Stateful(Leaves):
    """A backbone whose output depends on how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Drifting()


class Drifting(nn.Linear):
    def __init__(self) -> None:
        super().__init__(WIDTH, WIDTH)
        self.calls = 0

    def forward(self, input):
        self.calls += 1
        return super().forward(input) * (1 + 0.01 * self.calls)


class Normed(Network):
    """With batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH, momentum=0.3), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(WIDTH, CLASSES))

    def logits(self, batch):
        return self.head(self.backbone(batch["image"]))


def make_batches(num_groups=12, per_group=4, batch_size=16, first_group=0, seed=0):
    """Batches of groups that follow each other."""
    generator = torch.Generator().manual_seed(seed)
    number = num_groups * per_group
    image = torch.randn(number, WIDTH, generator=generator)
    target = torch.randint(0, CLASSES, (number,), generator=generator)
    group = torch.arange(number) // per_group + first_group
    return [
        {
            "image": image[i : i + batch_size].clone(), "target": target[i : i + batch_size],
            "group_index": group[i : i + batch_size],
        }
        for i in range(0, number, batch_size)
    ]  # fmt: skip


def make_states(module, number, scale=1.0, seed=0):
    """States of the module with other weights, as a fit would leave them."""
    groups, generator = ModuleGroups.of(module), torch.Generator().manual_seed(seed)
    base = groups.split(module.state_dict())
    states = []
    for _ in range(number):
        parts = {
            group: {
                name: tensor + scale * torch.randn(tensor.shape, generator=generator).abs()
                if tensor.is_floating_point() else tensor.clone()
                for name, tensor in part.items()
            }
            for group, part in base.items()
        }  # fmt: skip
        states.append(groups.join(parts))
    return states


def make_sources(module, number, seed=0):
    """Sources with weights of their own in each group."""
    groups = ModuleGroups.of(module)
    parts = [groups.split(state) for state in make_states(module, number, seed=seed)]
    return groups, [Source(epoch, f"epoch {epoch}", part.__getitem__) for epoch, part in enumerate(parts)]
