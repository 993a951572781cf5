#!/usr/bin/env python3
"""Train the small ViT and Swin of models/cifar10 from scratch on CIFAR-10, on CPU.

How to run (Python 3.11, torch 2.13, numpy, pillow; nothing else):

    D=cifar10.tar.xz        # train/CLASS/*.jpg and test/CLASS/*.jpg, 32x32
    python3 train_cifar10.py --arch teacher --data $D --out run --minutes 7 --threads 2
    python3 train_cifar10.py --arch vit     --data $D --out run --minutes 75 &
    python3 train_cifar10.py --arch swin    --data $D --out run --minutes 75 &

The teacher is a small convnet, trained on the same 50,000 images. It labels a
fixed set of augmented views of each image once (run/teacher_logits.npy); the two
transformers learn from those soft labels and from the true labels. Without that
file they train on the true labels only. No pretrained weights are used anywhere.

`--init FILE` goes on from a stored model with the last part of the schedule; the stored
models had such a second stage, because compilers took most of the first one's time:

    python3 train_cifar10.py --arch vit --data $D --out run2 --minutes 17 --init run/vit.safetensors

The schedule follows the wall clock, so a run ends when --minutes are over, with
the learning rate at zero, however busy the machine is. Every five minutes
run/ARCH.safetensors (F16, timm tensor names) and run/ARCH.json are rewritten from
the running average of the weights; test accuracy is logged, never used to select.

`--arch vit --eval FILE` prints the test accuracy of a stored model.
"""
import argparse
import copy
import ctypes
import io
import json
import os
import struct
import tarfile
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from cifar10_nets import SWIN, VIT, build

VIEWS = 8    # augmented views of each training image that the teacher labels
RESUME = 0.65   # where in the schedule a run with --init begins
PAD = 4      # largest shift of a crop, in pixels
RECIPES = {
    "teacher": dict(batch=500, muon_lr=0.12, momentum=0.6, adam_lr=1e-2, ema=0.0),
    "vit": dict(batch=256, muon_lr=0.02, momentum=0.95, adam_lr=2e-3, ema=0.998),
    "swin": dict(batch=256, muon_lr=0.02, momentum=0.95, adam_lr=2e-3, ema=0.998),
}


# ---------------------------------------------------------------- data

def decode_archive(path):
    """Return {split: (images uint8 [N,3,32,32], labels)} and the class names."""
    from PIL import Image
    items = {"train": [], "test": []}
    with tarfile.open(path) as tar:
        for member in tar:
            parts = member.name.split("/")
            if member.isfile() and parts[-1].endswith(".jpg"):
                image = Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")
                items[parts[-3]].append((parts[-2], np.asarray(image).transpose(2, 0, 1)))
    names = sorted({name for name, _ in items["train"]})
    return {split: (np.stack([image for _, image in rows]),
                    np.array([names.index(name) for name, _ in rows]))
            for split, rows in items.items()}, names


def load_cifar(path, cache):
    """Decode the archive once, then read the arrays from the folder `cache`."""
    file = os.path.join(cache, "cifar10.npz")
    if not os.path.exists(file):
        os.makedirs(cache, exist_ok=True)
        splits, names = decode_archive(path)
        arrays = {f"{s}_{k}": a for s, pair in splits.items() for k, a in zip("xy", pair)}
        np.savez(file, names=np.array(names), **arrays)
    data = np.load(file)
    tensors = {k: torch.from_numpy(data[k]) for k in ("train_x", "train_y", "test_x", "test_y")}
    return tensors, [str(name) for name in data["names"]]


def normalise(images):
    """uint8 -> float32 in [-1, 1]: (x/255 - 0.5) / 0.5."""
    return images.float().div_(127.5).sub_(1)


def pad(images):
    return F.pad(images.float(), (PAD,) * 4, mode="reflect").byte()


def fixed_views(count):
    """(dy, dx, flip) of every view of every training image, the same in all runs."""
    rng = torch.Generator().manual_seed(1234)
    shifts = torch.randint(0, 2 * PAD + 1, (count, VIEWS, 2), generator=rng)
    flips = torch.randint(0, 2, (count, VIEWS, 1), generator=rng)
    return torch.cat([shifts, flips], 2)


