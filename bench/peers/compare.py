#!/usr/bin/env python3
"""Whole models in ONNX Runtime and OpenVINO beside vitrun, interleaved, one Markdown table.

    python3 -m venv peers && peers/bin/pip install -r bench/peers/requirements.txt
    peers/bin/python bench/peers/compare.py --programs build --arch deit_small_patch16_224 --threads 1,2

One timm model with seeded random weights serves all: exported with torch.onnx for the peers, as
safetensors for vitquant. int8 is made by the peers' own static quantizers (all matrix products; ONNX
Runtime also dynamically), ours runs through libvitrun.so. Every round runs each contender once, in a
new order, and drops its first run after another framework's threads were busy. Then every contender
runs 40 times in a row, in turns: the steady state. Rows of two threads are tagged by the cores'
round trip (near: below 200 ns).
"""
import argparse
import ctypes
import json
import os
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnxruntime as ort
import openvino as ov
import timm
import torch
from onnxruntime.quantization import (CalibrationDataReader, QuantFormat, QuantType,
                                      quantize_dynamic, quantize_static)
from onnxruntime.quantization.shape_inference import quant_pre_process
from safetensors.torch import save_file

ort.set_default_logger_severity(3)


class Data(CalibrationDataReader):
    def __init__(self, x, count=4):
        self.batches = iter([{"x": x * (0.8 + 0.1 * i)} for i in range(count)])

    def get_next(self):
        return next(self.batches, None)


class Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("threads", ctypes.c_int), ("batch", ctypes.c_int),
                ("isa", ctypes.c_char_p)]


class Output(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("size", ctypes.c_size_t)]


def vitrun_runner(library, path, threads, isa, x):
    """The model's first output for images x through the C ABI, as an application would: logits, or an embedding."""
    lib = ctypes.CDLL(library)
    lib.vit_last_error.restype = ctypes.c_char_p
    model, session = ctypes.c_void_p(), ctypes.c_void_p()
    options = Options(ctypes.sizeof(Options), threads, len(x), isa)
    if lib.vit_model_open(str(path).encode(), None, ctypes.byref(model)) or \
            lib.vit_session_create(model, ctypes.byref(options), ctypes.byref(session)):
        raise RuntimeError(lib.vit_last_error().decode())
    lib.vit_model_output_name.restype = ctypes.c_char_p
    name = lib.vit_model_output_name(model, 0)
    size = lib.vit_model_output_rows(model, 0) * lib.vit_model_output_cols(model, 0)
    answer = np.empty(len(x) * size, np.float32)
    images = ctypes.c_void_p(x.ctypes.data)
    output = Output(name, answer.ctypes.data, answer.size)

    def run(_=(x, answer)):  # the default argument keeps the arrays alive
        if lib.vit_session_run_float(session, images, len(x), ctypes.byref(output), 1):
            raise RuntimeError(lib.vit_last_error().decode())

    return run


def ort_runner(path, threads, x):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def openvino_runner(model, threads, x):
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
                                                      "PERFORMANCE_HINT": "LATENCY",
                                                      "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    return lambda: request.infer({0: x})


def random_model(arch, size):
    """A timm model of seeded random weights for square images of `size` pixels (None: its own size), and one image."""
    torch.manual_seed(0)
    model = timm.create_model(arch, pretrained=False, **({"img_size": size} if size else {})).eval()
    side = size or model.pretrained_cfg["input_size"][1]
    return model, np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)


def vitquant_files(model, arch, programs, folder, image, widths):
    """Our files, by their bits: {"4/8": path}, calibrated on the image."""
    weights, calibration, files = folder / "model.safetensors", folder / "image.npy", {}
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, weights)
    np.save(calibration, image)
    for bits in widths:
        files[bits] = folder / f"w{bits.replace('/', 'a')}.qbin"
        subprocess.run([f"{programs}/vitquant", "--weights", weights, "--arch", arch, "--calib-raw", calibration, "--bits", bits,
                        "--image-size", str(image.shape[2]),
                        "--without", "rounding",  # it takes minutes and no run is slower or faster for it
                        "-o", files[bits]], check=True, stdout=subprocess.DEVNULL)
    return files


def onnx_files(model, x, folder):
    """The model in float, as ONNX Runtime's quantizers want it, and with its dynamic int8."""
    f32, prepared, dynamic = (folder / f"{name}.onnx" for name in ("f32", "prepared", "dynamic"))
    torch.onnx.export(model, torch.from_numpy(x), str(f32), input_names=["x"], dynamo=False, opset_version=17)
    quant_pre_process(str(f32), str(prepared), skip_symbolic_shape=True)
    quantize_dynamic(str(prepared), str(dynamic), per_channel=True, weight_type=QuantType.QInt8)
    return f32, prepared, dynamic


