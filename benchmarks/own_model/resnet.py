"""A ResNet with bottlenecks (He et al., 2016) of three stages. Eight choices."""

from torch import Tensor, nn
from torch.nn import functional as F

from search import LayerChoice

STAGES = ((16, 64, 1), (32, 128, 2), (64, 256, 2))  # middle and outer channels, stride


def conv_bn(before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after))


class Bottleneck(nn.Module):
    def __init__(self, before: int, middle: int, after: int, stride: int = 1, kernel: int = 3, groups: int = 1) -> None:
        super().__init__()
        self.reduce = conv_bn(before, middle)
        self.conv = conv_bn(middle, middle, kernel, stride, groups)
        self.expand = conv_bn(middle, after)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = conv_bn(before, after, 1, stride) if stride > 1 or before != after else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.reduce(x))
        y = self.relu(self.conv(y))
        y = self.expand(y)
        y += shortcut
        return self.relu(y)


class ResNet(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 32, 3), nn.ReLU(inplace=True))
        self.stages = nn.ModuleList()
        before = 32
        for number, (middle, after, stride) in enumerate(STAGES):
            first = {
                "usual": Bottleneck(before, middle, after, stride),
                "k5": Bottleneck(before, middle, after, stride, kernel=5),
                "narrow": Bottleneck(before, middle // 2, after, stride),
            }
            stage = [LayerChoice(first, name=f"stage{number}.first")]
            for block in range(2 if number < 2 else 1):
                later = {
                    "usual": Bottleneck(after, middle, after),
                    "k5": Bottleneck(after, middle, after, kernel=5),
                    "narrow": Bottleneck(after, middle // 2, after),
                    "grouped": Bottleneck(after, 2 * middle, after, groups=8),
                    "skip": nn.Identity(),
                }
                stage.append(LayerChoice(later, name=f"stage{number}.block{block}"))
            self.stages.append(nn.Sequential(*stage))
            before = after
        self.fc = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def make_model() -> nn.Module:
    return ResNet()
