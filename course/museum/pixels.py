"""Rooms of the numbers between an image and the network.

Sources: `plot_train_batch` of YOLOv6's `yolov6/core/engine.py` for room 89; detectron2's
`modeling/meta_arch/rcnn.py` for pixel mean and standard deviation as buffers, room 109.
"""

import torch
from torch import Tensor, nn

from yolostudy.study.museum import Room

# ---- a batch that is drawn -----------------------------------------------------------------------


def in_place(images: Tensor) -> Tensor:
    """Pictures of 0…255 for TensorBoard."""
    pixels = images.cpu().numpy()
    pixels *= 255
    return torch.from_numpy(pixels)


def a_copy(images: Tensor) -> Tensor:
    return torch.from_numpy(images.cpu().numpy() * 255)


white = Room(
    89,
    "on the CPU the loss of every first batch is enormous, and its picture is white",
    "The first batch is drawn, and for this its numbers are multiplied by 255 in place. On a card `.cpu()` makes a "
    "copy. On the CPU it gives the same tensor, and `.numpy()` shares its memory: the network is trained on 0 to 255, "
    "and what is drawn of it next is white. Write `images * 255`, or copy before you change.",
    broken=in_place,
    fixed=a_copy,
)


def first_batch(draw) -> tuple[Tensor, Tensor]:
    """Images (2, 3, 8, 8) that the network gets after they were drawn, and the picture."""
    loaded = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    images = loaded.to("cpu", non_blocking=True).float() / 255
    return images, draw(images)


@white.look
def _(draw):
    images, _ = first_batch(draw)
    loss = (images.mean(dim=(1, 2, 3)) - 1).square().mean().item()
    return images.max().item() > 1, f"pixels up to {images.max().item():g}; loss {loss:.3g}"


@white.find("the maximum before and after, and whether the memory is the same")
def _(draw):
    images, picture = first_batch(draw)
    shared = images.data_ptr() == picture.data_ptr()
    return f"at most 1 before drawing, {images.max().item():g} after it; the picture shares its memory: {shared}"


# ---- pixel mean and standard deviation -----------------------------------------------------------

MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, RGB


def column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)


class Normalised(nn.Module):
    """Images (B, 3, H, W) -> answers (B, 1). Subclasses say where mean and deviation are kept."""

    def __init__(self, mean: tuple[float, ...] = MEAN, deviation: tuple[float, ...] = DEVIATION):
        super().__init__()
        self.keep(column(mean), column(deviation))
        self.layer = nn.Linear(3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(((images - self.pixel_mean) / self.pixel_std).mean(dim=(2, 3)))


class AsParameters(Normalised):
    def keep(self, mean, deviation):
        self.pixel_mean, self.pixel_std = nn.Parameter(mean), nn.Parameter(deviation)


class AsAttributes(Normalised):
    def keep(self, mean, deviation):
        self.pixel_mean, self.pixel_std = mean, deviation


class AsBuffers(Normalised):
    def keep(self, mean, deviation):
        self.register_buffer("pixel_mean", mean)
        self.register_buffer("pixel_std", deviation)


mean_and_deviation = Room(
    109,
    "the network sees other colours after training, after loading, or fails on a card",
    "Pixel mean and standard deviation belong to the network: its weights are right for these numbers only. As "
    "parameters they are trained, and an optimizer with weight decay shrinks them. As plain attributes they stay where "
    "they are when the network moves to a card, and no file has them. A buffer is moved, cast and saved with the "
    "network, and no optimizer gets it. detectron2 keeps them out of the file too (`persistent=False`): its "
    "configuration has them. A file that comes without one needs them inside.",
    broken=(AsParameters, AsAttributes),
    fixed=(AsBuffers,),
)


def trained_mean(kind: type) -> float:
    """How far the mean is off after 20 steps with weight decay."""
    model = kind()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        (model(255 * torch.rand(4, 3, 4, 4)) - 1).square().mean().backward()
        optimizer.step()
    return (model.pixel_mean - column(MEAN)).abs().max().item()


def loaded_mean(kind: type) -> float:
    """How far the mean is off in a network of other defaults that loads the file of ours."""
    other = kind(mean=(0.0, 0.0, 0.0), deviation=(255.0, 255.0, 255.0))
    other.load_state_dict(kind().state_dict())
    return (other.pixel_mean - column(MEAN)).abs().max().item()


def moves(kind: type) -> bool:
    """Whether the mean goes where the network goes. The device "meta" is there on each machine."""
    return kind().to("meta").pixel_mean.is_meta


@mean_and_deviation.look
def _(kinds):
    ill, said = False, []
    for kind in kinds:
        trained, loaded, moved = trained_mean(kind), loaded_mean(kind), moves(kind)
        ill |= trained > 0 or loaded > 0 or not moved
        said.append(
            f"{kind.__name__:<13} off by {trained:.3g} after training, by {loaded:.4g} after loading; "
            f"on the network's device: {'yes' if moved else 'no'}"
        )
    return ill, "\n".join(said)


@mean_and_deviation.find("the lists of parameters, of buffers, and of what is saved")
def _(kinds):
    rows = []
    for kind in kinds:
        model = kind()
        lists = {
            "a parameter": dict(model.named_parameters()),
            "a buffer": dict(model.named_buffers()),
            "saved": model.state_dict(),
        }
        found = [word for word, names in lists.items() if "pixel_mean" in names]
        rows.append(f"{kind.__name__:<13} pixel_mean is {' and '.join(found) or 'in none of them'}")
    return "\n".join(rows)
