"""A model of your own: read it, rescale it, check it across width and depth.

Nothing in the model knows about leadline. Run: python examples/transfer_own_model.py
"""

import torch
from torch import nn

import leadline as ll


class Block(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n)
        self.up, self.down = nn.Linear(n, 2 * n), nn.Linear(2 * n, n)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.down(torch.relu(self.up(self.norm(h))))


class Model(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(64, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.readout = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        return self.readout(h)


data = ll.digits(classes=(0, 1), samples=32, test_samples=0)
batch = (torch.tensor(data.x, dtype=torch.float32), torch.tensor(data.y, dtype=torch.float32))


def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    x, y = batch
    return ((model(x) - y) ** 2).mean()


if __name__ == "__main__":
    plan = ll.plan(Model, base=dict(width=32, depth=2), target=dict(width=128, depth=8))
    print(plan)

    torch.manual_seed(0)
    model = plan.apply(Model(128, 8))
    optimizer = torch.optim.AdamW(plan.param_groups(model, lr=3e-3, weight_decay=0.1))
    for _ in range(20):
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        optimizer.step()
    print(f"loss of the target after 20 steps at the base's learning rate: {value.item():.4f}")

    report = ll.check(
        ll.Task(loss, batch=batch), plan, widths=(32, 64, 128), depths=(2, 4, 8), seeds=2
    )
    print(report)
