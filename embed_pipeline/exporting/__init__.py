"""A variant's model in the formats that it is deployed in, each held against the original before it is handed out.

Takes the model directory of a variant, an encoder's or a cross-encoder's, and its data set. Gives a folder per format
that passed (ONNX, OpenVINO, half precision, a static table) and a record of what each loses on the test questions, and
of what smaller vectors lose. Every format loads without this package.
"""
