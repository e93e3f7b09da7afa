"""Readers and writers of data sets: VOC (MAR20's layout), COCO, YOLO."""
