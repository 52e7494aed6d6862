"""A plain VGG (Simonyan and Zisserman, 2015) with batch norms. Seven choices: a layer, or two in its place."""

from torch import Tensor, nn

from search import LayerChoice

WIDTHS: tuple[int | str, ...] = (16, 16, "pool", 32, 32, "pool", 64, 64, "pool", 96)


def conv(before: int, after: int, kernel: int = 3) -> nn.Sequential:
    layer = nn.Conv2d(before, after, kernel, padding=kernel // 2)
    return nn.Sequential(layer, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def make_layers() -> nn.Sequential:
    layers, before = nn.Sequential(), 3
    for number, width in enumerate(WIDTHS):
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
            continue
        candidates = {
            "k3": conv(before, width),
            "k1": conv(before, width, 1),
            "k5": conv(before, width, 5),
            "twice": nn.Sequential(conv(before, width), conv(width, width)),
        }
        layers.append(LayerChoice(candidates, name=f"conv{number}"))
        before = width
    return layers


class VGG(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = make_layers()
        self.avgpool = nn.AdaptiveAvgPool2d(4)
        self.classifier = nn.Sequential(nn.Linear(96 * 16, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(x.view(x.size(0), -1))


def make_model() -> nn.Module:
    return VGG()
