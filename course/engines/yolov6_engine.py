"""A training engine in the shape of YOLOv6 4.0, small, on a network that trains in a second.

There are no hooks. One class owns the model, the data, the schedule, the checkpoints and the
drawing, and each moment of training is a method of it. To change a moment, override its method.

Names, order and conditions are those of YOLOv6 0.4.0, `yolov6/core/engine.py` (Trainer) and
`yolov6/utils/ema.py` (ModelEMA); the code is ours. What differs: the network sorts small images by
their brightest colour, weights are saved as state dicts, and half precision is on only on CUDA. There
it is on where `device != 'cpu'`, which compares a torch.device with a text and is always true.
"""

from __future__ import annotations

import math
import tempfile
from argparse import Namespace
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax


class ModelEMA:
    """Averaged weights. decay·(1 − exp(−updates / 2000)) of the average stays at each update."""

    def __init__(self, model: nn.Module, decay: float = 0.9999, updates: int = 0):
        self.ema, self.updates = deepcopy(model).eval().requires_grad_(False), updates
        self.decay = lambda updates: decay * (1 - math.exp(-updates / 2000))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        keep, new = self.decay(self.updates), model.state_dict()
        for name, average in self.ema.state_dict().items():
            if average.is_floating_point():
                average.lerp_(new[name], 1 - keep)

    def update_attr(self, model: nn.Module, include=(), exclude=("process_group", "reducer")) -> None:
        """Copy plain attributes, such as the class names, which are in no state dict."""
        for name, value in vars(model).items():
            if (not include or name in include) and name not in exclude and not name.startswith("_"):
                setattr(self.ema, name, value)


