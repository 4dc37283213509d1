"""From `prefect.yaml` to the deployments of a Prefect server: read strictly, compared, brought about."""
