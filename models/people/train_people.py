#!/usr/bin/env python3
"""Train the small Swin Mask R-CNN of models/people from scratch, on CPU, and measure it.

How to run (a virtual environment as tests/golden/make_detectors.py makes it):

    D=data                  # penn_fudan/, street/, coco/, and cifar10.tar.xz unpacked somewhere
    python3 train_people.py classifier --data cifar10 --out run --bf16 --minutes 30   # run/backbone.pth
    python3 train_people.py detector --data $D --out run --bf16 --minutes 240         # run/detector.pth
    python3 train_people.py evaluate --data $D --out run                              # AP on held-out pictures

The backbone learns CIFAR-10 first (50,000 pictures enlarged to 56x56), then the detector Penn-Fudan's pedestrians
and the people on the street pictures and on COCO's, in squares of 256x256 with flips, zooms, crops and colours; every
second picture is one of Penn-Fudan's.
No trained weights of others are used anywhere. A fifth of Penn-Fudan (identifiers that 5 divides) and COCO's
val2017 are for measuring only.

The learning rate follows the clock: it rises for a twentieth of --minutes and falls to zero when they are over, however
busy the machine is. Every --save minutes OUT/NAME.pth is rewritten: the running average of the weights, and what is
needed to go on. A run that was stopped goes on when the same command is given again, with the time it had left;
--restart begins anew, and --again N begins a new schedule of N minutes from the weights there.
`models/convert_detector.py OUT/detector.pth OUT/people` makes the files that vitrun and vitquant read.
"""
import argparse
import math
import os
import pathlib
import sys
import time

import numpy as np
import torch

import people_data as data
from people_nets import Classifier, build_detector, config_text

MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)
SIDE = 256  # of training squares
AVERAGE = 0.998
PAUSE = 60  # seconds: the longest that a step counts, so that a stopped process does not lose its schedule