def crop(padded, index, views):
    """Cut one 32x32 view out of each of the padded images named by `index`."""
    span = torch.arange(32)
    rows = views[:, 0, None] + span
    columns = views[:, 1, None] + torch.where(views[:, 2, None] > 0, 31 - span, span)
    patch = padded[index[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return normalise(patch.permute(0, 3, 1, 2))


def batches(count, size):
    """Endless shuffled index batches."""
    while True:
        yield from torch.randperm(count)[: count // size * size].split(size)


# ---------------------------------------------------------------- optimiser

def orthogonalise(g, steps=5):
    """Nearest semi-orthogonal matrix to g, by the Newton-Schulz iteration of Muon."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16() if g.shape[0] <= g.shape[1] else g.bfloat16().T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return (x if g.shape[0] <= g.shape[1] else x.T).float()


class Muon:
    """Muon on weight matrices: Nesterov momentum, then the update made orthogonal."""

    def __init__(self, named, momentum):
        self.items = [(p, name.endswith("qkv.weight"), torch.zeros_like(p)) for name, p in named]
        self.momentum = momentum

    @torch.no_grad()
    def step(self, lr, decay=0.1):
        for p, is_qkv, buffer in self.items:
            buffer.lerp_(p.grad, 1 - self.momentum)
            update = p.grad.lerp(buffer, self.momentum).flatten(1)
            # query, key and value are three matrices stored as one
            parts = update.chunk(3) if is_qkv else [update]
            update = torch.cat([orthogonalise(part) for part in parts]).view(p.shape)
            if p.dim() == 4:
                # a batch norm follows each convolution: only its direction matters
                p.mul_(len(p) ** 0.5 / p.norm()).sub_(update, alpha=lr)
            else:
                gain = max(1.0, parts[0].shape[0] / parts[0].shape[1]) ** 0.5
                p.mul_(1 - lr * decay).sub_(update, alpha=lr * gain)


def is_matrix(name, p):
    """Muon takes the inner weight matrices; embeddings, head, norms, biases go to AdamW."""
    if "patch_embed" in name or "head" in name or "position" in name:
        return False
    return p.dim() == 4 or (p.dim() == 2 and "blocks" in name or "reduction" in name)


# ---------------------------------------------------------------- training

def half_copy(net):
    """bf16 working copy of the f32 master; batch norms stay f32."""
    work = copy.deepcopy(net)
    for module in work.modules():
        if not isinstance(module, nn.BatchNorm2d):
            for p in module.parameters(recurse=False):
                p.data = p.data.bfloat16()
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.is_floating_point():
                    module._buffers[name] = buffer.bfloat16()
    return work


def learning_rate(t):
    """Share of the peak rate at time t in [0, 1]: short warm-up, linear to zero."""
    return min(t / 0.03, (1 - t) / 0.97)


def kept_tokens(t):
    """Early on the ViT sees half of its patch tokens, at the end all of them."""
    return 0.5 if t < 0.5 else 0.75 if t < 0.7 else 1.0


def loss_of(logits, labels, soft):
    logits = logits.float()
    if soft is None:
        return F.cross_entropy(logits, labels, label_smoothing=0.1)
    target = 0.6 * soft.float().softmax(1) + 0.4 * F.one_hot(labels, 10)
    return F.cross_entropy(logits, target)


@torch.no_grad()
def predict(net, images, size=500):
    net.eval()
    return torch.cat([net(part) for part in images.split(size)])


def accuracy(net, data, count=10000):
    pick = torch.randperm(10000, generator=torch.Generator().manual_seed(0))[:count]
    logits = predict(net, normalise(data["test_x"][pick]))
    return (logits.argmax(1) == data["test_y"][pick]).float().mean().item()


class Trainer:
    def __init__(self, arch, data, soft, recipe, init=None):
        self.arch, self.data, self.soft, self.recipe = arch, data, soft, recipe
        self.padded = pad(data["train_x"])
        self.views = fixed_views(len(self.padded))
        self.net = build(arch) if init is None else load_safetensors(init, build(arch))
        if arch == "teacher":
            self.net.whiten(normalise(data["train_x"][:2000]))
        self.ema = copy.deepcopy(self.net)
        self.work = half_copy(self.net)
        named = [(n, p) for n, p in self.net.named_parameters() if p.requires_grad]
        self.muon = Muon([(n, p) for n, p in named if is_matrix(n, p)], recipe["momentum"])
        self.adam = torch.optim.AdamW([p for n, p in named if not is_matrix(n, p)],
                                      betas=(0.9, 0.98), weight_decay=0.0)

    def batch(self, index):
        """A random view of each image: one the teacher has labelled, or else any view."""
        slot = torch.randint(0, VIEWS, (len(index),))
        if self.soft is None:
            views, soft = self.views[torch.randint(0, len(self.views), slot.shape), slot], None
        else:
            views, soft = self.views[index, slot], self.soft[index, slot]
        return crop(self.padded, index, views).bfloat16(), self.data["train_y"][index], soft

    def step(self, index, t):
        self.work.train()
        images, labels, soft = self.batch(index)
        loss = loss_of(self.work(images, kept_tokens(t)), labels, soft)
        loss.backward()
        self.update(learning_rate(t))
        return loss.item()

    @torch.no_grad()
    def update(self, rate):
        for p, w in zip(self.net.parameters(), self.work.parameters()):
            p.grad, w.grad = (None if w.grad is None else w.grad.float()), None
        self.muon.step(rate * self.recipe["muon_lr"])
        for group in self.adam.param_groups:
            group["lr"] = rate * self.recipe["adam_lr"]
        self.adam.step()
        # a young average would remember the initial weights for too long
        decay = min(self.recipe["ema"], self.count / (self.count + 1))
        for p, w, e in zip(self.net.parameters(), self.work.parameters(), self.ema.parameters()):
            w.copy_(p)
            e.lerp_(p, 1 - decay)

    def averaged(self):
        for mine, theirs in zip(self.ema.buffers(), self.work.buffers()):
            mine.copy_(theirs)      # batch statistics live in the working copy
        return self.ema

    def run(self, minutes, save, first=0.0):
        """`first` 0..1 is where in the schedule to begin."""
        start, self.count, mean, next_save = time.time(), 0, 0.0, 60.0
        per_epoch = len(self.padded) // self.recipe["batch"]
        for index in batches(len(self.padded), self.recipe["batch"]):
            passed = time.time() - start
            if passed >= 60 * minutes:
                break
            t = first + (1 - first) * passed / (60 * minutes)
            mean += 0.02 * (self.step(index, t) - mean)
            self.count += 1
            if passed > next_save:
                next_save += 300
                print(f"{passed:6.0f} s  epoch {self.count / per_epoch:6.2f}  loss {mean:.3f}  "
                      f"test[2000] {accuracy(self.averaged(), self.data, 2000):.4f}", flush=True)
                save(self.ema)
        print(f"done: {self.count} steps, {self.count / per_epoch:.2f} epochs", flush=True)
        return self.averaged()


def label_views(trainer, teacher):
    """Teacher logits for all fixed views: float16 [images, VIEWS, 10]."""
    work = half_copy(teacher).eval()
    count = len(trainer.padded)
    logits = torch.empty(count, VIEWS, 10, dtype=torch.float16)
    with torch.no_grad():
        for view in range(VIEWS):
            for index in torch.arange(count).split(500):
                images = crop(trainer.padded, index, trainer.views[index, view])
                logits[index, view] = work(images.bfloat16()).half()
    return logits


# ---------------------------------------------------------------- files

def save_safetensors(path, net):
    header, blobs, offset = {}, [], 0
    for name, p in sorted(net.named_parameters()):
        blob = p.detach().numpy().astype("<f2").tobytes()
        header[name] = {"dtype": "F16", "shape": list(p.shape),
                        "data_offsets": [offset, offset + len(blob)]}
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".tmp", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    os.replace(path + ".tmp", path)


def load_safetensors(path, net):
    with open(path, "rb") as file:
        raw = file.read()
    size, = struct.unpack("<Q", raw[:8])
    state = {}
    for name, entry in json.loads(raw[8:8 + size]).items():
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        array = np.frombuffer(raw[begin:end], "<f2").reshape(entry["shape"])
        state[name] = torch.from_numpy(array.astype(np.float32))
    net.load_state_dict(state)
    return net


def save_config(path, arch, names):
    config = {
        "architecture": f"{arch}_cifar10", "num_classes": 10,
        "model_args": VIT if arch == "vit" else SWIN,
        "pretrained_cfg": {
            "input_size": [3, 32, 32], "interpolation": "bicubic", "crop_pct": 1.0,
            "mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": 10, "label_names": names}}
    with open(path, "w") as file:
        json.dump(config, file, indent=2)
        file.write("\n")


def keep_memory():
    """Let glibc keep freed blocks: mapping large tensors anew each step costs 10-30 %."""
    libc = ctypes.CDLL(None)
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):   # mmap, trim, top pad
        libc.mallopt(option, value)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arch", required=True, choices=["teacher", "vit", "swin"])
    parser.add_argument("--data", required=True, help="cifar10.tar.xz")
    parser.add_argument("--out", default="run", help="folder for all results")
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--init", metavar="FILE",
                        help="go on from a .safetensors file with the last part of the schedule")
    parser.add_argument("--eval", metavar="FILE", help="only test a .safetensors file")
    args = parser.parse_args()
    keep_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    data, names = load_cifar(args.data, args.out)
    if args.eval:
        net = load_safetensors(args.eval, build(args.arch))
        print(f"{args.eval}: {accuracy(net, data):.4f} on 10,000 test images")
        return

    stem = os.path.join(args.out, args.arch)
    labels = os.path.join(args.out, "teacher_logits.npy")
    soft = None
    if args.arch != "teacher" and os.path.exists(labels):
        soft = torch.from_numpy(np.load(labels))
    trainer = Trainer(args.arch, data, soft, RECIPES[args.arch], args.init)
    print(args.arch, sum(p.numel() for p in trainer.net.parameters()), "parameters", flush=True)

    def save(net):
        if args.arch != "teacher":
            save_config(stem + ".json", args.arch, names)
            save_safetensors(stem + ".safetensors", net)

    net = trainer.run(args.minutes, save, RESUME if args.init else 0.0)
    save(net)
    if args.arch == "teacher":
        np.save(labels, label_views(trainer, net).numpy())
    else:
        load_safetensors(stem + ".safetensors", net)
    print(f"final test accuracy {accuracy(net, data):.4f}", flush=True)


if __name__ == "__main__":
    main()
