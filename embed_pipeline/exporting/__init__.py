"""A variant's encoder in the formats that it is deployed in, each held against the original before it is handed out.

Takes the model directory of a variant and its data set. Gives a folder per format that passed (ONNX in float32 and in
8 bits, weights in half precision) and a record of what each loses on the test questions. Every format loads without
this package.
"""
