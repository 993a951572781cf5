"""The ViT, the Swin and the convnet that teaches them, in plain PyTorch with timm's names."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

VIT = dict(img_size=32, patch_size=4, embed_dim=128, depth=7, num_heads=4)
SWIN = dict(img_size=32, patch_size=2, embed_dim=48, depths=[2, 4, 2],
            num_heads=[3, 6, 12], window_size=4)


class Attention(nn.Module):
    """Multi-head self-attention; with `window`, Swin's relative position bias."""

    def __init__(self, dim, heads, window=None):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = None
        if window:
            table = torch.zeros((2 * window - 1) ** 2, heads)
            self.relative_position_bias_table = nn.Parameter(table)
            side = torch.arange(window)
            yx = torch.stack(torch.meshgrid(side, side, indexing="ij")).flatten(1)
            delta = yx[:, :, None] - yx[:, None, :] + window - 1
            self.register_buffer("relative_position_index",
                                 delta[0] * (2 * window - 1) + delta[1], persistent=False)

    def bias(self, mask):
        """[windows or 1, heads, tokens, tokens]: position bias plus shift mask."""
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        return bias[None] if mask is None else bias[None] + mask[:, None]

    def forward(self, x, mask=None):
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        a = (q * self.scale) @ k.transpose(-2, -1)
        if self.relative_position_bias_table is not None:
            bias = self.bias(mask)
            a = (a.view(-1, *bias.shape) + bias).view(a.shape)
        a = a.float().softmax(-1).to(v.dtype)   # twice as fast as a bf16 softmax on CPU
        return self.proj((a @ v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class PatchEmbed(nn.Module):
    def __init__(self, patch, dim, norm=False):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, patch)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, x):
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class Block(nn.Module):
    def __init__(self, dim, heads, eps, window=None):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, img_size, patch_size, embed_dim, depth, num_heads):
        super().__init__()
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(sincos(img_size // patch_size, embed_dim))
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, 1e-6) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = nn.Linear(embed_dim, 10)
        for block in self.blocks:
            mimetic_init(block.attn)

    def forward(self, x, keep=1.0):
        """`keep` < 1 drops a random share of the patch tokens (training only)."""
        x = self.patch_embed(x).flatten(1, 2) + self.pos_embed[:, 1:]
        b, n, c = x.shape
        if keep < 1:
            kept = torch.rand(b, n).argsort(1)[:, : int(n * keep)]
            x = x.gather(1, kept[:, :, None].expand(-1, -1, c))
        first = (self.cls_token + self.pos_embed[:, :1]).expand(b, -1, -1)
        x = torch.cat([first, x], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))


class Reorder(torch.autograd.Function):
    """Permute tokens; the gradient is permuted back (torch's own would scatter-add)."""

    @staticmethod
    def forward(ctx, x, order, inverse):
        ctx.save_for_backward(inverse)
        return x.index_select(1, order)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(1, ctx.saved_tensors[0]), None, None


