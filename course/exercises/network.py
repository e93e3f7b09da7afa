"""Stage 3: backbone, neck, head, and the whole of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from yolostudy.study.exercise import Exercise

from ._fixtures import attempt, gradient, parameter_count, ramp
from .blocks import lively, shapes, steady

# ---- scale_channels ------------------------------------------------------------------------------

scale_channels = Exercise(
    "network.scale_channels",
    stage=3,
    points=1,
    minutes=5,
    goal="Scale a number of channels and round it up to a whole multiple of 8.",
    hints=(
        "Both factors apply. How many whole eights does the product hold, and what happens to the rest?",
        "Divide by 8, round up, multiply by 8. Which function of `math` rounds up?",
        "Round between the division and the multiplication, and round the whole product. math.ceil gives an int, and "
        "eight times an int is one too.",
    ),
)


@scale_channels.probe("the channels of the five sizes")
def _(course):
    widths, channels = (0.25, 0.5, 0.75, 1.0, 1.25), (64, 128, 256, 512)
    return {f"width {width}": [course.network.scale_channels(c, width) for c in channels] for width in widths}


@scale_channels.probe("the last stage, with its ratio")
def _(course):
    factors = ((512, 0.25, 2.0), (512, 0.5, 2.0), (512, 0.75, 1.5), (512, 1.0, 1.0), (68, 0.25, 2.0))
    return {
        f"{c} at width {width}, ratio {ratio}": course.network.scale_channels(c, width, ratio)
        for c, width, ratio in factors
    }


@scale_channels.probe("what is no multiple of 8")
def _(course):
    return {f"{c} at width 0.25": course.network.scale_channels(c, 0.25) for c in (4, 66, 68, 80, 92, 94, 96)}


@scale_channels.probe("a convolution of that width")
def _(course):
    return {"channels": attempt(lambda: nn.Conv2d(3, course.network.scale_channels(64, 0.25), 3).out_channels)}


scale_channels.misconception(
    "the product is returned as it is",
    swap=("math.ceil(channels * width * ratio / 8) * 8", "channels * width * ratio"),
    because="64 * 0.25 is 16.0, a float, and a convolution takes no float: the constructor stops in nn.Conv2d, far "
    "from where the number was made. Also, not every product is a multiple of 8. Round up to one and return an int.",
    museum=3,
)
scale_channels.misconception(
    "the rounding closes before the division",
    swap=("math.ceil(channels * width * ratio / 8) * 8", "math.ceil(channels * width * ratio) / 8 * 8"),
    because="Dividing by 8 and then multiplying by 8 changes nothing but the type, and nn.Conv2d refuses 16.0. Move "
    "the bracket: the division belongs inside the rounding.",
)
scale_channels.misconception(
    "the product is cut to a whole number",
    swap=("math.ceil(channels * width * ratio / 8) * 8", "int(channels * width * ratio)"),
    because="The five sizes of this family happen to give multiples of 8, so nothing shows until somebody scales "
    "otherwise. Then shapes no longer agree with Ultralytics' and weights do not fit in stage 8. Round up to a "
    "multiple of 8.",
)
scale_channels.misconception(
    "the product is rounded down",
    swap=("math.ceil(channels * width * ratio / 8) * 8", "int(channels * width * ratio // 8) * 8"),
    because="A narrow layer then loses channels, and one of fewer than 8 has none left. Ultralytics' make_divisible "
    "rounds up, and its weights have those shapes. Round up.",
)
scale_channels.misconception(
    "the product is rounded to the nearest multiple",
    swap=("math.ceil(channels * width * ratio / 8) * 8", "round(channels * width * ratio / 8) * 8"),
    because="Torchvision's function of a similar name rounds to the nearest multiple. Ultralytics' make_divisible "
    "rounds up, and its weights have those shapes. Besides, a single channel would be rounded to none. Use math.ceil.",
)
scale_channels.misconception(
    "the ratio is forgotten",
    swap=("channels * width * ratio / 8", "channels * width / 8"),
    because="The ratio widens the last stage: 256 channels instead of 128 in size n. Without it the nano network has "
    "fewer parameters and no error anywhere, and in stage 8 no pretrained weight fits from the last stage on. "
    "Multiply by both factors.",
)


# ---- Backbone ------------------------------------------------------------------------------------

backbone = Exercise(
    "network.Backbone",
    stage=3,
    points=3,
    minutes=20,
    after=("blocks.CSPLayer_2Conv", "blocks.SPPF", "network.scale_channels"),
    goal="Halve the image five times, refine after each halving of a stage, and return P2 to P5.",
    hints=(
        "A ConvModule with a 3 x 3 kernel and stride 2 halves a map. There are five: the stem, which stands alone, "
        "and one at the beginning of each of the four stages. In each stage a CSPLayer_2Conv follows it and keeps the "
        "channels.",
        "The two middle stages have the long row, the outer two the short one. All four rows have shortcuts. SPPF "
        "ends the last stage and keeps its channels too.",
        "Channels go from 3 to c1 in the stem, then to c2, c3, c4 and c5. Each stage takes the map of the stage "
        "before. forward returns four maps, finest first.",
    ),
)


def _narrow(course, depth: float) -> tuple:
    """A size with five different numbers of channels, so that an exchange of two maps shows."""
    return course.network.Size(0.125, 1.5, depth)


@backbone.probe("the parameters that it owns")
def _(course):
    with torch.device("meta"):
        return shapes(course.network.Backbone(_narrow(course, depth=0.67)))  # rows of two and of four


@backbone.probe("the four maps of a small image, and the gradient through them")
def _(course):
    image = ramp(1, 3, 64, 96).requires_grad_()
    p2, p3, p4, p5 = lively(course.network.Backbone(_narrow(course, depth=0.33)))(image)
    return {"P2": p2, "P3": p3, "P4": p4, "P5": p5, "gradient": gradient((p5 * ramp(*p5.shape)).sum(), image)}


backbone.misconception(
    "forward returns nothing",
    swap=("        return p2, p3, p4, p5\n", ""),
    because="A function without return gives None, and the error appears at the caller, which cannot unpack None: "
    "here in YOLO.features. When somebody else's code cannot unpack None, look at the function that it called. Return "
    "the four maps.",
    museum=6,
)
backbone.misconception(
    "only three maps are returned",
    swap=("return p2, p3, p4, p5", "return p3, p4, p5"),
    because="The neck reads three of the maps, but YOLO.features names all four, and the lenses ask for P2 too. The "
    "caller stops, because it unpacks four values and gets three. Return P2 as well.",
)
backbone.misconception(
    "the maps come back coarse to fine",
    swap=("return p2, p3, p4, p5", "return p5, p4, p3, p2"),
    because="Four tensors in a tuple look alike, and only their shapes tell which is which. YOLO.features takes P2 "
    "first. Return the finest map first.",
)
backbone.misconception(
    "SPPF is left out",
    swap=[
        ("        self.sppf = SPPF(c5, c5)\n", ""),
        ("self.sppf(self.csp5(self.down5(p4)))", "self.csp5(self.down5(p4))"),
    ],
    because="SPPF keeps channels and size, so only the parameter count shows that it is missing. Without it P5 sees "
    "no farther than its convolutions do, and in stage 8 the pretrained layer 9 has no place to go. End the last "
    "stage with it.",
)
backbone.misconception(
    "SPPF is made and never called",
    swap=("self.sppf(self.csp5(self.down5(p4)))", "self.csp5(self.down5(p4))"),
    because="Every key and every count is right, and the layer does nothing: its gradient in stage 7 stays None, and "
    "its pretrained weights of stage 8 are loaded for nothing. Send the last stage's map through it, and return the "
    "result as P5.",
)
backbone.misconception(
    "all four rows are short",
    swap=[
        ("CSPLayer_2Conv(c3, c3, many, shortcut=True)", "CSPLayer_2Conv(c3, c3, few, shortcut=True)"),
        ("CSPLayer_2Conv(c4, c4, many, shortcut=True)", "CSPLayer_2Conv(c4, c4, few, shortcut=True)"),
    ],
    because="The two middle stages, at strides 8 and 16, have twice as many bottlenecks as the others. Short rows run "
    "without an error, and in stage 8 the pretrained weights of the missing bottlenecks find no place. Give the "
    "middle stages `many`.",
)
backbone.misconception(
    "the shortcuts are left at their default",
    swap=[
        (f"CSPLayer_2Conv(c{stage}, c{stage}, {row}, shortcut=True)", f"CSPLayer_2Conv(c{stage}, c{stage}, {row})")
        for stage, row in ((2, "few"), (3, "many"), (4, "many"), (5, "few"))
    ],
    because="CSPLayer_2Conv has no shortcuts by default, because the neck wants none. The backbone wants them in all "
    "four rows. Keys and counts agree, so only a comparison of outputs shows the mistake: with pretrained weights in "
    "stage 8, P2 is wrong already. Pass shortcut=True.",
)
backbone.misconception(
    "the stem keeps the size",
    swap=("ConvModule(3, c1, kernel_size=3, stride=2)", "ConvModule(3, c1, kernel_size=3)"),
    because="Every map is then twice as wide and high as it should be, and everything costs four times as much. The "
    "strides 8, 16 and 32 that stage 4 multiplies with are wrong then, so every box comes out twice as far from the "
    "corner as it should. Halve in the stem too.",
)
backbone.misconception(
    "P3 leaves before its CSP layer",
    swap=[
        ("p3 = self.csp3(self.down3(p2))", "p3 = self.down3(p2)"),
        ("p4 = self.csp4(self.down4(p3))", "p4 = self.csp4(self.down4(self.csp3(p3)))"),
    ],
    because="P5 is right, and P3 has the right shape; only its values are unrefined. The neck reads them, so X and "
    "the finest output are built on them too, and there parity with Ultralytics is lost in stage 8. Return the output "
    "of the CSP layer.",
)


# ---- Neck ----------------------------------------------------------------------------------------

neck = Exercise(
    "network.Neck",
    stage=3,
    points=3,
    minutes=25,
    after="blocks.CSPLayer_2Conv",
    goal="Mix the maps: bring what the coarse ones know to the fine ones, and back.",
    hints=(
        "There are four joints, each a concatenation followed by a CSPLayer_2Conv: C, X, Y, Z, in this order. For C "
        "and X the coarser map is enlarged to twice its size. For Y and Z the finer map is halved by a ConvModule.",
        "In each concatenation the enlarged or halved map comes first, the other second. Enlarge by repeating the "
        "nearest value. The rows have `few` bottlenecks and no shortcuts.",
        "C joins P5 with P4, X joins C with P3, Y joins X with C, Z joins Y with P5. A CSP layer reads the sum of the "
        "channels of the two. The docstring says which map its result is like, and so how many channels it gives.",
    ),
)


def _pyramid(course) -> tuple:
    channels = (8, 16, 24)
    maps = [2 * ramp(2, c, 8 >> level, 12 >> level) for level, c in enumerate(channels)]
    return channels, _narrow(course, depth=0.67), maps


@neck.probe("the parameters that it owns")
def _(course):
    channels, size, _ = _pyramid(course)
    with torch.device("meta"):
        return shapes(course.network.Neck(channels, size))


@neck.probe("C, X, Y and Z, and the gradient through all four")
def _(course):
    channels, size, (p3, p4, p5) = _pyramid(course)
    c, x, y, z = lively(course.network.Neck(channels, size))(p3, p4, p5.requires_grad_())
    return {"C": c, "X": x, "Y": y, "Z": z, "gradient": gradient((z * ramp(*z.shape)).sum(), p5)}


neck.misconception(
    "interpolate is looked for in torch.nn",
    swap=[("self.up(p5)", "nn.interpolate(p5, scale_factor=2)"), ("self.up(c)", "nn.interpolate(c, scale_factor=2)")],
    because="torch.nn holds layers, torch.nn.functional holds functions, and interpolate is a function. Python finds "
    "out only when forward runs. Use nn.functional.interpolate, or the layer nn.Upsample.",
    museum=2,
)
neck.misconception(
    "the maps are enlarged bilinearly",
    swap=('mode="nearest"', 'mode="bilinear"'),
    because="Bilinear looks smoother and has no weights, so keys, shapes and counts all agree. With pretrained "
    "weights the outputs then differ from Ultralytics' by about a hundredth, enough to lose parity in stage 8 and too "
    "little to look broken. Repeat the nearest value.",
    museum=29,
)
neck.misconception(
    "the backbone's map comes first",
    swap=[
        ("torch.cat((self.up(p5), p4), dim=1)", "torch.cat((p4, self.up(p5)), dim=1)"),
        ("torch.cat((self.up(c), p3), dim=1)", "torch.cat((p3, self.up(c)), dim=1)"),
    ],
    because="The sum of the channels is the same either way, so nothing fails. But each weight of the next "
    "convolution belongs to one channel, and pretrained weights meet the wrong ones in stage 8. The enlarged map "
    "comes first.",
)
neck.misconception(
    "every pair stands the other way round",
    swap=[
        ("torch.cat((self.up(p5), p4), dim=1)", "torch.cat((p4, self.up(p5)), dim=1)"),
        ("torch.cat((self.up(c), p3), dim=1)", "torch.cat((p3, self.up(c)), dim=1)"),
        ("torch.cat((self.down_x(x), c), dim=1)", "torch.cat((c, self.down_x(x)), dim=1)"),
        ("torch.cat((self.down_y(y), p5), dim=1)", "torch.cat((p5, self.down_y(y)), dim=1)"),
    ],
    because="In all four joints you have put the map that was already there first. The sum of the channels is the "
    "same, so nothing fails, and a network trained from scratch would not mind. But in stage 8 pretrained weights "
    "meet the wrong channels, from C on. The enlarged or halved map comes first.",
)
neck.misconception(
    "Y meets P4 instead of C",
    swap=("torch.cat((self.down_x(x), c), dim=1)", "torch.cat((self.down_x(x), p4), dim=1)"),
    because="P4 and C have the same shape, so it runs. But P4 contains nothing from P5: Y loses what the way down has "
    "told C, and parity is lost in stage 8, from Y on. On the way back the neck reads its own maps.",
)
neck.misconception(
    "the way back begins at P3 instead of X",
    swap=[("self.csp_y(torch.cat((self.down_x(x), c), dim=1))", "self.csp_y(torch.cat((self.down_x(p3), c), dim=1))")],
    because="P3 and X have the same shape, so it runs. But P3 is the backbone's and X the neck's: what the neck has "
    "just computed for the finest map never reaches the coarser ones. Halve X.",
)
neck.misconception(
    "the rows have shortcuts",
    swap=[
        (f"CSPLayer_2Conv({channels}, few)", f"CSPLayer_2Conv({channels}, few, shortcut=True)")
        for channels in ("c5 + c4, c4", "c4 + c3, c3", "c3 + c4, c4", "c4 + c5, c5")
    ],
    because="The backbone has shortcuts, the neck has none: the yaml of Ultralytics leaves them at False here. Keys, "
    "shapes and counts agree, but in stage 8 parity is lost from C on. Leave the argument out.",
)
neck.misconception(
    "the length of the rows is left at its default",
    swap=[
        (f"CSPLayer_2Conv({channels}, few)", f"CSPLayer_2Conv({channels})")
        for channels in ("c5 + c4, c4", "c4 + c3, c3", "c3 + c4, c4", "c4 + c5, c5")
    ],
    because="In size n `few` happens to be 1, the default, and all is well. Size m has rows of two and l of three: "
    "their networks become too shallow, and some of their pretrained weights find no place in stage 8. Pass `few` on.",
)
neck.misconception(
    "only X, Y and Z are returned",
    swap=("return c, x, y, z", "return x, y, z"),
    because="The head reads these three, but YOLO.features names C too, for the lenses and for comparing two networks "
    "map by map. The caller stops, because it unpacks four values and gets three. Return C first.",
)


# ---- Head ----------------------------------------------------------------------------------------

head = Exercise(
    "network.Head",
    stage=3,
    points=3,
    minutes=20,
    after="blocks.ConvModule",
    goal="Predict four distributions and the class logits at every position, from two branches that share nothing.",
    hints=(
        "Each of the three maps has one branch for the boxes and one for the classes: six branches. The code below "
        "your region looks for them under self.box and self.cls and sets the biases of their last layers.",
        "A branch is two 3 x 3 ConvModules of the branch's width, then a plain nn.Conv2d with a 1 x 1 kernel and a "
        "bias. How many channels must the last layer give for four distributions of R bins?",
        "Put the three branches of a kind into an nn.ModuleList. Each is an nn.Sequential that begins with the "
        "channels of its own map. In forward, concatenate for each level the outputs of its two branches along the "
        "channels, box first.",
    ),
)

# Channels, classes and bins. Widths that happen to be equal in one case differ in the other.
_FEW_CLASSES, _MANY_CLASSES = ((8, 24, 40), 3, 3), ((12, 20, 28), 30, 5)


@head.probe("the parameters that it owns")
def _(course):
    with torch.device("meta"):
        return {
            f"{classes} classes": shapes(course.network.Head(c, classes, bins))
            for c, classes, bins in (_FEW_CLASSES, _MANY_CLASSES)
        }


@head.probe("the maps of three levels")
def _(course):
    channels, classes, bins = _FEW_CLASSES

    def look():
        maps = tuple(2 * ramp(2, c, 4 >> level, 8 >> level) for level, c in enumerate(channels))
        outputs = lively(course.network.Head(channels, classes, bins))(maps)
        levels = {f"level {i}": output for i, output in enumerate(outputs)}
        return {"how many maps": len(outputs), **levels, "learns": outputs[-1].requires_grad}

    return steady(look)


@head.probe("what an untrained head believes of an empty map")
@torch.no_grad()
def _(course):
    channels, classes, bins = _FEW_CLASSES
    outputs = course.network.Head(channels, classes, bins).eval()([torch.zeros(1, c, 1, 1) for c in channels])
    return [level.flatten() for level in outputs]


head.misconception(
    "the classes come before the boxes",
    swap=("torch.cat((box(x), cls(x)), dim=1)", "torch.cat((cls(x), box(x)), dim=1)"),
    because="Stage 4 reads the first 4·R channels as distances and the rest as classes, and so do the loss of stage 6 "
    "and the class slice of stage 9. All shapes agree, so nothing fails. But the starting biases are on the wrong "
    "channels, and pretrained weights give nonsense in stage 8. Box first.",
)
head.misconception(
    "the branches stand in plain lists",
    swap=[
        ("self.box = nn.ModuleList(\n", "self.box = list(\n"),
        ("self.cls = nn.ModuleList(\n", "self.cls = list(\n"),
    ],
    because="nn.Module registers layers and parameters, but not those inside a plain list. The head runs, but it owns "
    "nothing: stage 7 trains a network whose head stays random, and .to(device) leaves it behind. Use nn.ModuleList.",
)
head.misconception(
    "all levels share one branch",
    swap=[
        (
            "nn.Sequential(ConvModule(c, c_box, 3), ConvModule(c_box, c_box, 3), nn.Conv2d(c_box, 4 * reg_max, 1))\n"
            "            for c in channels",
            "[nn.Sequential(ConvModule(channels[0], c_box, 3), ConvModule(c_box, c_box, 3), "
            "nn.Conv2d(c_box, 4 * reg_max, 1))] * 3",
        ),
        (
            "nn.Sequential(ConvModule(c, c_cls, 3), ConvModule(c_cls, c_cls, 3), nn.Conv2d(c_cls, num_classes, 1))\n"
            "            for c in channels",
            "[nn.Sequential(ConvModule(channels[0], c_cls, 3), ConvModule(c_cls, c_cls, 3), "
            "nn.Conv2d(c_cls, num_classes, 1))] * 3",
        ),
    ],
    because="RetinaNet shares its head between levels, after bringing them all to the same channels. Here X, Y and Z "
    "have different channels, and each level has its own branches. With one branch for all, the second map stops at a "
    "convolution that expects the first one's channels. Make one for each.",
)
head.misconception(
    "the class branch has the box branch's width",
    swap=(
        "nn.Sequential(ConvModule(c, c_cls, 3), ConvModule(c_cls, c_cls, 3), nn.Conv2d(c_cls, num_classes, 1))",
        "nn.Sequential(ConvModule(c, c_box, 3), ConvModule(c_box, c_box, 3), nn.Conv2d(c_box, num_classes, 1))",
    ),
    because="This is a copied line in which one name was not changed. In size n with 20 classes both widths are 64 "
    "and nothing shows. With 80 classes the branch should be 80 wide, and none of its pretrained weights fits in "
    "stage 8. Each of the two branches has its own width.",
)
head.misconception(
    "an edge is one number",
    swap=("nn.Conv2d(c_box, 4 * reg_max, 1)", "nn.Conv2d(c_box, 4, 1)"),
    because="Older detectors predict a distance as one number. This one predicts a distribution over R bins for each "
    "edge, and stage 4 takes its mean: the loss of stage 6 is defined on the bins. The box branch gives 4 · R "
    "channels.",
)
head.misconception(
    "the last layer is a ConvModule too",
    swap=[
        ("nn.Conv2d(c_box, 4 * reg_max, 1)", "ConvModule(c_box, 4 * reg_max, 1)"),
        ("nn.Conv2d(c_cls, num_classes, 1)", "ConvModule(c_cls, num_classes, 1)"),
    ],
    because="The head returns logits, of any sign and size; a normalised and activated value cannot be one. And a "
    "ConvModule has no bias to start from: the line below your region looks for it and stops. End each branch with a "
    "plain nn.Conv2d.",
)
head.misconception(
    "the classes have passed a sigmoid",
    swap=("torch.cat((box(x), cls(x)), dim=1)", "torch.cat((box(x), cls(x).sigmoid()), dim=1)"),
    because="The loss of stage 6 applies the sigmoid itself, in a form that cannot overflow, and stage 4 applies it "
    "when it decodes. With two sigmoids every score lies between 0.5 and 0.73, background included, and no threshold "
    "below one half sorts anything out. Return logits.",
)


# ---- YOLO ----------------------------------------------------------------------------------------

yolo = Exercise(
    "network.YOLO",
    stage=3,
    points=1,
    minutes=10,
    after=("network.Backbone", "network.Neck", "network.Head"),
    goal="Put backbone, neck and head together, and give every intermediate map its name.",
    hints=(
        "Name the three parts backbone, neck and head: training in stage 7 and the weights of stage 8 ask for them by "
        "these names. SIZES holds the scaling of each size.",
        "Neck and head need the channels of P3, P4 and P5. The backbone's attribute `channels` holds them, beginning "
        "with P2.",
        "In features: the backbone gives four maps, the neck reads the last three of them and gives four, and the "
        "head reads the last three of those, as one tuple.",
    ),
)


@contextmanager
def _known_as_narrow(course) -> Iterator[str]:
    """Add a narrow size to the known ones, for a moment.

    Filling and running the nano network would take too long.
    """
    course.network.SIZES["narrow"] = _narrow(course, depth=0.33)
    try:
        yield "narrow"
    finally:
        del course.network.SIZES["narrow"]


@yolo.probe("the parameters of its three parts, by their names")
def _(course):
    with torch.device("meta"):
        model = course.network.YOLO(20, "m")  # a size whose width and depth both differ from nano's
    parts = {
        part: attempt(lambda part=part: parameter_count(getattr(model, part))) for part in ("backbone", "neck", "head")
    }
    return {**parts, "altogether": parameter_count(model)}


@yolo.probe("every named map")
def _(course):
    image = ramp(1, 3, 64, 32).requires_grad_()
    with _known_as_narrow(course) as size:
        maps = lively(course.network.YOLO(3, size, reg_max=5)).features(image)
    return {
        **maps,
        "gradient": gradient(sum((output * ramp(*output.shape)).sum() for output in maps["outputs"]), image),
    }


yolo.misconception(
    "neck and head are told the wrong channels",
    swap=("self.backbone.channels[1:]", "self.backbone.channels[:3]"),
    because="The backbone's channels begin with P2, which neither neck nor head reads. Both are then built without an "
    "error, for maps with half as many channels as those that come, and the first convolution of the neck stops. Take "
    "the last three.",
)
yolo.misconception(
    "the neck reads P2, P3 and P4",
    swap=("self.neck(p3, p4, p5)", "self.neck(p2, p3, p4)"),
    because="The finest map that the neck reads is P3, at stride 8. Its convolutions are built for P3, P4 and P5 and "
    "stop at other channels. Leave P2 out.",
)
yolo.misconception(
    "the head reads the backbone's maps",
    swap=("self.head((x, y, z))", "self.head((p3, p4, p5))"),
    because="P3, P4 and P5 have the shapes of X, Y and Z, so it runs and even learns. But the neck gets no gradient "
    "in stage 7 and never changes, and its pretrained weights of stage 8 are loaded for nothing. The head reads the "
    "neck's maps.",
)
yolo.misconception(
    "the neck's maps take the backbone's names",
    swap=("outputs = self.head((x, y, z))", "outputs = self.head((x, y, z))\n        p3, p4, p5 = x, y, z"),
    because="The outputs are right, but the dict of features is wrong: under P3 one finds X. Distillation in stage 9 "
    "and every lens ask for maps by name and would compare the wrong ones. Give each map a name of its own.",
)
yolo.misconception(
    "the image is divided by 255 again",
    swap=("self.backbone(images)", "self.backbone(images / 255)"),
    because="The loader has divided already: images arrive in 0…1. Divided once more they are nearly black, and the "
    "pretrained weights of stage 8 have learned from images that are not. No error shows it. Pass the images on "
    "unchanged.",
)
yolo.misconception(
    "the number of bins is not handed on",
    swap=("Head(channels, num_classes, reg_max)", "Head(channels, num_classes, 16)"),
    because="16 is the default, so it works until somebody asks for another number. Then the head gives 64 + C "
    "channels while stage 4 and the loss of stage 6 split at 4 · R, and class logits are read as distances. Pass "
    "reg_max on.",
)
yolo.misconception(
    "every size is nano",
    swap=[
        ("Backbone(SIZES[size])", 'Backbone(SIZES["n"])'),
        ("Neck(channels, SIZES[size])", 'Neck(channels, SIZES["n"])'),
    ],
    because='The argument is checked above and then ignored: YOLO(80, "s") is a nano network that calls itself s. '
    "Shapes agree with each other, and in stage 8 the pretrained weights of every other size have the wrong ones. "
    "Look the size up.",
)
