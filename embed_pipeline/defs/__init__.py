"""The Dagster side: assets, checks, partitions, resources, jobs, automation. Nothing outside knows dagster."""
