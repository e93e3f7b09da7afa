"""Stage 8: weights from elsewhere, and a report about every name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yolostudy.study.exercise import Exercise

from ._fixtures import attempt, seeded

# ---- rename_key ----------------------------------------------------------------------------------

# A name of each layer that has weights, as Ultralytics writes it
KEYS = (
    "model.0.conv.weight",
    "model.1.bn.running_mean",
    "model.2.cv1.conv.weight",
    "model.2.m.0.cv2.bn.num_batches_tracked",
    "model.3.bn.weight",
    "model.4.m.1.cv1.conv.weight",
    "model.5.bn.bias",
    "model.6.cv2.bn.running_var",
    "model.7.conv.weight",
    "model.8.m.0.cv1.bn.bias",
    "model.9.cv1.conv.weight",
    "model.12.m.0.cv1.conv.weight",
    "model.15.cv1.bn.weight",
    "model.16.conv.weight",
    "model.18.cv2.conv.weight",
    "model.19.bn.running_mean",
    "model.21.m.0.cv2.conv.weight",
    "model.22.cv2.0.0.conv.weight",
    "model.22.cv2.1.2.bias",
    "model.22.cv3.2.1.bn.weight",
    "model.22.cv3.0.2.weight",
)
OWN = ("backbone.sppf.cv1.conv.weight", "neck.csp_c.m.0.cv1.bn.bias", "head.cls.2.2.bias")
STRANGE = (
    "model.30.conv.weight",
    "model.10.conv.weight",
    "model.22.cv5.0.0.conv.weight",
    "model.22.dfl.extra.weight",
    "model.9",
    "0.conv.weight",
    "ema.model.9.cv1.conv.weight",
    "fc.weight",
)

rename_key = Exercise(
    "weights.rename_key",
    stage=8,
    points=1,
    minutes=10,
    goal="Translate the name that a tensor has in Ultralytics to its name here.",
    hints=(
        "Print a few names of the checkpoint beside a few of your model. Which part of each name is the same, and "
        "where does it begin?",
        "`LAYERS` maps the number of each layer to its name here. A name belongs to a layer if it begins with "
        "`model.`, the number, and one more character: which one keeps layer 1 apart from layer 12?",
        "str.removeprefix removes the beginning and nothing else. Put the layer's name and a dot before the rest. A "
        "name in `CONSTANTS` has no place here, and a name that fits no layer is returned unchanged.",
    ),
)


def renamed(course, keys: tuple[str, ...]) -> dict[str, object]:
    return {key: attempt(lambda key=key: course.weights.rename_key(key)) for key in keys}


@rename_key.probe("a name of each layer")
def _(course):
    return renamed(course, KEYS)


@rename_key.probe("the constant of the head")
def _(course):
    return renamed(course, ("model.22.dfl.conv.weight", "model.22.cv2.2.2.weight"))


@rename_key.probe("names that need no change, and names that nobody knows")
def _(course):
    return renamed(course, OWN + STRANGE) | renamed(course, KEYS[:1])


@rename_key.probe("a name that holds the beginning of another")
def _(course):
    return renamed(course, ("model.9.model.9.conv.weight", "model.1.model.0.bn.bias"))


rename_key.misconception(
    "the dot after the number is forgotten",
    swap=[
        ('f"model.{number}."', 'f"model.{number}"'),
        ('f"{name}.{key.removeprefix(prefix)}"', 'f"{name}{key.removeprefix(prefix)}"'),
    ],
    because="model.12.cv1 begins with model.1 as well, so layers 12 to 19 are taken for layer 1: they become "
    "backbone.down22.cv1 and so on, and the report says that the whole neck is missing. The dot belongs to the "
    "prefix.",
    museum=14,
)
rename_key.misconception(
    "the layers are counted as they stand in the table",
    swap=("for number, name in LAYERS.items():", "for number, name in enumerate(LAYERS.values()):"),
    because="Ultralytics numbers every line of its yaml, and six of them hold no weights: 10 and 13 enlarge, 11, 14, "
    "17 and 20 concatenate. Without them in the count, the backbone fits and everything after it is shifted. The log "
    "says '166 of 354 tensors transferred' as if that were good news, and it is less than half of the numbers. Take "
    "the layer numbers from LAYERS.",
    museum=37,
)
rename_key.misconception(
    "only the word model is taken off",
    swap=("        prefix = f", '        key = key.removeprefix("model.")\n        prefix = f'),
    because="The rest, 9.cv1.conv.weight, has the numbering of the nn.Sequential in which Ultralytics keeps its "
    "layers. Here the layers have names, and no name of the model begins with a number: nothing matches. Replace the "
    "number with the layer's name.",
    museum=14,
)
rename_key.misconception(
    "the second part of the name alone decides",
    swap=("key.startswith(prefix)", 'key.startswith("model.") and key.split(".")[1] == number'),
    because="The head has one number for two branches: 22.cv2 places the boxes, 22.cv3 names the class. Its second "
    'part is "22", which LAYERS does not have, so the whole head keeps its old names and is missing in the report. '
    "Compare the whole prefix.",
)
rename_key.misconception(
    "box and class branch are exchanged",
    swap=("in LAYERS.items()", 'in (LAYERS | {"22.cv2": "head.cls", "22.cv3": "head.box"}).items()'),
    because="cv2 is the branch of the 4·R box channels and cv3 that of the C classes. Exchanged, most of the head has "
    "another shape. Where both branches happen to be equally wide, as in their second layers, the weights of the "
    "wrong branch are copied.",
)
rename_key.misconception(
    "the rest of the name is cut short",
    swap=('f"{name}.{key.removeprefix(prefix)}"', "f\"{name}.{key.removeprefix(prefix).rpartition('.')[2]}\""),
    because="Only the last word of the old name is kept, so all tensors of a layer get one name such as "
    "backbone.sppf.weight, which the model does not have. Keep everything after the layer's number.",
)
rename_key.misconception(
    "only the layer's name is given",
    swap=('f"{name}.{key.removeprefix(prefix)}"', "name"),
    because="A layer has several tensors: weight, scale, shift, statistics. Here all of them get the same name, each "
    "overwrites the one before, and no tensor of the model has that name. Add the part that follows the number.",
)
rename_key.misconception(
    "the prefix is exchanged wherever it stands",
    swap=(
        '        if key.startswith(prefix):\n            return f"{name}.{key.removeprefix(prefix)}"',
        '        if prefix in key:\n            return key.replace(prefix, f"{name}.")',
    ),
    because="`in` and `replace` look at the whole name: ema.model.9.cv1.conv.weight is another tensor, and it would "
    "be renamed too. Only the beginning of the name counts: use startswith and removeprefix.",
)
rename_key.misconception(
    "the constant is kept",
    swap=("    if key in CONSTANTS:\n        return None\n", ""),
    because="model.22.dfl.conv.weight holds the numbers 0 … R - 1, which expected_distance makes itself. If you keep "
    "the name, it is among the unexpected names of every report, until nobody reads that line any more. Return None "
    "for it.",
)
rename_key.misconception(
    "everything under dfl is dropped",
    swap=("if key in CONSTANTS:", 'if "dfl" in key:'),
    because="A part of the name is not enough: any other name with dfl in it would vanish without being reported. "
    "CONSTANTS lists the names in full.",
)
rename_key.misconception(
    "unknown names are dropped",
    swap=("    return key\n", "    return None\n"),
    because="An unknown name vanishes here and can never be reported as unexpected; a checkpoint of another network "
    "then looks as if it only lacked some weights. And names of this package, from a file that you saved yourself, "
    "vanish too. Return them unchanged.",
)
rename_key.misconception(
    "an unknown name is an error",
    swap=("    return key\n", '    raise KeyError(f"no layer for {key}")\n'),
    because="Weights that you saved yourself have this package's names, and a pose checkpoint has one branch more "
    "than you need. Both should load, and the report says which names were left over. Return the name unchanged.",
)
rename_key.misconception(
    "names of the normalisations are dropped",
    swap=(
        "        if key.startswith(prefix):\n",
        '        if ".bn." in key:\n            return None\n        if key.startswith(prefix):\n',
    ),
    because="A convolution here has no bias: scale and shift belong to the normalisation, and so do the running mean "
    "and variance. Without them the weights fit and every map is wrong.",
    museum=14,
)


# ---- transfer ------------------------------------------------------------------------------------


def layer(c_in: int, c_out: int) -> nn.Module:
    return nn.ModuleDict({"conv": nn.Conv2d(c_in, c_out, 1, bias=False), "bn": nn.BatchNorm2d(c_out)})


def net(classes: int = 3) -> nn.Module:
    """The smallest network with a backbone, a neck and a head, and with all kinds of tensors."""
    model = nn.ModuleDict(
        {
            "backbone": nn.ModuleDict({"stem": layer(3, 4), "down2": layer(4, 6)}),
            "neck": nn.ModuleDict({"csp_c": nn.ModuleDict({"cv1": layer(6, 5)})}),
            "head": nn.ModuleDict({"cls": nn.ModuleList([nn.Sequential(layer(5, 5), nn.Conv2d(5, classes, 1))])}),
        }
    )
    return seeded(model.float())


THEIRS = {"backbone.stem": "model.0", "backbone.down2": "model.1", "neck.csp_c": "model.12", "head.cls": "model.22.cv3"}


def checkpoint(classes: int = 3) -> dict[str, Tensor]:
    """A checkpoint of such a network as Ultralytics saves it: its names, float16, a constant.

    Float16 holds these numbers exactly.
    """
    table = {}
    for number, (name, tensor) in enumerate(net(classes).state_dict().items()):
        part = next(part for part in THEIRS if name.startswith(part))
        numbers = number + torch.arange(tensor.numel()).reshape(tensor.shape) / 8
        table[THEIRS[part] + name.removeprefix(part)] = numbers.half() if tensor.is_floating_point() else numbers.long()
    return table | {"model.22.dfl.conv.weight": torch.arange(4).half().reshape(1, 4, 1, 1)}


def outcome(course, table: dict[str, Tensor], model: nn.Module, *part: str, **options) -> dict[str, object]:
    """Transfer, and look at the report, at the model and at the table."""
    names, tensors = [*table], [*model.parameters(), *model.buffers()]
    try:
        report, ended = course.weights.transfer(table, model, *part, **options), "a report is returned"
    except course.weights.TransferError as error:
        report, ended = error.report, "a TransferError is raised"
    lists = {
        name: sorted(map(str, getattr(report, name))) for name in ("matched", "missing", "unexpected", "wrong_shape")
    }
    kept = [*table] == names
    for tensor in table.values():
        tensor.add_(1)  # the model must have a copy, which does not change with it
    return {
        "how it ends": ended,
        **lists,
        "share": float(report.share),
        "the model": dict(model.state_dict()),
        "its types": {name: str(tensor.dtype) for name, tensor in model.state_dict().items()},
        "its tensors are still the same objects": all(
            a is b for a, b in zip(tensors, [*model.parameters(), *model.buffers()])
        ),
        "the table has its names": kept,
    }


transfer = Exercise(
    "weights.transfer",
    stage=8,
    points=3,
    minutes=25,
    after="weights.rename_key",
    goal="Copy the weights that fit, and report honestly which do not.",
    hints=(
        "Make two tables from names of this package to tensors: those asked for, from the model's state dict, and "
        "those offered, from the checkpoint. For each name that is asked for, three things can happen: which?",
        "unexpected goes the other way: names that are offered and not asked for, within the part. The share counts "
        "numbers (numel): those of the matched names, divided by all that are asked for. Copy nothing before you know "
        "it.",
        "The tensors of model.state_dict() are the model's own memory: tensor.copy_(other) on them changes the model "
        "and converts the dtype. Every parameter stays the same object, which an optimizer may hold.",
    ),
)


@transfer.probe("a whole checkpoint, in half precision")
def _(course):
    return outcome(course, checkpoint(), net())


@transfer.probe("the backbone alone, of a network with other classes")
def _(course):
    return outcome(course, checkpoint(classes=5), net(), "backbone")


@transfer.probe("some of it fits")
def _(course):
    table = checkpoint()
    del table["model.0.bn.running_var"]
    # as many numbers, in another shape
    table["model.1.conv.weight"] = table["model.1.conv.weight"].transpose(0, 1).contiguous()
    table |= {
        "model.30.conv.weight": torch.ones(2),
        "backbone.stem.conv.bias": torch.ones(4),
        "fc.weight": torch.ones(2, 2),
    }
    return outcome(course, table, net(), minimum_share=0.2)


@transfer.probe("a class layer for one class, which a bias for three could take by repeating it")
def _(course):
    return outcome(course, checkpoint(classes=1), net(), minimum_share=0.2)


@transfer.probe("the backbone, with a name too many and one too few")
def _(course):
    table = checkpoint()
    del table["model.1.bn.bias"]
    table |= {"model.0.conv.bias": torch.ones(4), "model.12.conv.bias": torch.ones(4)}
    return outcome(course, table, net(), part="backbone")


@transfer.probe("one layer was inserted, and all later names are shifted")
def _(course):
    table = {
        key.replace("model.1.", "model.2.").replace("model.12.", "model.13."): tensor
        for key, tensor in checkpoint().items()
    }
    return outcome(course, table, net())


@transfer.probe("exactly as much fits as has to")
def _(course):
    table, model = checkpoint(), net()
    del table["model.12.cv1.conv.weight"]
    sizes = {name: tensor.numel() for name, tensor in model.state_dict().items()}
    share = (sum(sizes.values()) - sizes["neck.csp_c.cv1.conv.weight"]) / sum(sizes.values())
    return outcome(course, table, model, minimum_share=share)


@transfer.probe("names of this package, and a model without a backbone")
def _(course):
    own = {name: tensor + 1 for name, tensor in net().state_dict().items()}
    bare = nn.ModuleDict({"head": layer(2, 2)}).float()
    return {
        "own names": outcome(course, own, net()),
        "no backbone": outcome(course, {}, seeded(bare), "backbone", minimum_share=0.0),
    }


OFFERED = "{name: tensor for key, tensor in state_dict.items() if (name := rename_key(key))}"
COPIES = (
    "        for name in report.matched:\n            wanted[name].copy_(offered[name])  # the tensors of a "
    "state dict share the model's memory\n"
)
SHARE = "sum(wanted[name].numel() for name in report.matched) / (asked_for or 1)"

transfer.misconception(
    "the model's own state is merged before the check",
    swap=("offered = {name:", "offered = wanted | {name:"),
    because="Each name that the checkpoint lacks is then filled with the model's own random numbers, so nothing is "
    "ever missing and the share is always 100 %. Training starts from noise, and the log says that everything was "
    "loaded. Compare first, merge afterwards.",
    museum=28,
)
transfer.misconception(
    "names are counted, not numbers",
    swap=(SHARE, "len(report.matched) / (len(wanted) or 1)"),
    because="A normalisation has five names and few numbers, a convolution one name and nearly all numbers. If names "
    "are counted, a checkpoint can reach 80 % without one large convolution. Count numel().",
    museum=37,
)
transfer.misconception(
    "tensors are matched by their order",
    swap=(OFFERED, "dict(zip(wanted, state_dict.values()))"),
    because="It works as long as both lists have the same order. But once a layer is inserted, everything after it is "
    "shifted by one, and a tensor that happens to have the right shape is copied into the wrong place. Match by name.",
    museum=37,
)
transfer.misconception(
    "the names are not translated",
    swap=(OFFERED, "dict(state_dict)"),
    because="model.0.conv.weight and backbone.stem.conv.weight are the same tensor under two names, and no name is in "
    "both lists. Everything is missing and everything is unexpected. Call rename_key first.",
    museum=14,
)
transfer.misconception(
    "the constant's None stays among the names",
    swap=(" if (name := rename_key(key))}", "}"),
    because="rename_key gives None for a name that has no place here. Among the names, None breaks the first string "
    "method that is called on it, or is listed as unexpected. Leave it out.",
)
transfer.misconception(
    "the caller's table is emptied",
    swap=(OFFERED, "{name: state_dict.pop(key) for key in [*state_dict] if (name := rename_key(key))}"),
    because="The dictionary belongs to the caller, who may want it for a second model, for example for the teacher, "
    "and would find it empty. Make a new one.",
)
transfer.misconception(
    "weights are copied before the share is known",
    swap=("    if report.share >= minimum_share:\n", "    if True:\n"),
    because="If too little fits, an error is raised, but by then half of the model is overwritten. A caller who "
    "catches the error goes on with a network that is neither the old nor the new one. Decide first, then copy.",
)
transfer.misconception(
    "load_state_dict is left strict",
    swap=(COPIES, "        model.load_state_dict(offered)\n"),
    because="It raises if a name is missing or left over, after it has copied all the others: the backbone alone can "
    "never be loaded, and the model is half changed when the error comes. Give it only the matched names, with "
    "strict=False.",
)
transfer.misconception(
    "load_state_dict is no longer strict, and gets everything",
    swap=(COPIES, "        model.load_state_dict(offered, strict=False)\n"),
    because="strict=False allows other names, but not other shapes: a class layer for other classes still raises, "
    "after the rest has been copied. And with part='backbone' the neck and the head are copied too. Give it only the "
    "matched names.",
)
transfer.misconception(
    "the model gets a copy's weights",
    swap=("wanted[name].copy_(offered[name])", "wanted[name] = offered[name].clone()"),
    because="An assignment puts another tensor into the table, and the table is thrown away: the model stays as it "
    "was, while the report says 100 %. copy_ writes into the tensor that the model has.",
)
transfer.misconception(
    "the model's tensors are exchanged for the checkpoint's",
    swap=(
        COPIES,
        "        model.load_state_dict({name: offered[name] for name in report.matched}, strict=False, assign=True)\n",
    ),
    because="assign=True makes the checkpoint's tensors the model's parameters. They may be in half precision. An "
    "optimizer that was made before keeps the old ones and trains nothing. And two models loaded from one table share "
    "their memory. Copy the numbers.",
)
transfer.misconception(
    "the memory of the parameters is exchanged",
    swap=("wanted[name].copy_(offered[name])", "model.get_parameter(name).data = offered[name]"),
    because="A buffer is no parameter, so the running statistics raise an error. And a tensor that is exchanged has "
    "the checkpoint's dtype, for instance half precision, in a float32 network. copy_ converts, for parameters and "
    "buffers alike.",
)
transfer.misconception(
    "only parameters are asked for",
    swap=("model.state_dict().items()", "model.named_parameters()"),
    because="The running mean and variance of a normalisation are buffers. Without them the report has 100 % and the "
    "detector finds nothing: every map is normalised by the statistics of an untrained network. The state dict has "
    "both.",
)
transfer.misconception(
    "a wrong shape counts as missing",
    swap=("report.wrong_shape.append(name)", "report.missing.append(name)"),
    because="A missing name has to be renamed. A wrong shape means that the class layer is for other classes, or that "
    "the model has another size. The two need different remedies, so report them apart.",
)
transfer.misconception(
    "a wrong shape is passed over",
    swap=("            report.wrong_shape.append(name)\n", "            continue\n"),
    because="The class layer for 80 classes does not fit one for 20, and the report does not say so: nothing is "
    "missing, nothing is unexpected, and the layer is random. The name belongs in wrong_shape.",
    museum=28,
)
transfer.misconception(
    "shapes are not compared",
    swap=(
        "        elif offered[name].shape != tensor.shape:\n            report.wrong_shape.append(name)\n",
        "",
    ),
    because="copy_ broadcasts: a bias of one class is repeated for all twenty without an error, and other shapes "
    "raise in the middle of copying. Compare the shapes before.",
)
transfer.misconception(
    "as many numbers count as the same shape",
    swap=("offered[name].shape != tensor.shape", "offered[name].numel() != tensor.numel()"),
    because="A weight of 6 × 4 and one of 4 × 6 have equally many numbers, but they are not the same: in and out are "
    "exchanged. Compare shapes.",
)
transfer.misconception(
    "a wrong shape counts in the share",
    swap=("for name in report.matched) /", "for name in report.matched + report.wrong_shape) /"),
    because="The share says how much of the model comes from the checkpoint. A tensor that does not fit is not "
    "copied, so it does not count.",
)
transfer.misconception(
    "the share is taken of what is offered",
    swap=("sum(tensor.numel() for tensor in wanted.values())", "sum(tensor.numel() for tensor in offered.values())"),
    because="The question is how much of the model's numbers has come. Divided by what is offered, a checkpoint with "
    "three of a hundred layers has 100 %, and a backbone from a whole checkpoint never reaches it.",
    museum=37,
)
transfer.misconception(
    "the whole model is asked for, whatever the part",
    swap=("model.state_dict().items() if name.startswith(prefix)}", "model.state_dict().items()}"),
    because="With part='backbone' only the backbone is asked for. Here neck and head are copied too, or are counted "
    "as missing and press the share below the minimum. Ask only for the names of the part.",
)
transfer.misconception(
    "names outside of the part are called unexpected",
    swap=("if name.startswith(prefix) and name not in wanted]", "if name not in wanted]"),
    because="A checkpoint always has a neck and a head. If you want the backbone and each of their names counts as "
    "unexpected, the report has some two hundred lines that mean nothing, and they hide the one that means something.",
)
transfer.misconception(
    "unexpected is compared with what matched",
    swap=("name not in wanted]", "name not in report.matched]"),
    because="A name that the model has in another shape was expected. It is in wrong_shape already; here it is "
    "counted twice.",
)
transfer.misconception(
    "unexpected names stay untranslated",
    swap=(
        "[name for name in offered if name.startswith(prefix) and name not in wanted]",
        "[key for key in state_dict if key not in wanted]",
    ),
    because="The checkpoint's own names are compared with the model's: every tensor of an Ultralytics checkpoint is "
    "then unexpected, even those that were just copied. Compare after renaming.",
)
