# Two images of one installation, to be run as docs/deploy.md says:
#   docker build --target serve -t embed-pipeline-serve .        answers over HTTP with a variant
#   docker build --target dagster -t embed-pipeline-dagster .    code location, daemon and webserver, one container each
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
# pip's own index has torch with CUDA, several GB. An index with builds for processors alone makes it smaller.
ARG PIP_EXTRA_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
RUN python -m venv /opt/embed-pipeline
COPY LICENSE MANIFEST.in README.md constraints.txt dagster.yaml pyproject.toml setup.py workspace.yaml ./
COPY data/faq_en ./data/faq_en
COPY data/recipes ./data/recipes
COPY embed_pipeline ./embed_pipeline
RUN /opt/embed-pipeline/bin/pip install --constraint constraints.txt '.[bundled,bundled-english,deploy,export,s3]'

FROM python:${PYTHON}-slim-bookworm AS runtime
# The project's folder is mounted at /project and may be read-only; all state is in the volume.
RUN useradd --system --uid 10001 --no-create-home --home-dir /var/lib/embed-pipeline embed-pipeline \
    && install -d -o embed-pipeline -g embed-pipeline /project /var/lib/embed-pipeline
COPY --from=build /opt/embed-pipeline /opt/embed-pipeline
ENV PATH=/opt/embed-pipeline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    EMBED_PIPELINE_HOME=/var/lib/embed-pipeline \
    EMBED_PIPELINE_DAGSTER_STORAGE=/var/lib/embed-pipeline/dagster \
    DAGSTER_DISABLE_TELEMETRY=1 \
    HF_HUB_OFFLINE=1
WORKDIR /project
VOLUME /var/lib/embed-pipeline
USER 10001

FROM runtime AS serve
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
# 0.0.0.0 is the container's own; it takes EMBED_PIPELINE_API_KEY. Who reaches it, --publish says.
ENTRYPOINT ["embed-pipeline", "serve", "--host", "0.0.0.0", "--port", "8000"]

FROM runtime AS dagster
COPY deploy/dagster.yaml deploy/workspace.yaml /etc/embed-pipeline/
ENV DAGSTER_HOME=/etc/embed-pipeline
# The code location; gRPC asks nobody who one is, so it listens to its own network namespace alone.
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s CMD ["dagster", "api", "grpc-health-check", "--port", "4101"]
CMD ["dagster", "code-server", "start", "-h", "127.0.0.1", "-p", "4101", "--location-name", "underwriting", "-m", "embed_pipeline.definitions"]
