# The LUT server. Built in one stage and copied, so that the image that runs holds neither pip's cache nor the sources.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/lutnas
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY shared shared
COPY lut_server lut_server
COPY profiler_agent profiler_agent
COPY search search
RUN /opt/lutnas/bin/pip install --no-cache-dir -c constraints.txt '.[server]'

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --home-dir /data lutnas \
    && install -d -o lutnas -g lutnas /data
COPY --from=build /opt/lutnas /opt/lutnas
# Unbuffered: log lines appear when they are written. No bytecode: the root file system may be read-only.
ENV PATH=/opt/lutnas/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER lutnas
WORKDIR /data
VOLUME /data
EXPOSE 8700
# The image has no curl, and needs none.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8700/healthz', timeout=4)"]
CMD ["lut-server", "serve", "--host", "0.0.0.0", "--port", "8700", "--database-url", "sqlite:////data/lutnas.db"]