class Trainer:
    """The whole engine.

    Args:
        args: what the command line gives, see `arguments`. cfg: what the configuration file gives,
            see `configuration`. device: where to train.
    """

    least_warmup = 1000  # steps: the warm-up of a short run never ends

    def __init__(self, args: Namespace, cfg: Namespace, device: str = "cpu"):
        self.args, self.cfg, self.device = args, cfg, torch.device(device)
        self.rank, self.world_size = args.rank, args.world_size
        self.main_process = self.rank in (-1, 0)
        self.weights = Path(args.save_dir, "weights")
        self.data_dict = {"nc": 3, "names": ["red", "green", "blue"]}
        self.train_loader, self.val_loader = self.get_data_loader(args, cfg, self.data_dict)
        model = self.get_model(args, cfg, self.data_dict["nc"], self.device)
        if args.distill:
            self.teacher_model = self.get_teacher_model(args, cfg, self.data_dict["nc"], self.device)
        self.optimizer = self.get_optimizer(args, cfg, model)
        self.scheduler, self.lf = self.get_lr_scheduler(args, cfg, self.optimizer)
        self.ema = ModelEMA(model) if self.main_process else None
        self.start_epoch = 0
        if args.resume:
            checkpoint = torch.load(args.resume, weights_only=True)
            model.load_state_dict(checkpoint["model"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            self.ema.ema.load_state_dict(checkpoint["ema"])
            self.start_epoch, self.ema.updates = checkpoint["epoch"] + 1, checkpoint["updates"]
        self.model = self.parallel_model(args, model, self.device)
        self.model.nc, self.model.names = self.data_dict["nc"], self.data_dict["names"]
        self.max_epoch, self.max_stepnum, self.batch_size = args.epochs, len(self.train_loader), args.batch_size

    # ---- the life of a training ------------------------------------------------------------------

    def train(self) -> None:
        try:
            self.train_before_loop()
            for self.epoch in range(self.start_epoch, self.max_epoch):  # noqa: B020, an attribute counts
                self.train_in_loop(self.epoch)
            self.strip_model()  # only after success
        finally:
            self.train_after_loop()

    def train_before_loop(self) -> None:
        self.warmup_stepnum = max(round(self.cfg.solver.warmup_epochs * self.max_stepnum), self.least_warmup)
        self.scheduler.last_epoch = self.start_epoch - 1
        self.last_opt_step = -1
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.device.type == "cuda")
        self.best_ap = self.ap = self.best_stop_strong_aug_ap = 0.0
        self.evaluate_results, self.losses = (0.0, 0.0), []

    def train_in_loop(self, epoch_num: int) -> None:
        """One epoch with its evaluation."""
        self.prepare_for_steps()
        for self.step, self.batch_data in self.pbar:  # noqa: B020
            self.train_in_steps(epoch_num, self.step)
            self.print_details()
        self.eval_and_save()

    def prepare_for_steps(self) -> None:
        if self.epoch > self.start_epoch:
            self.scheduler.step()
        if self.epoch == self.max_epoch - self.args.stop_aug_last_n_epoch:  # the loader is made anew
            self.cfg.data_aug.mosaic = self.cfg.data_aug.mixup = 0.0
            self.train_loader, self.val_loader = self.get_data_loader(self.args, self.cfg, self.data_dict)
        self.model.train()
        self.mean_loss = torch.zeros(2)
        self.optimizer.zero_grad()
        self.pbar = enumerate(self.train_loader)

    def train_in_steps(self, epoch_num: int, step_num: int) -> None:
        images, targets = self.prepro_data(self.batch_data, self.device)
        with torch.autocast(self.device.type, enabled=self.scaler.is_enabled()):
            preds = self.model(images)
            if self.args.distill:
                with torch.no_grad():
                    t_preds = self.teacher_model(images)
                total_loss, loss_items = self.compute_loss_distill(
                    preds, t_preds, targets, epoch_num, self.max_epoch, self.args.temperature, step_num
                )
            else:
                total_loss, loss_items = self.compute_loss(preds, targets, epoch_num, step_num)
            if self.rank != -1:
                total_loss = total_loss * self.world_size  # DDP averages the gradients over the processes
        self.scaler.scale(total_loss).backward()
        self.loss_items = loss_items
        self.update_optimizer()

    def update_optimizer(self) -> None:
        """Warm up rate, momentum and accumulation, and update when enough steps have gathered."""
        solver, step = self.cfg.solver, self.step + self.max_stepnum * self.epoch
        self.accumulate = max(1, round(64 / self.batch_size))
        if step <= self.warmup_stepnum:
            at = [0, self.warmup_stepnum]
            self.accumulate = max(1, np.interp(step, at, [1, 64 / self.batch_size]).round())
            for number, group in enumerate(self.optimizer.param_groups):
                start = solver.warmup_bias_lr if number == 2 else 0.0  # group 2 holds the biases
                group["lr"] = float(np.interp(step, at, [start, group["initial_lr"] * self.lf(self.epoch)]))
                group["momentum"] = float(np.interp(step, at, [solver.warmup_momentum, solver.momentum]))
        if step - self.last_opt_step >= self.accumulate:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            if self.ema:
                self.ema.update(self.model)
            self.last_opt_step = step

    def print_details(self) -> None:
        """After each step: the running mean of the losses."""
        if self.main_process:
            self.mean_loss = (self.mean_loss * self.step + self.loss_items) / (self.step + 1)
            self.losses.append(float(self.loss_items.sum()))

    def eval_and_save(self) -> None:
        """After each epoch. `epoch` counts from 0, and both ranges end with the last epoch."""
        args, remaining = self.args, self.max_epoch - self.epoch
        eval_interval = args.eval_interval if remaining > args.heavy_eval_range else 3
        is_val_epoch = (not args.eval_final_only or remaining == 1) and self.epoch % eval_interval == 0
        if not self.main_process:
            return
        self.ema.update_attr(self.model, include=["nc", "names"])
        if is_val_epoch:
            self.eval_model()
            self.ap = self.evaluate_results[1]
            self.best_ap = max(self.ap, self.best_ap)
        checkpoint = {
            "model": deepcopy(self.model.state_dict()),
            "ema": deepcopy(self.ema.ema.state_dict()),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
        }
        self.save_checkpoint(checkpoint, is_val_epoch and self.ap == self.best_ap, "last_ckpt")
        if self.epoch >= self.max_epoch - args.save_ckpt_on_last_n_epoch:
            self.save_checkpoint(checkpoint, False, f"{self.epoch}_ckpt")
        if self.epoch >= self.max_epoch - args.stop_aug_last_n_epoch and self.best_stop_strong_aug_ap < self.ap:
            self.best_stop_strong_aug_ap = self.ap
            self.save_checkpoint(checkpoint, False, "best_stop_aug_ckpt")

    @torch.no_grad()
    def eval_model(self) -> None:
        """Share of images sorted right by the averaged weights; there it is AP50 and AP50-95."""
        right = [self.ema.ema(images).argmax(1) == targets for images, targets in self._batches(self.val_loader)]
        self.evaluate_results = (float(torch.cat(right).float().mean()),) * 2

    def strip_model(self) -> None:
        """Rewrite the best and the last file: averaged weights, half precision, no optimizer."""
        for file in filter(Path.exists, (self.weights / "best_ckpt.pt", self.weights / "last_ckpt.pt")):
            checkpoint = torch.load(file, weights_only=True)
            half = {name: value.half() for name, value in checkpoint["ema"].items()}
            torch.save({"model": half, "optimizer": None, "ema": None, "updates": None, "epoch": self.epoch}, file)

    def train_after_loop(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    # ---- parts -----------------------------------------------------------------------------------

    @staticmethod
    def get_data_loader(args: Namespace, cfg: Namespace, data_dict: dict) -> tuple[list, list]:
        """Batches of (images uint8 (B, 3, 16, 16), targets (B,)) for training and validation."""
        random, loaders = torch.Generator().manual_seed(0), []
        for mosaic in (cfg.data_aug.mosaic, 0.0):
            targets = torch.randint(data_dict["nc"], (args.batch_size * args.steps,), generator=random)
            images = torch.randint(0, 160, (len(targets), 3, 16, 16), generator=random, dtype=torch.uint8)
            images[torch.arange(len(targets)), targets] += 60
            images = images.roll(8, -1) if mosaic else images  # stands for strong augmentation
            loaders.append([*zip(images.split(args.batch_size), targets.split(args.batch_size))])
        return tuple(loaders)

    @staticmethod
    def prepro_data(batch_data: tuple, device: torch.device) -> tuple[Tensor, Tensor]:
        return batch_data[0].to(device).float() / 255, batch_data[1].to(device)

    def _batches(self, loader: list):
        return (self.prepro_data(batch, self.device) for batch in loader)

    def get_model(self, args: Namespace, cfg: Namespace, nc: int, device: torch.device) -> nn.Module:
        torch.manual_seed(1)
        layers = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(8, nc)).to(device)

    def get_teacher_model(self, args: Namespace, cfg: Namespace, nc: int, device: torch.device) -> nn.Module:
        """A second network; its normalisation uses the batch, because nothing calls `eval` on it."""
        model = self.get_model(args, cfg, nc, device)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False
        return model

    @staticmethod
    def parallel_model(args: Namespace, model: nn.Module, device: torch.device) -> nn.Module:
        return nn.parallel.DistributedDataParallel(model) if device.type != "cpu" and args.rank != -1 else model

    def get_optimizer(self, args: Namespace, cfg: Namespace, model: nn.Module) -> torch.optim.Optimizer:
        """SGD with three groups: scales of normalisation, other weights (decayed), biases."""
        accumulate = max(1, round(64 / args.batch_size))
        decay = cfg.solver.weight_decay * args.batch_size * accumulate / 64
        rate = cfg.solver.lr0 * args.batch_size / (self.world_size * args.bs_per_gpu)
        named = dict(model.named_parameters())
        scales = [value for name, value in named.items() if value.ndim == 1 and name.endswith("weight")]
        weights = [value for value in named.values() if value.ndim > 1]
        biases = [value for name, value in named.items() if name.endswith("bias")]
        groups = [{"params": scales}, {"params": weights, "weight_decay": decay}, {"params": biases}]
        return torch.optim.SGD(groups, rate, cfg.solver.momentum, nesterov=True)

    @staticmethod
    def get_lr_scheduler(args: Namespace, cfg: Namespace, optimizer: torch.optim.Optimizer) -> tuple:
        """Half a cosine over the epochs, from 1 to `lrf`."""

        def lf(epoch: int) -> float:
            return (1 - math.cos(epoch * math.pi / args.epochs)) / 2 * (cfg.solver.lrf - 1) + 1

        return torch.optim.lr_scheduler.LambdaLR(optimizer, lf), lf

    @staticmethod
    def compute_loss(preds: Tensor, targets: Tensor, epoch_num: int, step_num: int) -> tuple[Tensor, Tensor]:
        loss = cross_entropy(preds, targets)
        return loss, torch.stack([loss.detach(), torch.zeros(())])

    def compute_loss_distill(
        self, preds, t_preds, targets, epoch_num: int, max_epoch: int, temperature: float, step_num: int
    ) -> tuple[Tensor, Tensor]:
        """The loss on labels, and a KL divergence to the teacher that fades along a cosine."""
        loss, _ = self.compute_loss(preds, targets, epoch_num, step_num)
        soft = log_softmax(preds / temperature, 1), softmax(t_preds / temperature, 1)
        fading = (1 - math.cos(epoch_num * math.pi / max_epoch)) / 2 * (0.01 - 1) + 1
        taught = kl_div(*soft, reduction="batchmean") * temperature**2 * fading
        return loss + taught, torch.stack([loss.detach(), taught.detach()])

    def save_checkpoint(self, checkpoint: dict, is_best: bool, name: str) -> None:
        self.weights.mkdir(parents=True, exist_ok=True)
        for file in [f"{name}.pt", "best_ckpt.pt"][: 1 + is_best]:
            torch.save(checkpoint, self.weights / file)


def arguments(save_dir: str | Path, **changes) -> Namespace:
    """The command line's arguments: YOLOv6's names, for a run of a second. `steps`: of an epoch."""
    known = dict(batch_size=16, epochs=4, steps=8, eval_interval=1, heavy_eval_range=0, eval_final_only=False)
    known |= dict(stop_aug_last_n_epoch=1, save_ckpt_on_last_n_epoch=-1, resume="", rank=-1, world_size=1)
    known |= dict(distill=False, temperature=20, bs_per_gpu=16, save_dir=str(save_dir))
    if unknown := changes.keys() - known.keys():
        raise ValueError(f"unknown arguments {', '.join(sorted(unknown))}; known: {', '.join(known)}.")
    return Namespace(**known | changes)


def configuration() -> Namespace:
    """The configuration file: YOLOv6's names."""
    solver = Namespace(lr0=0.05, lrf=0.1, momentum=0.937, weight_decay=5e-4)
    solver.warmup_epochs, solver.warmup_momentum, solver.warmup_bias_lr = 1.0, 0.8, 0.1
    return Namespace(solver=solver, data_aug=Namespace(mosaic=1.0, mixup=0.0))


def main() -> None:
    """One epoch of one step, to be traced: `yolostudy trace course.engines.yolov6_engine:main`."""
    with tempfile.TemporaryDirectory() as folder:
        Trainer(arguments(folder, epochs=1, steps=1), configuration()).train()
