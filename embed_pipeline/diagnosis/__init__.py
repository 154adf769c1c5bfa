"""What `embed-pipeline doctor` finds: the machine's abilities, and what a project's variants need of it.

Takes readings and a project, gives findings with a remedy each. Nothing is sent anywhere, downloaded or unpacked.
"""
