"""The formats of data sets: VOC (the layout of MAR20), COCO and YOLO.

Each module offers the same three functions: `read` one split, list the `splits`, and `write` sets
into a new folder.
"""
