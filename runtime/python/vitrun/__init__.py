"""vitrun: quantized vision transformers, run in integers on plain CPUs.

    import vitrun

    model = vitrun.Model("vit.qbin")            # made by the program vitquant
    for p in model.predict("cat.jpg", topk=5):
        print(f"{p.probability:.1%} {p.label}")
    vectors = model.embedding(["cat.jpg", "dog.jpg"])   # float32 [2, D]
    for d in vitrun.Detector("street.qbin").detect("street.jpg"):
        print(d.label, d.score, d.box, d.mask.sum())

The answers are those of the program vitrun and of the C library, to the last bit. docs/python.md is the guide.
"""

from vitrun._detector import Detection, Detector
from vitrun._library import Error, lib, text
from vitrun._model import Model, Prediction
from vitrun._pixels import Image, Images

__all__ = ["Detection", "Detector", "Error", "Image", "Images", "Model", "Prediction", "isa_names"]


def _version() -> str:
    number: int = lib.vit_version()
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


__version__ = _version()


def isa_names() -> list[str]:
    """The instruction sets that this CPU can run, best first: ["avx512vnni", "avx2", "scalar"]."""
    return (text(lib.vit_isa_names()) or "").split()
