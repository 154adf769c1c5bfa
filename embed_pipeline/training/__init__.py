"""Stage `training`: from mined groups to a fine-tuned encoder directory.

`recipes` reads what to do, `groups` and `vocabulary` prepare it, `finetune` starts it as a process group, `worker` is
that process, `whole_corpus` is its loss, `checkpoint` writes the directory that three libraries load alike.
"""
