"""The centre square and its resizing as ONNX operators."""

from projects.pillsnap.onnx_graph.builder import GraphBuilder


def centre_square(build: GraphBuilder, photo: str, size_px: int) -> str:
    """Write the crop and the resize.

    onnxruntime's linear resize with antialiasing differs from Pillow's by one grey level at most, in up to 0.12 % of
    the values; where the square has the right size already both return it as it is.

    Args:
        build: Where to write.
        photo: uint8 (N, H, W, 3) of any H and W.
        size_px: S.

    Returns:
        uint8 (N, 3, S, S).
    """
    sides = build.op("Shape", photo, start=1, end=3)
    side = build.op("ReduceMin", sides, build.integers(0), keepdims=1)
    start = build.op("Div", build.op("Sub", sides, side), build.integers(2))
    square = build.op("Slice", photo, start, build.op("Add", start, side), build.integers(1, 2))
    planes = build.op("Transpose", square, perm=[0, 3, 1, 2])
    batch = build.op("Shape", photo, start=0, end=1)
    # `axes` in place of all four sizes breaks onnxruntime 1.31, which moves the Transpose behind the Resize
    sizes = build.op("Concat", batch, build.integers(3, size_px, size_px), axis=0)
    return build.op(
        "Resize", planes, "", "", sizes,
        mode="linear", antialias=1, exclude_outside=1, coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
