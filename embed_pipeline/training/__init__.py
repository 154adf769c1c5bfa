"""Stage `training`: from mined groups to a fine-tuned encoder directory.

`settings` says what to do, `finetune` starts it as a process group whose entry point is `worker`, and
`training_run` is what such a process does. `token_table` and `examples` turn groups into numbers, `batches`,
`candidates` and `collator` a step's share of them into tensors, `model`, `gather` and `loss` those into a loss;
`parameters` says what is trained, `trainer` puts it together. `flagembedding` and `groups` are the plain recipe of that
library. `validation` finds the best step, `resume` goes on after a kill, `watchdog` stops in time. `vocabulary` adds
tokens, `checkpoint` writes the directory that three libraries load alike.
"""
