#!/usr/bin/env python3
"""AP of the small detector at many widths and recipes, in integers, as a Markdown table.

    python3 train_people.py detector ...                             # the float weights
    python3 ../convert_detector.py run/detector.pth run/people --labels person
    python3 measure_widths.py ../../build --data D --weights run/people --out run/widths

It quantizes with 32 of Penn-Fudan's training pictures and measures with viteval on the pictures that nothing was trained
on: a fifth of Penn-Fudan, and COCO's val2017. AP of boxes / masks in percent. A row that is in OUT already is not made
again. It needs Python alone.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

PENN, COCO = "penn_fudan", "coco/val2017"
ANNOTATIONS = {PENN: "penn_fudan/instances.json", COCO: "coco/instances_val2017.json"}
IMAGES = {PENN: "penn_fudan/images", COCO: "coco/val2017"}
LRP = "--importance SCORES --mixed lrp"
ROWS = (
    ("W8/A8", "--bits 8"),
    ("W6/A6", "--bits 6"),
    ("W4/A8", "--bits 4/8"),
    ("W4/A4", "--bits 4"),
    ("W4/A8 `repq`", "--bits 4/8 --recipe repq"),
    ("W6/A6 `repq`", "--bits 6 --recipe repq"),
    ("W6/A6 `crl`", "--bits 6 --recipe crl"),
    ("MP6 `crl`, by unit", f"--bits 6 --recipe crl {LRP}"),
    ("MP6 `crl`, by block", f"--bits 6 --recipe crl {LRP} --mp-case by-block"),
    ("W4/A4 `repq`", "--bits 4 --recipe repq"),
    ("W4/A4 `crl`", "--bits 4 --recipe crl"),
    ("MP4 `crl`, by unit", f"--bits 4 --recipe crl {LRP}"),
    ("MP4 `crl`, by block", f"--bits 4 --recipe crl {LRP} --mp-case by-block"),
)


def held_out(image):
    """Penn-Fudan's fifth that train_people.py never sees (people_data.py)."""
    return image["id"] % 5 == 0


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def truth_file(out, name):
    return out / (name.replace("/", "_") + ".json")


def write_inputs(data, out):
    """The list of calibration pictures, and the annotations of people on the pictures that are measured."""
    for name, path in ANNOTATIONS.items():
        truth = json.loads((data / path).read_text())
        people = [c for c in truth["categories"] if c["name"] == "person"]
        if name == PENN:
            training = [i["file_name"] for i in truth["images"] if not held_out(i)]
            (out / "calib.txt").write_text("".join(f"{(data / IMAGES[PENN] / f).resolve()}\n" for f in training))
            truth["images"] = [i for i in truth["images"] if held_out(i)]
        kept = {i["id"] for i in truth["images"]}
        truth["annotations"] = [a for a in truth["annotations"]
                                if a["image_id"] in kept and a["category_id"] == people[0]["id"]]
        truth["categories"] = people
        truth_file(out, name).write_text(json.dumps(truth))


def average_precisions(build, model, data, out):
    """[boxes, masks] of each set, in percent."""
    found = {}
    for name in ANNOTATIONS:
        figures = json.loads(run(build / "viteval", "--model", model, "--coco", truth_file(out, name), "--images", data / IMAGES[name],
                                 "--json"))
        found[name] = [100 * figures[kind]["AP"] for kind in ("bbox", "segm")]
    return found


def line(name, found, size):
    cells = [f"{found[s][0]:.1f} / {found[s][1]:.1f}" for s in ANNOTATIONS]
    return f"| {name} | {' | '.join(cells)} | {f'{size / 1e6:.2f} MB' if size else ''} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path, help="folder of the programs")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of penn_fudan/ and coco/")
    parser.add_argument("--weights", type=pathlib.Path, required=True, help="what convert_detector.py wrote")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for files and results")
    parser.add_argument("--only", default="", help="a regular expression: the names of rows to make")
    args = parser.parse_args()
    out = args.out
    out.mkdir(parents=True, exist_ok=True)
    write_inputs(args.data, out)
    kept = out / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    scores = out / "scores.json"
    print("| | Penn-Fudan | COCO | file |\n|---|---|---|---|", flush=True)
    for index, (name, options) in enumerate((("float", ""), *ROWS)):
        if not re.search(args.only, name):
            continue
        if name not in results:
            model, size = args.weights, 0
            if options:
                model = out / f"{index}.qbin"
                if "SCORES" in options and not scores.exists():
                    run(args.build / "vitlrp", "--weights", args.weights, "--images", out / "calib.txt", "--limit", 64,
                        "-o", scores)
                run(args.build / "vitquant", "--weights", args.weights, "--calib", out / "calib.txt", "--calib-count", 32,
                    *options.replace("SCORES", str(scores)).split(), "-o", model)
                size = model.stat().st_size
            results[name] = [average_precisions(args.build, model, args.data, out), size]
            kept.write_text(json.dumps(results, indent=1))
        print(line(name, *results[name]), flush=True)


main()