class Run:
    """A model, its optimizer, the running average of its weights, and the time it has been trained for."""

    def __init__(self, name, model, args, rate):
        self.name, self.model, self.args, self.rate = name, model, args, args.rate or rate
        plain = [p for p in model.parameters() if p.dim() < 2]
        decayed = [p for p in model.parameters() if p.dim() >= 2]
        self.optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=0.05), dict(params=plain, weight_decay=0.0)],
                                           lr=self.rate)
        self.average = {k: v.clone() for k, v in model.state_dict().items()}
        self.minutes, self.spent, self.steps, self.losses = args.minutes, 0.0, 0, []
        self.path = pathlib.Path(args.out) / f"{name}.pth"
        if self.path.exists() and not args.restart:
            self.resume()

    def resume(self):
        saved = torch.load(self.path, weights_only=True)
        if self.args.again:
            self.model.load_state_dict(saved["state_dict"])
            self.average, self.minutes = saved["state_dict"], self.args.again
            return
        self.model.load_state_dict(saved["live"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.average, self.spent, self.steps = saved["state_dict"], saved["spent"], saved["steps"]
        print(f"{self.name} goes on after {self.spent:.1f} minutes, {self.steps} steps", flush=True)

    def save(self):
        partial = self.path.with_suffix(".partial")
        torch.save(dict(state_dict=self.average, live=self.model.state_dict(), optimizer=self.optimizer.state_dict(),
                        spent=self.spent, steps=self.steps, meta=dict(classes=list(data.CLASSES), cfg=config_text())), partial)
        os.replace(partial, self.path)

    def step(self, loss):
        done = min(1.0, self.spent / self.minutes)
        rate = self.rate * min(1.0, done / 0.05 + 0.01) * (0.5 + 0.5 * math.cos(math.pi * done))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.steps += 1
        keep = min(AVERAGE, self.steps / (self.steps + 10))
        for k, v in self.model.state_dict().items():
            if v.dtype.is_floating_point:
                self.average[k].mul_(keep).add_(v, alpha=1 - keep)
            else:
                self.average[k].copy_(v)

    def train(self, loss_of_batch):
        """Steps until the time is over; loss_of_batch() gives a loss and named figures to log."""
        self.model.train()
        before, saved, logged = time.time(), self.spent, self.spent
        while self.spent < self.minutes:
            loss, figures = loss_of_batch()
            self.step(loss)
            self.losses.append(figures)
            now = time.time()
            self.spent += min(now - before, PAUSE) / 60
            before = now
            if self.spent - logged >= self.args.log:
                self.report()
                logged = self.spent
            if self.spent - saved >= self.args.save:
                self.save()
                saved = self.spent
        self.report()
        self.save()

    def report(self):
        means = {k: np.mean([f[k] for f in self.losses]) for k in (self.losses[0] if self.losses else {})}
        self.losses = []
        print(f"{self.name} {self.spent:7.1f} min, step {self.steps}:", ", ".join(f"{k} {v:.3f}" for k, v in means.items()),
              flush=True)


def read_cifar(folder, part):
    """uint8 [n, 32, 32, 3] RGB and class indices."""
    import cv2
    pixels, labels = [], []
    for index, name in enumerate(sorted(os.listdir(os.path.join(folder, part)))):
        for path in sorted(pathlib.Path(folder, part, name).iterdir()):
            pixels.append(cv2.imread(str(path))[..., ::-1])
            labels.append(index)
    return np.stack(pixels), np.array(labels)


def train_classifier(args):
    pixels, labels = read_cifar(args.data, "train")
    run = Run("backbone", Classifier(10, args.bf16), args, 1e-3)
    rng = np.random.default_rng(run.steps)

    def loss_of_batch():
        chosen = rng.integers(0, len(labels), args.batch * 8)
        batch = torch.from_numpy((pixels[chosen].astype(np.float32) - MEAN) / STD).permute(0, 3, 1, 2)
        flip = torch.from_numpy(rng.random(len(chosen)) < 0.5)[:, None, None, None]
        batch = torch.where(flip, batch.flip(3), batch)
        dy, dx = rng.integers(0, 9, 2)
        batch = torch.nn.functional.pad(batch, (4, 4, 4, 4), mode="reflect")[..., dy:dy + 32, dx:dx + 32]
        batch = torch.nn.functional.interpolate(batch, size=(56, 56), mode="bilinear")
        logits, truth = run.model(batch), torch.from_numpy(labels[chosen])
        loss = torch.nn.functional.cross_entropy(logits, truth, label_smoothing=0.1)
        return loss, dict(loss=loss.item(), right=(logits.argmax(1) == truth).float().mean().item())

    run.train(loss_of_batch)


def sample_of(view):
    """mmdetection's data sample of a view."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData
    _, boxes, labels, masks, crowds = view
    sample = DetDataSample(metainfo=dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE), pad_shape=(SIDE, SIDE),
                                         batch_input_shape=(SIDE, SIDE), scale_factor=(1.0, 1.0)))
    sample.gt_instances = InstanceData(bboxes=torch.from_numpy(boxes), labels=torch.from_numpy(labels),
                                       masks=BitmapMasks(masks, SIDE, SIDE))
    sample.ignored_instances = InstanceData(bboxes=torch.from_numpy(crowds))
    return sample


def begin_as(model, path):
    """Takes the weights of a checkpoint whose names and shapes fit the model's."""
    saved, own = torch.load(path, weights_only=True)["state_dict"], model.state_dict()
    fitting = {k: v for k, v in saved.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)
    print(f"{len(fitting)} of {len(own)} tensors begin as in {path}", flush=True)


def chances(records):
    """How often each picture is taken: Penn-Fudan's as often as all the others together."""
    pedestrians = np.array(["penn_fudan" in r["file"] for r in records])
    return np.where(pedestrians, 0.5 / pedestrians.sum(), 0.5 / (~pedestrians).sum())


def train_detector(args):
    records = data.training_records(args.data)
    pictures = [data.Shrunk(r, 400) for r in records]
    print(f"{len(pictures)} pictures, {sum(len(p.labels) for p in pictures)} objects", flush=True)
    model = build_detector(args.bf16)
    begin = pathlib.Path(args.begin or pathlib.Path(args.out) / "backbone.pth")
    if args.begin or begin.exists():
        begin_as(model, begin)
    run = Run("detector", model, args, 6e-4)
    rng, weights = np.random.default_rng(run.steps), chances(records)

    def loss_of_batch():
        chosen = rng.choice(len(pictures), args.batch, p=weights)
        views = [data.random_view(pictures[i], rng, SIDE) for i in chosen]
        pixels = np.stack([(v[0][..., ::-1] - MEAN) / STD for v in views])
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        losses = run.model.loss(batch, [sample_of(v) for v in views])
        figures = {k: sum(v) if isinstance(v, list) else v for k, v in losses.items()}
        loss = sum(v for k, v in figures.items() if "loss" in k)
        return loss, dict(loss=loss.item(), **{k.removeprefix("loss_"): v.item() for k, v in figures.items()})

    run.train(loss_of_batch)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["classifier", "detector", "evaluate"])
    parser.add_argument("--data", required=True, help="folder of the pictures")
    parser.add_argument("--out", default="run", help="folder of checkpoints (run)")
    parser.add_argument("--minutes", type=float, default=60, help="time of the whole training (60)")
    parser.add_argument("--begin", help="detector: a checkpoint whose fitting weights it begins with (OUT/backbone.pth)")
    parser.add_argument("--again", type=float, default=0, help="a new schedule of so many minutes from the weights there")
    parser.add_argument("--rate", type=float, default=0, help="highest learning rate (classifier 1e-3, detector 6e-4)")
    parser.add_argument("--restart", action="store_true", help="begin anew though there is a checkpoint")
    parser.add_argument("--batch", type=int, default=8, help="pictures a step; eight times as many for the classifier (8)")
    parser.add_argument("--threads", type=int, default=1, help="threads (1)")
    parser.add_argument("--bf16", action="store_true", help="the networks in bfloat16: twice as fast where the CPU has it")
    parser.add_argument("--save", type=float, default=4, help="minutes between checkpoints (4)")
    parser.add_argument("--log", type=float, default=1, help="minutes between lines of the log (1)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.makedirs(args.out, exist_ok=True)
    if args.task == "evaluate":
        from people_eval import evaluate
        evaluate(args.data, pathlib.Path(args.out) / "detector.pth")
    elif args.task == "classifier":
        train_classifier(args)
    else:
        train_detector(args)


sys.exit(main())
