# Two images from one file: `--target agent`, and the LUT server (the last stage, so the default). Each is built apart and
# copied, so that what runs holds neither pip's cache nor the sources.
FROM python:3.11-slim-bookworm AS sources
WORKDIR /src
RUN python -m venv /opt/lutnas
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY shared shared
COPY lut_server lut_server
COPY profiler_agent profiler_agent
COPY search search

FROM sources AS build-agent
RUN /opt/lutnas/bin/pip install --no-cache-dir -c constraints.txt '.[agent]'

FROM sources AS build-server
RUN /opt/lutnas/bin/pip install --no-cache-dir -c constraints.txt '.[server,postgres,tls]'

# onnxruntime-web, which phones measure with. Where its package cannot be had, the image has none, and the page says so.
FROM build-server AS web-runtime
RUN mkdir /opt/web-runtime \
    && (apt-get -qq update && apt-get -qq -y install --no-install-recommends npm >/dev/null \
        && /opt/lutnas/bin/lut-server web-runtime install --web-runtime /opt/web-runtime) \
    || echo "going on without onnxruntime-web: phones cannot measure in a browser"

# Unbuffered: log lines appear when they are written. No bytecode: the root file system may be read-only.
FROM python:3.11-slim-bookworm AS base
RUN useradd --system --uid 10001 --no-create-home --home-dir /data lutnas \
    && install -d -o lutnas -g lutnas /data
ENV PATH=/opt/lutnas/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER lutnas
WORKDIR /data
VOLUME /data

FROM base AS agent
COPY --from=build-agent /opt/lutnas /opt/lutnas
ENV LUTNAS_SPOOL=/data/spool
ENTRYPOINT ["profiler-agent"]

FROM base AS server
COPY --from=build-server /opt/lutnas /opt/lutnas
COPY --from=web-runtime /opt/web-runtime /opt/web-runtime
ENV LUTNAS_WEB_RUNTIME=/opt/web-runtime
EXPOSE 8700
# The image has no curl, and needs none.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8700/readyz', timeout=4)"]
ENV LUTNAS_DATABASE_URL=sqlite:////data/lutnas.db
# The first start makes an admin token and prints it into the log: a server that a network reaches has an owner.
CMD ["lut-server", "serve", "--host", "0.0.0.0", "--port", "8700", "--first-token", "yes"]
