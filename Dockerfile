# syntax=docker/dockerfile:1
# One image for every process: `docker run millpond api`, `docker run millpond worker --pool text`, and so on.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
RUN python -m venv /opt/venv
WORKDIR /app
# requirements-all.lock holds what the optional pools need too
ARG REQUIREMENTS=requirements.lock
COPY requirements.lock requirements-all.lock ./
RUN --mount=type=cache,target=/root/.cache/pip /opt/venv/bin/pip install --no-deps --require-hashes -r "$REQUIREMENTS"
COPY . ./
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation -e . && /opt/venv/bin/python -m compileall -q /app

FROM python:3.11-slim-bookworm
# libgomp1: the language model's runtime computes with OpenMP
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
# The state folder is the one place that is written to; a volume mounted there takes over its owner.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin millpond \
    && install --directory --owner=millpond --group=millpond /var/lib/millpond /var/lib/millpond/models /var/lib/millpond/files
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MILLPOND_ENVIRONMENT=production \
    MILLPOND_HOST=0.0.0.0 \
    MILLPOND_STATE_DIR=/var/lib/millpond \
    MILLPOND_LOG_FORMAT=json
WORKDIR /app
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["millpond"]
CMD ["--help"]
