"""Train on images of your own: a folder with one sub-folder of images per class.

    python examples/own_images.py [FOLDER]

Without FOLDER, scikit-learn's handwritten digits are written as PNG files and used in its place.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

from airmoe.data import load_images
from airmoe.networked import NetworkedConfig, train_run

with tempfile.TemporaryDirectory() as temporary:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else f"{temporary}/digits")
    if len(sys.argv) == 1:
        digits = load_digits()
        for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            (folder / str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 15).astype("uint8")).save(folder / str(label) / f"{number}.png")
    settings = NetworkedConfig.model_validate(
        {"data": {"clients": 3}, "features": {"rounds": 10}, "experts": {"epochs": 5}, "gate": {"rounds": 10}}
    )
    trained = train_run(settings, load_images(f"folder:{folder}"), Path(temporary, "run"))
    print(f"macro-F1 {trained.rows[-1]['macro_f1']:.3f}")
