"""The networks of `nas-bench-macro` (Su et al., 2021) at 16 channels, written as a user's model."""

from torch import Tensor, nn

from search import LayerChoice

WIDTH = 16
LAYERS = (2, 3, 3)  # of each stage; the first of a stage halves the side and doubles the channels


def conv(before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(after))


class Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int, kernel: int, ratio: int) -> None:
        super().__init__()
        middle = before * ratio
        self.layers = nn.Sequential(
            *(conv(before, middle), nn.ReLU()),
            *(conv(middle, middle, kernel, stride, middle), nn.ReLU()),
            conv(middle, after),
        )
        self.has_shortcut = before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.has_shortcut else self.layers(x)


def make_model() -> nn.Module:
    layers, before = [conv(3, WIDTH, 3), nn.ReLU()], WIDTH
    for count in LAYERS:
        after = 2 * before
        for stride in (2,) + (1,) * (count - 1):
            candidates = {
                "identity": nn.Identity() if stride == 1 else conv(before, after, 1, stride),
                "k3_e3": Block(before, after, stride, 3, 3),
                "k5_e6": Block(before, after, stride, 5, 6),
            }
            layers.append(LayerChoice(candidates, name=f"layer{len(layers)}"))
            before = after
    head = (conv(before, 40 * WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40 * WIDTH, 10))
    return nn.Sequential(*layers, *head)
