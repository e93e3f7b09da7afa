"""Stage 2: the four blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from yolostudy.study.exercise import Exercise

from ._fixtures import gradient, ramp, seeded, values

NOT_ITS_OWN = "two layers, built and filled alike, answer differently: the layer does not own some of its weights"


def shapes(layer: nn.Module, learning: bool = False) -> dict[str, int]:
    """Count the parameters of each kind that a layer owns, or those that a gradient has reached.

    Names do not count, so a mistake in a row of layers shows as one number. Convolutions come
    first, because they say most.
    """
    reached = [p for p in layer.parameters() if not learning or (p.grad is not None and p.grad.abs().sum() > 0)]
    return dict(
        Counter(_called(p) + ("" if p.requires_grad else ", frozen") for p in sorted(reached, key=lambda p: -p.dim()))
    )


def _called(parameter: Tensor) -> str:
    if parameter.dim() == 4:
        c_out, c_in, height, width = parameter.shape
        return f"{height} x {width} convolutions, {c_in} to {c_out} channels"
    if parameter.dim() == 1:
        return f"scales, shifts and biases of {len(parameter)} channels"
    return f"parameters of shape {tuple(parameter.shape)}"


def tensor(output: object) -> Tensor:
    """The output of forward.

    If it is no tensor, raise a clear sentence here: torch's own error would come later, far from
    the learner's code.
    """
    if isinstance(output, Tensor):
        return output
    raise TypeError(
        "forward returns None: its `return` is missing"
        if output is None
        else f"forward returns a {type(output).__name__}"
    )


def steady(look: Callable[[], object]) -> object:
    """What `look` sees, if it sees the same twice.

    Weights that a layer does not own are random anew each time. Compared with the reference they
    would be noise that nothing can recognise.
    """
    first, second = look(), look()
    return first if _alike(first, second) else NOT_ITS_OWN


def _alike(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.allclose(one, other, equal_nan=True)
    if isinstance(one, dict) and isinstance(other, dict):
        return all(map(_alike, one.values(), other.values()))
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return all(map(_alike, one, other))
    return True


def lively(layer: nn.Module) -> nn.Module:
    """Seed a layer, then enlarge its weights.

    Each SiLU halves values near zero, so little is left at the end of a deep network. Weights twice
    as large would make it explode instead, and the difference between two CPUs with it.
    """
    seeded(layer)
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.5)
    return layer


# ---- ConvModule ----------------------------------------------------------------------------------

conv_module = Exercise(
    "blocks.ConvModule",
    stage=2,
    points=2,
    minutes=10,
    goal="Build the layer that the whole network is made of: convolution, batch normalisation, SiLU.",
    hints=(
        "Make the three layers in __init__ and keep each on self. In forward the input goes through them in the order "
        "of their names in the docstring's first line.",
        "With stride 1 the map keeps its size: how many positions must be added around it for a kernel of 3, and for "
        "a kernel of 1? Which number of the convolution does the normalisation take away again?",
        "Padding is half the kernel, rounded down. The convolution has no bias. nn.BatchNorm2d gets Ultralytics' "
        "numbers instead of its own: an eps of 0.001 and a momentum of 0.03.",
    ),
)


@conv_module.probe("the parameters that it owns")
def _(course):
    return {"kernel 3": shapes(course.blocks.ConvModule(3, 8, 3)), "kernel 1": shapes(course.blocks.ConvModule(6, 4))}


@conv_module.probe("kernel 3 on two small maps")
@torch.no_grad()
def _(course):
    return steady(lambda: seeded(course.blocks.ConvModule(3, 8, 3))(2 * ramp(2, 3, 6, 5)))


@conv_module.probe("other kernels and strides")
@torch.no_grad()
def _(course):
    def look():
        made = {
            (kernel, stride): seeded(course.blocks.ConvModule(4, 6, kernel, stride))
            for kernel, stride in ((1, 1), (3, 2), (5, 2), (1, 2))
        }
        return {
            f"kernel {kernel}, stride {stride}": layer(2 * ramp(1, 4, 7, 10))
            for (kernel, stride), layer in made.items()
        }

    return steady(look)


@conv_module.probe("a new layer, with nothing learned but its weight")
@torch.no_grad()
def _(course):
    def look():
        layer = course.blocks.ConvModule(2, 3, 3).eval()
        for parameter in layer.parameters():
            if parameter.dim() > 1:
                parameter.copy_(ramp(*parameter.shape))
        return layer(2 * ramp(1, 2, 4, 4))

    return steady(look)


@conv_module.probe("a training step on faint maps")
def _(course):
    def look():
        layer, x = seeded(course.blocks.ConvModule(3, 5, 3), train=True), (0.03 * ramp(2, 3, 5, 4)).requires_grad_()
        y = tensor(layer(x))
        back = gradient((y * ramp(*y.shape)).sum(), x)
        with torch.no_grad():
            return {
                "output": y.detach(),
                "gradient": back,
                "output in evaluation, afterwards": layer.eval()(ramp(1, 3, 5, 4)),
            }

    return steady(look)


conv_module.misconception(
    "super.__init__ without calling super",
    swap=("super().__init__()", "super.__init__()"),
    because="Without brackets `super` is a class of Python's own, not your parent. So nn.Module never sets up the "
    "tables in which it keeps layers, and the constructor fails before a single layer exists. Write "
    "super().__init__() as the first line.",
    museum=2,
)
conv_module.misconception(
    "the layers are made in forward",
    swap=[
        (
            "self.conv = nn.Conv2d(c_in, c_out, kernel_size, stride, padding=kernel_size // 2, bias=False)",
            "self.sizes = c_in, c_out, kernel_size, stride",
        ),
        ("self.bn = nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.03)", ""),
        ("self.act = nn.SiLU()", ""),
        (
            "return self.act(self.bn(self.conv(x)))",
            "c_in, c_out, kernel_size, stride = self.sizes\n"
            "        x = nn.Conv2d(c_in, c_out, kernel_size, stride, padding=kernel_size // 2, bias=False)(x)\n"
            "        return nn.SiLU()(nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.03)(x))",
        ),
    ],
    because="A layer that is made in forward is a new one with new random weights at every call. The module does not "
    "own it, so it has no parameters: the optimizer of stage 7 trains nothing, freezing freezes nothing and a "
    "checkpoint stays empty. Make layers in __init__, keep them on self, and only call them in forward.",
    museum=4,
)
conv_module.misconception(
    "the padding is forgotten",
    swap=(", padding=kernel_size // 2", ""),
    because="Without padding a 3 x 3 kernel takes one position away on every side, so each layer shrinks its map. A "
    "shortcut could no longer be added, and the maps that the neck of stage 3 concatenates would not fit. Pad by half "
    "the kernel.",
)
conv_module.misconception(
    "the padding is always 1",
    swap=("padding=kernel_size // 2", "padding=1"),
    because="One position is right for a 3 x 3 kernel only. A 1 x 1 convolution then surrounds its map with a frame "
    "in which it saw nothing, and a 5 x 5 one shrinks it. Pad by half of the kernel size.",
)
conv_module.misconception(
    "the convolution keeps its bias",
    swap=(", bias=False", ""),
    because="The normalisation subtracts the mean of each channel, and with it any bias: the bias can learn nothing. "
    "It costs parameters, and in stage 8 every convolution has a key that no pretrained checkpoint knows. Switch it "
    "off.",
    museum=14,
)
conv_module.misconception(
    "the normalisation keeps torch's defaults",
    swap=("c_out, eps=1e-3, momentum=0.03", "c_out"),
    because="Torch's defaults are an eps of 1e-5 and a momentum of 0.1; this family of networks was trained with 1e-3 "
    "and 0.03. Keys, shapes and counts all agree, so nothing complains, but in stage 8 the outputs no longer equal "
    "Ultralytics', and in training the running statistics follow the last ten batches instead of the last thirty. "
    "Give both numbers.",
)
conv_module.misconception(
    "the eps of the normalisation keeps its default",
    swap=("eps=1e-3, ", ""),
    because="Torch's default is 1e-5, this family uses 1e-3. A channel that hardly varies is then amplified up to ten "
    "times more, and in stage 8 the outputs differ from Ultralytics' although every weight was copied. Give eps as "
    "well as momentum.",
)
conv_module.misconception(
    "the momentum of the normalisation keeps its default",
    swap=(", momentum=0.03", ""),
    because="Torch's default of 0.1 lets the running statistics follow the last ten batches or so; 0.03 averages over "
    "about thirty. Outputs in training are the same. Outputs in evaluation depend on what the last few batches held, "
    "and so does every mAP of stage 7. Give momentum as well as eps.",
)
conv_module.misconception(
    "the activation is ReLU",
    swap=("nn.SiLU()", "nn.ReLU()"),
    because="ReLU sets everything below zero to exactly zero, and such a position passes no gradient back. SiLU, x "
    "times sigmoid(x), lets a little through. No key and no shape shows the difference: pretrained weights would load "
    "in stage 8 and give nonsense. Use nn.SiLU.",
)
conv_module.misconception(
    "the activation comes before the normalisation",
    swap=("self.act(self.bn(self.conv(x)))", "self.bn(self.act(self.conv(x)))"),
    because="The normalisation has to come first, so that the activation gets values around zero, where it bends. "
    "Pretrained weights load in stage 8 without complaint and give nonsense. Convolve, normalise, activate.",
)
conv_module.misconception(
    "the activation is left out",
    swap=("self.act(self.bn(self.conv(x)))", "self.bn(self.conv(x))"),
    because="A convolution and a normalisation are both linear, and so is any number of them in a row: without a bend "
    "between them the whole network could be multiplied out into one convolution. It still trains in stage 7, to a "
    "poor result that nothing explains. Pass the output of the normalisation through the SiLU.",
)


# ---- Bottleneck ----------------------------------------------------------------------------------

bottleneck = Exercise(
    "blocks.Bottleneck",
    stage=2,
    points=1,
    minutes=10,
    after="blocks.ConvModule",
    goal="Put two ConvModules behind a shortcut that can be switched off.",
    hints=(
        "Decide once, in __init__, whether this block adds its input. forward only looks the decision up.",
        "The first ConvModule changes the number of channels, the second keeps it. A map can only be added to one of "
        "the same shape.",
        "Add if the shortcut is asked for and c_in equals c_out. The sum is the untouched input plus the output of "
        "the second ConvModule. Activate nothing after the sum.",
    ),
)


@bottleneck.probe("the parameters that it owns")
def _(course):
    return {
        "8 to 8 channels": shapes(course.blocks.Bottleneck(8, 8)),
        "8 to 12 channels": shapes(course.blocks.Bottleneck(8, 12)),
    }


@bottleneck.probe("with a shortcut, and without")
@torch.no_grad()
def _(course):
    def look():
        with_it, without = course.blocks.Bottleneck(6, 6, shortcut=True), course.blocks.Bottleneck(6, 6, shortcut=False)
        return {"shortcut=True": seeded(with_it)(ramp(2, 6, 4, 5)), "shortcut=False": seeded(without)(ramp(2, 6, 4, 5))}

    return steady(look)


@bottleneck.probe("a shortcut is asked for, but the channels differ")
@torch.no_grad()
def _(course):
    def look():
        fewer, more = course.blocks.Bottleneck(6, 4, shortcut=True), course.blocks.Bottleneck(4, 6, shortcut=True)
        return {"6 to 4": seeded(fewer)(ramp(1, 6, 5, 4)), "4 to 6": seeded(more)(ramp(1, 4, 5, 4))}

    return steady(look)


@bottleneck.probe("the input, after the block has read it, and its gradient")
def _(course):
    def look():
        layer, x = seeded(course.blocks.Bottleneck(4, 4)), ramp(1, 4, 3, 3)
        with torch.no_grad():
            layer(x)
        after = x.clone()
        y = tensor(layer(x.requires_grad_()))
        return {"input": after, "gradient": gradient((y * ramp(*y.shape)).sum(), x)}

    return steady(look)


bottleneck.misconception(
    "the shortcut is added where the channels differ",
    swap=("self.add = shortcut and c_in == c_out", "self.add = shortcut"),
    because="A map of 6 channels cannot be added to one of 4, and torch stops with a size mismatch. All blocks of "
    "this network keep their channels, so the mistake would wait for the first reader who builds another. Add only if "
    "c_in equals c_out.",
)
bottleneck.misconception(
    "the shortcut is always on",
    swap=("self.add = shortcut and c_in == c_out", "self.add = c_in == c_out"),
    because="The backbone asks for shortcuts and the neck asks for none. With shortcuts everywhere all keys and "
    "shapes still agree, but from the neck on, in stage 3, the outputs differ from Ultralytics'. Let the argument "
    "decide too.",
)
bottleneck.misconception(
    "the shortcut is never added",
    swap=("return x + y if self.add else y", "return y"),
    because="The sum lets a gradient reach the first layers undiminished: each block learns only what to change. "
    "Without it deep rows train slowly in stage 7, and pretrained weights, which expect it, give nonsense in stage 8. "
    "Return the sum if the shortcut is asked for.",
)
bottleneck.misconception(
    "the middle map is added instead of the input",
    swap=("y = self.cv2(self.cv1(x))", "x = self.cv1(x)\n        y = self.cv2(x)"),
    because="You add the output of the first ConvModule. Often a line such as `x = self.cv1(x)` is the cause: x is "
    "then another map, and the input is lost before it can be added. No shape shows it. The shortcut leads around one "
    "ConvModule instead of two, so nothing passes a whole block unchanged. Keep the input under a name of its own.",
)
bottleneck.misconception(
    "the sum is activated, as in ResNet",
    swap=[
        (
            "self.add = shortcut and c_in == c_out",
            "self.cv2.act = nn.Identity()\n        self.add = shortcut and c_in == c_out",
        ),
        ("return x + y if self.add else y", "return nn.functional.silu(x + y if self.add else y)"),
    ],
    because="He et al. add first and activate the sum. Here the second ConvModule activates, and the input is added "
    "untouched, so that it can pass a whole row of blocks unchanged. Use two complete ConvModules and activate "
    "nothing after the sum.",
)
bottleneck.misconception(
    "the first kernel is 1 x 1, as in YOLOv5",
    swap=("self.cv1 = ConvModule(c_in, c_out, kernel_size=3)", "self.cv1 = ConvModule(c_in, c_out, kernel_size=1)"),
    because="YOLOv5 squeezed with 1 x 1 and then looked around with 3 x 3. Here both look around, so that each block "
    "widens the view by four positions instead of two. In stage 8 the first weight of every block would have the "
    "wrong shape. Use kernel_size=3 twice.",
)
bottleneck.misconception(
    "the middle has half the channels",
    swap=[
        ("self.cv1 = ConvModule(c_in, c_out, kernel_size=3)", "self.cv1 = ConvModule(c_in, c_out // 2, kernel_size=3)"),
        (
            "self.cv2 = ConvModule(c_out, c_out, kernel_size=3)",
            "self.cv2 = ConvModule(c_out // 2, c_out, kernel_size=3)",
        ),
    ],
    because="The name speaks of a narrow neck, and in ResNet the middle is narrow. Here the split of CSPLayer_2Conv "
    "has halved the channels already, and Ultralytics builds this block with e=1.0. Keep c_out channels in the "
    "middle, or no pretrained weight fits in stage 8.",
)
bottleneck.misconception(
    "the sum is written into the input",
    swap=("return x + y if self.add else y", "return x.add_(y) if self.add else y"),
    because="`x += y` and `add_` change the caller's own tensor. CSPLayer_2Conv keeps every map of its row for the "
    "concatenation, and would find the same map several times; in training autograd stops with an error about an "
    "in-place operation. Write x + y, which makes a new map.",
)


# ---- CSPLayer_2Conv ------------------------------------------------------------------------------

csp_layer = Exercise(
    "blocks.CSPLayer_2Conv",
    stage=2,
    points=3,
    minutes=20,
    after="blocks.Bottleneck",
    goal="Split a map, refine one half step by step, and keep every step.",
    hints=(
        "You need two ConvModules with 1 x 1 kernels, one before the split and one after the concatenation, and a row "
        "of bottlenecks in an nn.ModuleList between them.",
        "Count the halves that are concatenated: the two of the split, and one for each bottleneck. The channels are "
        "dimension 1.",
        "Start a list with the two halves of the first ConvModule's output. Each bottleneck takes the last map of the "
        "list and appends its own. At the end concatenate the whole list for the last ConvModule.",
    ),
)


@csp_layer.probe("the parameters that it owns")
def _(course):
    layer = course.blocks.CSPLayer_2Conv
    return {
        "1 bottleneck": shapes(layer(6, 8)),
        "3 bottlenecks": shapes(layer(10, 12, repeats=3)),
        "none": shapes(layer(6, 8, repeats=0)),
    }


@csp_layer.probe("a row of one, and the gradient through it")
def _(course):
    def look():
        x = ramp(2, 6, 4, 5).requires_grad_()
        y = tensor(lively(course.blocks.CSPLayer_2Conv(6, 8))(x))
        return {"output": y.detach(), "gradient": gradient((y * ramp(*y.shape)).sum(), x)}

    return steady(look)


@csp_layer.probe("a row of three, with shortcuts and without")
@torch.no_grad()
def _(course):
    def look():
        made = {f"shortcut={on}": course.blocks.CSPLayer_2Conv(4, 12, repeats=3, shortcut=on) for on in (True, False)}
        return {name: lively(layer)(ramp(1, 4, 5, 4)) for name, layer in made.items()}

    return steady(look)


@csp_layer.probe("the weights that learn, in a row of three")
def _(course):
    """Count the weights that get a gradient.

    Weights of one shape are filled alike, so the output does not tell which bottleneck ran.
    """
    layer = lively(course.blocks.CSPLayer_2Conv(4, 12, repeats=3))
    y = tensor(layer(ramp(1, 4, 5, 4)))
    (y * ramp(*y.shape)).sum().backward()
    return shapes(layer, learning=True)


csp_layer.misconception(
    "every bottleneck reads the same half",
    swap=("bottleneck(maps[-1])", "bottleneck(maps[1])"),
    because="The bottlenecks then stand side by side, not in a row: each sees five positions wide, where the last one "
    "should see thirteen. With one bottleneck nothing shows, so only the outer stages of the nano network are right. "
    "Feed each with the map before it.",
)
csp_layer.misconception(
    "the row starts at the first half",
    swap=("bottleneck(maps[-1])", "bottleneck(maps[-1 if len(maps) > 2 else 0])"),
    because="Either half would do in a network of your own, but the pretrained weights of stage 8 were learned with "
    "the second half refined and the first kept. No key and no shape shows the difference. Start the row at the "
    "second half.",
)
csp_layer.misconception(
    "only the end of the row is kept",
    swap=[
        ("(2 + repeats) * hidden", "2 * hidden"),
        ("torch.cat(maps, dim=1)", "torch.cat((maps[0], maps[-1]), dim=1)"),
    ],
    because="That is the older C3 layer: the first half and the end of the row. This layer concatenates every step of "
    "the row, so that gradients reach each bottleneck by a short way. The last ConvModule reads (2 + repeats) halves.",
)
csp_layer.misconception(
    "the first half is dropped",
    swap=[
        ("(2 + repeats) * hidden", "(1 + repeats) * hidden"),
        ("torch.cat(maps, dim=1)", "torch.cat(maps[1:], dim=1)"),
    ],
    because="The half that is not refined is the point of the split: it carries the map past the row unchanged and at "
    "no cost. Without it the last ConvModule lacks `hidden` channels, and its pretrained weight does not fit in stage "
    "8. Concatenate both halves and every step.",
)
csp_layer.misconception(
    "the maps are concatenated in reverse",
    swap=("torch.cat(maps, dim=1)", "torch.cat(maps[::-1], dim=1)"),
    because="The last ConvModule has one weight for each channel that it reads, in a fixed order. A network trained "
    "from scratch would not mind. A pretrained one gives nonsense in stage 8, with every key matched. First half, "
    "second half, then the row in its order.",
)
csp_layer.misconception(
    "the split is not along the channels",
    swap=("chunk(2, dim=1)", "chunk(2)"),
    because="chunk splits along dimension 0 unless told otherwise, and dimension 0 counts images: half of the batch "
    "goes into the row, with all its channels. With a single image there is only one chunk. Split along dimension 1.",
)
csp_layer.misconception(
    "one bottleneck is used again and again",
    swap=(
        "nn.ModuleList(Bottleneck(hidden, hidden, shortcut) for _ in range(repeats))",
        "nn.ModuleList([Bottleneck(hidden, hidden, shortcut)] * repeats)",
    ),
    because="A list times a number repeats the reference, not the layer: the whole row shares one set of weights. It "
    "runs, it trains, and it learns less. In stage 8 the last pretrained bottleneck of each row overwrites the "
    "others. Build one bottleneck in each turn of a loop.",
)
csp_layer.misconception(
    "the bottlenecks stand in a plain list",
    swap=(
        "self.m = nn.ModuleList(Bottleneck(hidden, hidden, shortcut) for _ in range(repeats))",
        "self.m = [Bottleneck(hidden, hidden, shortcut) for _ in range(repeats)]",
    ),
    because="nn.Module registers layers and parameters, but not those inside a plain list or dict. The row runs, but "
    "the optimizer never trains it, .to(device) leaves it behind and no checkpoint holds it. Put the list into an "
    "nn.ModuleList.",
)
csp_layer.misconception(
    "the shortcut is not handed on",
    swap=("Bottleneck(hidden, hidden, shortcut)", "Bottleneck(hidden, hidden)"),
    because="A Bottleneck adds its input by default, this layer by default does not: the two defaults differ on "
    "purpose. Without the argument every layer of the neck gets shortcuts that it must not have, and stage 3 differs "
    "from Ultralytics from C on. Hand the argument on.",
)


# ---- SPPF ----------------------------------------------------------------------------------------

sppf = Exercise(
    "blocks.SPPF",
    stage=2,
    points=2,
    minutes=15,
    after="blocks.ConvModule",
    goal="Let a position see 13 x 13 neighbours without changing the size of the map.",
    hints=(
        "Height and width stay. Which stride and which padding does that leave for the pooling?",
        "Four maps are concatenated: the first ConvModule's output and three poolings. How many channels is that for "
        "the last ConvModule?",
        "The second pool takes the first pool's output, not the ConvModule's, and the third takes the second's. One "
        "nn.MaxPool2d serves all three: it has no weights.",
    ),
)


@sppf.probe("the parameters that it owns")
def _(course):
    return {
        "8 to 8 channels": shapes(course.blocks.SPPF(8, 8)),
        "6 to 10 channels": shapes(course.blocks.SPPF(6, 10, kernel_size=3)),
    }


@sppf.probe("how far one bright position spreads")
@torch.no_grad()
def _(course):
    def look():
        seen = {}
        for kernel_size in (5, 3):
            layer, dark = seeded(course.blocks.SPPF(4, 4, kernel_size)), torch.zeros(1, 4, 29, 31)
            bright = dark.clone()
            bright[..., 14, 15] = 5
            changed = (tensor(layer(bright)) - tensor(layer(dark))).abs().amax(dim=(0, 1)) > 1e-3
            seen[f"window {kernel_size}"] = {
                "rows": int(changed.any(dim=1).sum()),
                "columns": int(changed.any(dim=0).sum()),
            }
        return seen

    return steady(look)


@sppf.probe("two maps go through")
@torch.no_grad()
def _(course):
    return steady(lambda: seeded(course.blocks.SPPF(8, 6))(values(2, 8, 15, 17, low=-3, high=3, seed=1)))


@sppf.probe("a smaller window, and the gradient through it")
def _(course):
    def look():
        x = values(1, 4, 6, 9, low=-3, high=3, seed=2).requires_grad_()
        y = tensor(seeded(course.blocks.SPPF(4, 4, kernel_size=3))(x))
        return {"output": y.detach(), "gradient": gradient((y * ramp(*y.shape)).sum(), x)}

    return steady(look)


sppf.misconception(
    "the pools run side by side",
    swap=("self.pool(maps[-1])", "self.pool(maps[0])"),
    because="All three pools then see the same 5 x 5 window, and three of the four maps are equal. At the end of the "
    "backbone an aircraft spans six positions, and none of them would see it whole. Chain them: each takes the output "
    "of the one before.",
)
sppf.misconception(
    "the windows grow although the pools are chained",
    swap=[
        ("for _ in range(3):", "for turn in range(3):"),
        (
            "self.pool(maps[-1])",
            "nn.functional.max_pool2d(maps[-1], self.pool.kernel_size + 4 * turn, stride=1, "
            "padding=self.pool.padding + 2 * turn)",
        ),
    ],
    because="Windows of 5, 9 and 13 belong to the older SPP, where the pools stand side by side. In a chain the "
    "window grows by itself. Windows that grow as well see 25 positions instead of 13, which is more than the whole "
    "map of a 640-pixel image. Use the same window three times.",
)
sppf.misconception(
    "the last ConvModule is forgotten",
    swap=[
        ("self.cv2 = ConvModule(4 * hidden, c_out, kernel_size=1)\n", "\n"),
        ("self.cv2(torch.cat(maps, dim=1))", "torch.cat(maps, dim=1)"),
    ],
    because="The four maps then leave the layer as they are, with 4 * hidden channels, twice as many as came in. "
    "Nothing fails here. The student of this course met it in stage 3, as 1152 channels where a later layer expected "
    "384, and found it by printing shapes module by module. Mix the four maps with the last ConvModule.",
    museum=5,
)
sppf.misconception(
    "the last ConvModule is made and never called",
    swap=("self.cv2(torch.cat(maps, dim=1))", "torch.cat(maps, dim=1)"),
    because="Keys and parameter counts are right, and the output has 4 * hidden channels instead of c_out. In stage 3 "
    "the neck stops at a number of channels that it does not expect, far from here. Send the concatenation through "
    "the last ConvModule.",
)
sppf.misconception(
    "the first ConvModule has no activation",
    swap=(
        "self.cv1 = ConvModule(c_in, hidden, kernel_size=1)",
        "self.cv1 = ConvModule(c_in, hidden, kernel_size=1)\n        self.cv1.act = nn.Identity()",
    ),
    because="Keys, shapes and counts are right and the answers are wrong: Ultralytics itself shipped this for a "
    "while, from 8.4.0 to 8.4.110. Weights that were trained with the activation lose accuracy, and only a comparison "
    "of outputs finds it. Use two complete ConvModules.",
    museum=30,
)
sppf.misconception(
    "the stride of the pool is left at its default",
    swap=(", stride=1, padding", ", padding"),
    because="The default stride of nn.MaxPool2d is the width of its window: a map of 20 positions shrinks to 4, and "
    "the four maps cannot be concatenated. Here the pool looks around and must not shrink. Give it stride 1.",
)
sppf.misconception(
    "the pool has no padding",
    swap=(", padding=kernel_size // 2", ""),
    because="A window of 5 without padding takes two positions away on every side, so the four maps differ in size "
    "and cannot be concatenated. A max pool pads with minus infinity, so the padding never wins. Pad by half the "
    "window.",
)
sppf.misconception(
    "the border is padded with zeros",
    swap=[
        (", padding=kernel_size // 2)", ")"),
        ("self.pool(maps[-1])", "self.pool(nn.functional.pad(maps[-1], [self.pool.kernel_size // 2] * 4))"),
    ],
    because="A zero is larger than every negative value, so along the border zeros win the maximum wherever SiLU left "
    "something negative. The middle of the map is right, so the mistake is found late, in stage 8 by comparing "
    "outputs. Let nn.MaxPool2d pad: it uses minus infinity.",
)
sppf.misconception(
    "the pools take the average",
    swap=("nn.MaxPool2d(", "nn.AvgPool2d("),
    because="An average over 25 positions drowns the one strong value that says that a tail is near; a maximum keeps "
    "it. Keys and shapes agree, since pools have no weights, so nothing warns you before outputs are compared in "
    "stage 8. Use nn.MaxPool2d.",
)
