#!/usr/bin/env python3
"""models/convert_detector.py on checkpoints made of the golden detectors; needs PyTorch.

    python3 tests/models/test_convert_detector.py
"""
import contextlib
import io
import json
import os
import pathlib
import struct
import sys
import tempfile
import types
import unittest

try:
    import torch
except ImportError:
    print("SKIPPED: no PyTorch here")
    sys.exit(77)

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "models"))
import convert_detector  # noqa: E402

GOLDEN = ROOT / "tests/golden/detectors"
DTYPES = {"F32": torch.float32, "I64": torch.int64, "F16": torch.float16}
ROI = "dict(type='RoIAlign', output_size=%d, sampling_ratio=0)"
EXTRACTOR = "dict(type='SingleRoIExtractor', roi_layer=" + ROI + ", out_channels=8, featmap_strides=[4, 8, 16, 32])"
CONFIG = f"""
edge = 50 + 14
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], bgr_to_rgb=True, pad_size_divisor=32),
    backbone=dict(type='SwinTransformer', out_indices=(0, 1, 2, 3)),
    neck=dict(type='FPN', num_outs=5),
    rpn_head=dict(type='RPNHead', anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[0.5, 1.0, 3.0],
                                                        strides=[4, 8, 16, 32, 64])),
    roi_head=dict(type='StandardRoIHead', bbox_roi_extractor={EXTRACTOR % 7}, mask_roi_extractor={EXTRACTOR % 14}),
    test_cfg=dict(rpn=dict(nms_pre=900, max_per_img=800, nms=dict(type='nms', iou_threshold=0.6), min_bbox_size=2),
                  rcnn=dict(score_thr=0.1, nms=dict(type='nms', iou_threshold=0.4), max_per_img=9, mask_thr_binary=0.5)))
test_pipeline = [dict(type='Resize', scale=(96, edge), keep_ratio=True)]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
"""
READ = {"image_mean": [1, 2, 3], "image_std": [4, 5, 6], "input_size": {"shortest_edge": 64, "longest_edge": 96},
        "score_threshold": 0.1, "nms_threshold": 0.4, "max_detections": 9,
        "rpn": {"pre_nms": 900, "post_nms": 800, "nms_threshold": 0.6, "min_size": 2},
        "anchors": {"scales": [4], "ratios": [0.5, 1, 3], "strides": [4, 8, 16, 32, 64]}}

