"""Data of the battery project; what needs OpenCV or torch is imported from its own file: `dataset`, `augment`, ..."""

from projects.battery.data.labels import CLASSES, DEFECTS, KINDS, NORMAL_CLASSES
from projects.battery.data.listing import DEFAULT_PATTERN
from projects.battery.data.scan import ScanResult, SkippedFile, scan_ct
from projects.battery.data.scan_cache import load_or_scan
from shared.readers import FolderReader, ImageReader, ZipReader

__all__ = [
    "CLASSES",
    "DEFAULT_PATTERN",
    "DEFECTS",
    "KINDS",
    "NORMAL_CLASSES",
    "FolderReader",
    "ImageReader",
    "ScanResult",
    "SkippedFile",
    "ZipReader",
    "load_or_scan",
    "scan_ct",
]
