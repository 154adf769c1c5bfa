"""Stage `training`: from mined groups to a fine-tuned encoder directory.

`settings` says what to do, `finetune` starts it as a process group whose entry point is `worker`, and
`training_run` is what such a process does. `examples` turns groups into numbers, `candidates` and `collator` a step's
share of them into tensors, `model` and `loss` those into a loss; `parameters` says what is trained, `frozen_layers`
what is computed once, `trainer` puts it together. `flagembedding` is the plain recipe of that library. `validation`
finds the best step by `validation_task`, `resume` goes on after a kill, `watchdog` stops in time, `progress` says how
far it is. `vocabulary` adds tokens.
"""