OTHER_CONFIGS = (  # what CONFIG has, and what is there in its place
    ("sampling_ratio=0", "sampling_ratio=0 + 2"),
    ("type='MaskRCNN'", "type='CascadeRCNN'"),
    ("keep_ratio=True", "keep_ratio=False"),
    ("pad_size_divisor=32", "pad_size_divisor=64"),
    ("bgr_to_rgb=True", "bgr_to_rgb=False"),
    ("'nms', iou_threshold=0.4", "'soft_nms', iou_threshold=0.4"),
    ("num_outs=5", "num_outs=6"),
    ("max_per_img=9", "max_per_img=f(9)"),
    ("scales=[4]", "scales=[4, 8]"),
)
OTHER_MODELS = (  # a part of the reason, and the tensor that tells
    ("a ResNet", "backbone.layer1.0.conv1.weight"),
    ("Swin V2", "backbone.stages.0.blocks.0.attn.logit_scale"),
    ("absolute positions", "backbone.absolute_pos_embed"),
    ("a DETR", "query_embed.weight"),
    ("one stage", "bbox_head.cls_convs.0.conv.weight"),
    ("extra convolutions", "neck.fpn_convs.4.conv.weight"),
    ("group norms", "roi_head.bbox_head.shared_convs.0.gn.weight"),
    ("deformable", "backbone.stages.0.conv_offset.weight"),
    ("tensor foo.bar belongs to no", "foo.bar"),
)


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    state = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name != "__metadata__":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            state[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return state


EXPLOITED = os.path.join(tempfile.gettempdir(), f"exploited_{os.getpid()}")


class Exploit:
    def __reduce__(self):
        return os.system, (f"touch {EXPLOITED}",)


class ConvertDetector(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = pathlib.Path(self.folder.name, "out")
        self.state = read_safetensors(GOLDEN / "mask/model.safetensors")

    def convert(self, checkpoint, *options):
        """What the program prints and returns."""
        path = os.path.join(self.folder.name, "checkpoint.pth")
        torch.save(checkpoint, path)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = convert_detector.main([path, str(self.out), *options])
        return types.SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())

    def config(self):
        return json.loads((self.out / "config.json").read_text())

    def refuses(self, text, checkpoint, *options):
        done = self.convert(checkpoint, *options)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(text, done.stderr)
        self.assertFalse(self.out.exists())

    def write_config(self, text):
        path = os.path.join(self.folder.name, "config.py")
        pathlib.Path(path).write_text(text)
        return "--config", path

    def test_every_golden_detector(self):
        for line in (GOLDEN / "list.txt").read_text().splitlines():
            name, architecture = line.split()[:2]
            with self.subTest(name):
                state = read_safetensors(GOLDEN / name / "model.safetensors")
                done = self.convert(dict(state_dict=state))
                if name == "mask_anchors":
                    self.assertIn("rpn_head.rpn_cls has 4 anchors, a default 3", done.stderr)
                    continue
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(self.config()["architecture"], architecture)
                written = read_safetensors(self.out / "model.safetensors")
                self.assertLessEqual(set(written), set(state))
                left = {k for k in set(state) - set(written) if "num_batches_tracked" not in k}
                self.assertTrue(all(k.endswith("relative_position_index") for k in left), left)
                self.assertTrue(all(torch.equal(written[k], state[k]) for k in written))

    def test_prefixes_and_averages(self):
        state = {"module." + k: v for k, v in self.state.items()}
        self.assertEqual(self.convert(dict(model=state)).returncode, 0)
        state = {**self.state, **{"ema_" + k.replace(".", "_"): v for k, v in self.state.items()}}
        self.assertEqual(self.convert(dict(state_dict=state)).returncode, 0)
        self.assertNotIn("ema_backbone_norm0_bias", read_safetensors(self.out / "model.safetensors"))

    def test_configuration_of_the_checkpoint(self):
        meta = dict(cfg=CONFIG, dataset_meta=dict(classes=("a", "b", "c")))
        done = self.convert(dict(state_dict=self.state, meta=meta))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.config(), {"architecture": "mask_rcnn", **READ, "labels": ["a", "b", "c"]})

    def test_configuration_with_a_base(self):
        pathlib.Path(self.folder.name, "base.py").write_text(CONFIG)
        options = self.write_config("_base_ = './base.py'\nmodel = dict(test_cfg=dict(rcnn=dict(max_per_img=5)))\n")
        done = self.convert(self.state, *options, "--labels", "x, y,z")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.config(), {"architecture": "mask_rcnn", **READ, "max_detections": 5, "labels": ["x", "y", "z"]})

    def test_says_what_it_assumes(self):
        done = self.convert(self.state)
        self.assertIn("sizes, thresholds and anchors are mmdetection's defaults", done.stderr)
        self.assertIn("nothing names the 3 classes", done.stderr)

    def test_refuses_other_configurations(self):
        for change, text in OTHER_CONFIGS:
            with self.subTest(text):
                self.assertIn(change, CONFIG)
                self.refuses("the configuration", self.state, *self.write_config(CONFIG.replace(change, text)))

    def test_refuses_other_models(self):
        for text, name in OTHER_MODELS:
            with self.subTest(text):
                self.refuses(text, {**self.state, name: torch.zeros(2)})
        for text, part in (("detector of boxes alone", "mask_head"), ("no box head", "roi_head"), ("no Swin", "backbone"),
                           ("neck.fpn_convs.2.conv.weight is missing", "fpn_convs.2")):
            with self.subTest(text):
                self.refuses(text, {k: v for k, v in self.state.items() if part not in k})

    def test_refuses_broken_files(self):
        self.refuses("2 labels for 3 classes", self.state, "--labels", "a,b")
        self.refuses("not finite", {k: v * float("nan") if k.endswith("fc_cls.bias") else v for k, v in self.state.items()})
        self.refuses("the file holds no tensors", {})
        self.refuses("which is neither a tensor nor plain data", dict(state_dict=self.state, hook=Exploit()))
        self.assertFalse(os.path.exists(EXPLOITED))


if __name__ == "__main__":
    unittest.main()
