# The service, and the monitor (deploy/compose.yaml), without PyTorch and without build tools: it scores the ONNX export that `wirebert train` writes beside
# the weights. Mount the model folder at /model, and run it with a read-only file system:
#
#   docker build -t wirebert .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --memory 2g \
#     -e WIREBERT_API_KEYS -v ./runs/nsl-kdd/model:/model:ro -p 127.0.0.1:8080:8080 wirebert
#
# A tag moves with each release of Python. To build from the same image each time, name it by its digest, which
# `docker buildx imagetools inspect python:3.12-slim` shows:
#
#   docker build --build-arg PYTHON_IMAGE=python:3.12-slim@sha256:DIGEST -t wirebert .

ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
RUN python -m venv /opt/wirebert
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN /opt/wirebert/bin/pip install --no-cache-dir --constraint constraints.txt setuptools
COPY src src
RUN /opt/wirebert/bin/pip install --no-cache-dir --constraint constraints.txt --no-build-isolation '.[serve,kafka]' \
    && /opt/wirebert/bin/pip uninstall --yes setuptools pip

FROM ${PYTHON_IMAGE}
RUN pip uninstall --yes pip && rm -rf /usr/local/lib/python3*/ensurepip
COPY --from=build /opt/wirebert /opt/wirebert
# A volume that is mounted there belongs to the user, so that a monitor can write to it.
RUN install -d -o 10001 -g 10001 /state
ENV PATH=/opt/wirebert/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 \
    MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=65536
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
# The container listens on all addresses, so the service refuses to start without API keys.
ENTRYPOINT ["wirebert", "serve", "/model", "--host", "0.0.0.0", "--port", "8080"]
