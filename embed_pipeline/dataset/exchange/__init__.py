"""Other tools' files of questions and passages: read, written, converted, and a first dataset.yaml for them."""
