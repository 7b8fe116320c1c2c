"""Makes quickstart.jpg, the picture of the README, from the pictures of a quickstart.

deepmac quickstart --out quickstart
python docs/images/quickstart.py --pictures quickstart/pictures
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROWS = ("000003", "000005")
COLUMNS = {"boxes": "boxes in", "grabcut": "masks out (grabcut)", "truth": "truth"}
SIDE, GAP, HEADING = 300, 10, 34  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".jpg"))
    options = parser.parse_args()
    width = len(COLUMNS) * (SIDE + GAP) - GAP
    sheet = Image.new("RGB", (width, HEADING + len(ROWS) * (SIDE + GAP) - GAP), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=20)
    for column, (name, heading) in enumerate(COLUMNS.items()):
        left = column * (SIDE + GAP)
        pen.text((left, 4), heading, fill=(40, 40, 48), font=font)
        for row, stem in enumerate(ROWS):
            picture = Image.open(options.pictures / f"{stem}-{name}.png")
            small = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(small, (left, HEADING + row * (SIDE + GAP)))
    sheet.save(options.out, quality=90)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