class SwinBlock(Block):
    """Tokens arrive in window order, so an unshifted block needs no rearrangement."""

    def __init__(self, dim, heads, size, window, shift):
        super().__init__(dim, heads, 1e-5, window)
        self.area, self.shift = window * window, shift
        if not shift:
            return
        order, inverse = shift_orders(size, window, shift)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", inverse, persistent=False)
        self.register_buffer("attn_mask", shift_mask(size, window, shift), persistent=False)

    def attend(self, x):
        b, n, c = x.shape
        if self.shift:
            x = Reorder.apply(x, self.order, self.inverse)
        mask = self.attn_mask if self.shift else None
        x = self.attn(x.reshape(-1, self.area, c), mask).view(b, n, c)
        return Reorder.apply(x, self.inverse, self.order) if self.shift else x

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def windows_of(grid, window):
    """[H, W, ...] -> [H*W, ...], the tokens window by window."""
    h, w = grid.shape[:2]
    grid = grid.reshape(h // window, window, w // window, window, *grid.shape[2:])
    return grid.transpose(1, 2).flatten(0, 3)


def shift_orders(size, window, shift):
    """Permutations from plain to shifted window order, and back."""
    grid = torch.arange(size * size).view(size, size)
    place = windows_of(grid, window).argsort()      # grid position -> place in window order
    shifted = windows_of(torch.roll(grid, (-shift, -shift), (0, 1)), window)
    order = place[shifted]
    return order, order.argsort()


def shift_mask(size, window, shift):
    """-100 between tokens of one shifted window that are not neighbours in the image."""
    band = torch.zeros(size, dtype=torch.long)
    band[size - window:] = 1
    band[size - shift:] = 2
    region = windows_of(band[:, None] * 3 + band, window).view(-1, window * window)
    return torch.where(region[:, None] != region[:, :, None], -100.0, 0.0)


class PatchMerging(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x):
        b, h, w, c = x.shape
        x = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(x.reshape(b, h // 2, w // 2, 4 * c)))


class SwinStage(nn.Module):
    """timm puts the patch merging at the start of the later stages."""

    def __init__(self, dim, depth, heads, size, window, merge):
        super().__init__()
        self.size, self.window = size, window
        self.downsample = PatchMerging(dim // 2) if merge else nn.Identity()
        shifts = [window // 2 if i % 2 and size > window else 0 for i in range(depth)]
        self.blocks = nn.ModuleList(SwinBlock(dim, heads, size, window, s) for s in shifts)

    def forward(self, x):
        x = self.downsample(x)
        (b, n, _, c), w = x.shape, self.window
        split = (b, n // w, n // w, w, w, c)
        x = x.view(b, n // w, w, n // w, w, c).transpose(2, 3).reshape(b, n * n, c)
        for block in self.blocks:
            x = block(x)
        return x.view(split).transpose(2, 3).reshape(b, n, n, c)


class Swin(nn.Module):
    def __init__(self, img_size, patch_size, embed_dim, depths, num_heads, window_size):
        super().__init__()
        self.patch_embed = PatchEmbed(patch_size, embed_dim, norm=True)
        size = img_size // patch_size
        self.layers = nn.ModuleList(
            SwinStage(embed_dim << i, depth, num_heads[i], size >> i, window_size, i > 0)
            for i, depth in enumerate(depths))
        last = embed_dim << (len(depths) - 1)
        self.norm = nn.LayerNorm(last)
        self.head = nn.Module()
        self.head.fc = nn.Linear(last, 10)

    def forward(self, x, keep=1.0):
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head.fc(self.norm(x).mean((1, 2)))


class Teacher(nn.Sequential):
    """A small VGG-like convnet in the style of airbench: fixed whitening first layer."""

    def __init__(self, widths=(48, 128, 256)):
        layers, channels = [nn.Conv2d(3, 24, 2), nn.GELU()], 24
        layers[0].weight.requires_grad_(False)
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.MaxPool2d(2),
                       nn.BatchNorm2d(width), nn.GELU(),
                       nn.Conv2d(width, width, 3, padding=1, bias=False),
                       nn.BatchNorm2d(width), nn.GELU()]
            channels = width
        super().__init__(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
        for module in self:
            if isinstance(module, nn.Conv2d) and module.bias is None:
                # start close to the identity, so that signals pass through every layer
                nn.init.dirac_(module.weight[: module.in_channels])

    def whiten(self, images):
        """First layer: the 12 whitened 2x2 patch directions and their negatives."""
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5)
        patches = patches.reshape(-1, 12)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + 5e-4).sqrt()).T.reshape(12, 3, 2, 2)
        self[0].weight.data = torch.cat([filters, -filters])
        nn.init.zeros_(self[0].bias)

    def forward(self, x, keep=1.0):
        return super().forward(x.contiguous(memory_format=torch.channels_last))


def sincos(side, dim):
    """2-D sine-cosine position embedding, zero for the class token."""
    omega = 10000.0 ** -(torch.arange(dim // 4) / (dim / 4))
    angle = torch.arange(side)[:, None] * omega
    line = torch.cat([angle.sin(), angle.cos()], 1)
    grid = torch.cat([line[:, None].expand(-1, side, -1), line[None].expand(side, -1, -1)], 2)
    return torch.cat([torch.zeros(1, dim), grid.reshape(-1, dim)])[None]


def mimetic_init(attn):
    """Mimetic initialisation (Trockman & Kolter 2023): Wq Wk^T near +I, Wv Wproj near -I.

    With sine-cosine positions every token then starts by attending to its neighbours.
    """
    dim, width = attn.proj.in_features, attn.proj.in_features // attn.heads
    wq, wk, wv = attn.qkv.weight.data.split(dim)
    noise = lambda: torch.randn(dim, dim) / math.sqrt(dim)
    for head in range(attn.heads):
        u, s, vt = torch.linalg.svd(0.7 * noise() + 0.7 * torch.eye(dim))
        rows = slice(head * width, (head + 1) * width)
        wq[rows] = (u[:, :width] * s[:width].sqrt()).T
        wk[rows] = vt[:width] * s[:width].sqrt()[:, None]
    u, s, vt = torch.linalg.svd(0.4 * noise() - 0.4 * torch.eye(dim))
    attn.proj.weight.data = u * s.sqrt()
    wv[:] = vt * s.sqrt()[:, None]


def build(arch):
    if arch == "teacher":
        return Teacher()
    net = ViT(**VIT) if arch == "vit" else Swin(**SWIN)
    for name, p in net.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(p)
        if name.endswith("mlp.fc2.weight") or name.startswith("head"):
            p.data.mul_(0.5)
    return net