def prepare(model, arch, programs, folder, x):
    """All the files the contenders run."""
    ours = vitquant_files(model, arch, programs, folder, x, ("8/8", "6/8", "4/8"))
    files = {f"W{bits[0]}": path for bits, path in ours.items()}
    files["f32"], prepared, files["dynamic"] = onnx_files(model, x, folder)
    files["static"] = folder / "static.onnx"
    quantize_static(str(prepared), str(files["static"]), Data(x), quant_format=QuantFormat.QDQ,
                    per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    return files


def openvino_int8(model, x, count=4):
    """An OpenVINO model quantized by NNCF on `count` images; None where that is not installed."""
    try:
        import nncf
    except ImportError:
        return None
    dataset = nncf.Dataset([x * (0.8 + 0.1 * i) for i in range(count)])
    return nncf.quantize(model, dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=count)


def contenders(files, library, threads, x, isas):
    runners = {"ONNX Runtime f32": ort_runner(files["f32"], threads, x),
               "ONNX Runtime int8 dynamic": ort_runner(files["dynamic"], threads, x),
               "ONNX Runtime int8 static": ort_runner(files["static"], threads, x),
               "OpenVINO f32": openvino_runner(str(files["f32"]), threads, x)}
    if (int8 := openvino_int8(ov.Core().read_model(str(files["f32"])), x)) is not None:
        runners["OpenVINO int8"] = openvino_runner(int8, threads, x)
    for isa in isas:
        for bits in (8, 6, 4):
            runners[f"vitrun W{bits}/A8 {isa}"] = vitrun_runner(library, files[f"W{bits}"], threads,
                                                               isa.encode(), x)
    return runners


def round_trip(probe):
    return float(subprocess.run([probe], capture_output=True, text=True).stdout.split("round trip")[1].split()[0])


def measure(runners, rounds):
    times = {name: [] for name in runners}
    for _ in range(rounds):
        order = list(runners)
        random.shuffle(order)
        for name in order:
            time.sleep(0.005)  # lets the threads of the one before go to sleep
            runners[name]()
            start = time.perf_counter()
            runners[name]()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def measure_blocks(runners, blocks, length=40):
    """The times of all runs in blocks of `length`; the first of a block, which wakes its threads, is left out."""
    times = {name: [] for name in runners}
    for _ in range(blocks):
        for name in random.sample(list(runners), len(runners)):
            time.sleep(0.005)
            runners[name]()
            for _ in range(length):
                start = time.perf_counter()
                runners[name]()
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", default="build", help="folder of vitquant and libvitrun.so")
    parser.add_argument("--arch", default="deit_small_patch16_224", help="timm names, separated by commas")
    parser.add_argument("--image-size", type=int, help="side of the images in pixels; default: the model's own")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--blocks", type=int, default=5, help="blocks of 40 runs")
    parser.add_argument("--isas", default="", help="ours, separated by commas; default: the best")
    parser.add_argument("--probe", help="program that prints `round trip N ns` of two cores (c2c)")
    parser.add_argument("--json", help="also append one JSON object a row to this file")
    args = parser.parse_args()
    library = os.path.abspath(f"{args.programs}/libvitrun.so")
    print("| model | threads | contender | median ms | min ms | in blocks | x best ORT int8 |\n"
          "|---|---|---|---|---|---|---|")
    for arch in args.arch.split(","):
        model, x = random_model(arch, args.image_size)
        with tempfile.TemporaryDirectory() as folder:
            files = prepare(model, arch, args.programs, pathlib.Path(folder), x)
            for threads in map(int, args.threads.split(",")):
                isas = args.isas.split(",")
                trips = [round_trip(args.probe)] if args.probe and threads > 1 else []
                runners = contenders(files, library, threads, x, isas)
                times, blocks = measure(runners, args.rounds), measure_blocks(runners, args.blocks)
                trips += [round_trip(args.probe)] if trips else []
                medians = {name: statistics.median(t) for name, t in times.items()}
                base = min(m for name, m in medians.items() if name.startswith("ONNX Runtime int8"))
                tag = f" {'near' if max(trips) < 200 else 'far'}" if trips else ""
                for name, t in times.items():
                    row = {"model": arch, "threads": threads, "placement": tag.strip(), "contender": name.strip(),
                           "median_ms": round(medians[name], 2), "min_ms": round(min(t), 2),
                           "block_ms": round(statistics.median(blocks[name]), 2),
                           "ratio": round(medians[name] / base, 3)}
                    print(f"| {arch} | {threads}{tag} | {row['contender']} | {row['median_ms']} | {row['min_ms']} "
                          f"| {row['block_ms']} | {row['ratio']} |", flush=True)
                    if args.json:
                        with open(args.json, "a") as out:
                            out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
