"""Like MobileNetV3 (Howard et al., 2019), small: squeeze-and-excitation and hard swish. Nine choices."""

from torch import Tensor, nn

from search import LayerChoice

BLOCKS = [  # channels before and after, stride, excitation, activation
    (16, 16, 1, True, nn.ReLU),
    (16, 24, 2, False, nn.ReLU),
    (24, 24, 1, False, nn.ReLU),
    (24, 40, 2, True, nn.Hardswish),
    (40, 40, 1, True, nn.Hardswish),
    (40, 48, 1, True, nn.Hardswish),
    (48, 48, 1, True, nn.Hardswish),
    (48, 96, 2, True, nn.Hardswish),
    (96, 96, 1, True, nn.Hardswish),
]


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, channels // 4, 1)
        self.relu = nn.ReLU()
        self.expand = nn.Conv2d(channels // 4, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.relu(self.reduce(self.pool(x)))))


class InvertedResidual(nn.Module):
    def __init__(
        self, before: int, after: int, stride: int, excited: bool, activation: type[nn.Module], kernel: int, ratio: int
    ) -> None:
        super().__init__()
        middle = before * ratio
        layers = [nn.Conv2d(before, middle, 1, bias=False), nn.BatchNorm2d(middle), activation()]
        layers += [
            nn.Conv2d(middle, middle, kernel, stride, kernel // 2, groups=middle, bias=False),
            nn.BatchNorm2d(middle),
            activation(),
        ]
        if excited:
            layers.append(SqueezeExcitation(middle))
        layers += [nn.Conv2d(middle, after, 1, bias=False), nn.BatchNorm2d(after)]
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.has_shortcut else self.layers(x)


class MobileNetV3(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.blocks = nn.Sequential()
        for number, block in enumerate(BLOCKS):
            candidates: dict[str, nn.Module] = {
                f"k{k}_e{e}": InvertedResidual(*block, kernel=k, ratio=e) for k in (3, 5) for e in (3, 6)
            }
            if block[0] == block[1]:
                candidates["skip"] = nn.Identity()
            self.blocks.append(LayerChoice(candidates, name=f"block{number}"))
        self.head = nn.Sequential(nn.Conv2d(96, 288, 1, bias=False), nn.BatchNorm2d(288), nn.Hardswish())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(288, 256), nn.Hardswish(), nn.Linear(256, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.head(self.blocks(self.stem(x))))
        return self.classifier(x.flatten(1))


def make_model() -> nn.Module:
    return MobileNetV3()
