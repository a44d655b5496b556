# One image of the service. docs/operate.md says how to build and run it, and which lines no GPU has seen.
#
#   docker build -t idadapter .                                  on processors
#   docker build -t idadapter --build-arg ACCELERATOR=cuda .     on an NVIDIA GPU
ARG BASE=docker.io/library/debian:bookworm-slim
# cpu or cuda
ARG ACCELERATOR=cpu
# where ONNX Runtime's CUDA provider comes from: nuget (CUDA 12, its install script's way) or pypi (CUDA 13)
ARG CUDA_PROVIDER=nuget

# Deno alone, out of its npm package.
FROM ${BASE} AS deno
ARG DENO_VERSION=2.9.6
RUN apt-get update \
  && apt-get install -y --no-install-recommends ca-certificates nodejs npm \
  && rm -rf /var/lib/apt/lists/*
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt DENO_TLS_CA_STORE=system
RUN npm install --prefix /opt/deno --ignore-scripts --no-audit --no-fund deno@${DENO_VERSION} \
  && install -D /opt/deno/node_modules/@deno/linux-*-glibc/deno /usr/local/bin/deno \
  && rm -rf /opt/deno /root/.npm

# The service and the packages it imports; then one start, which shows that it serves and leaves compiled code and graphs
# behind.
FROM deno AS service
WORKDIR /app
COPY . .
RUN cp -r /app /source \
  && DENO_DIR=/tmp/deno deno run -A --no-config /source/deploy/image/production.ts /source /app \
  && rm -rf /source /tmp/*
ENV DENO_DIR=/app/.deno GRAPH_CACHE_DIR=/app/graphs
RUN deno run -A deploy/image/start_once.ts && chmod -R a+rX /app/graphs

# CUDA 12 and cuDNN 9 from NVIDIA's wheels, the provider from NuGet by onnxruntime-node's own install script: the one place
# where that script runs.
FROM service AS cuda-nuget
RUN apt-get update \
  && apt-get install -y --no-install-recommends python3-pip \
  && rm -rf /var/lib/apt/lists/*
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_NO_CACHE_DIR=1
COPY deploy/image/cuda12.txt /tmp/
RUN pip install --no-deps --target /opt/nvidia --requirement /tmp/cuda12.txt
WORKDIR /app/node_modules/onnxruntime-node
RUN ONNXRUNTIME_NODE_INSTALL=cuda12 deno run -A script/install.js
RUN mkdir -p /out/provider /out/nvidia \
  && cp bin/napi-v*/linux/x64/libonnxruntime_providers_cuda.so bin/napi-v*/linux/x64/libonnxruntime_providers_shared.so \
    /out/provider/ \
  && find /opt/nvidia -name 'lib*.so*' -exec cp -P {} /out/nvidia/ \;

# The same with no other registry than PyPI: onnxruntime-gpu of the same version, whose provider wants CUDA 13 and so
# a driver of version 580 or newer.
FROM deno AS cuda-pypi
RUN apt-get update \
  && apt-get install -y --no-install-recommends python3-pip \
  && rm -rf /var/lib/apt/lists/*
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_NO_CACHE_DIR=1
COPY deploy/image/cuda13.txt /tmp/
RUN pip install --no-deps --target /opt/nvidia --requirement /tmp/cuda13.txt
RUN mkdir -p /out/provider /out/nvidia \
  && cp /opt/nvidia/onnxruntime/capi/libonnxruntime_providers_cuda.so \
    /opt/nvidia/onnxruntime/capi/libonnxruntime_providers_shared.so /out/provider/ \
  && find /opt/nvidia/nvidia -name 'lib*.so*' -exec cp -P {} /out/nvidia/ \;

FROM cuda-${CUDA_PROVIDER} AS cuda-libraries

# What both kinds share.
FROM ${BASE} AS base
RUN useradd --uid 10001 --no-create-home --home-dir /state --shell /usr/sbin/nologin idadapter \
  && install -d -o idadapter -g idadapter -m 0700 /state \
  && install -d /bundle /secrets
COPY --from=deno /usr/local/bin/deno /usr/local/bin/deno
COPY --from=service /app /app
WORKDIR /app
# DENO_DIR and GRAPH_CACHE_DIR may be read-only: then nothing is added to what start_once.ts left. ONNX Runtime would report
# to its maker
ENV HOST=0.0.0.0 PORT=8080 STATE_DIR=/state HOME=/state DENO_DIR=/app/.deno GRAPH_CACHE_DIR=/app/graphs \
  DENO_NO_UPDATE_CHECK=1 ORT_DISABLE_TELEMETRY=1
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["deno", "run", "--no-prompt", "--cached-only", "--allow-net=127.0.0.1", "--allow-env=HOST,PORT", "deploy/image/health_check.ts"]
# No --allow-run, no --allow-import, no prompts. Hosts come from the environment, so --allow-net names none; a deployment
# that knows them can name them, see docs/operate.md. sharp reads /usr/bin/ldd to learn the C library.
ENTRYPOINT ["deno", "run", "--no-prompt", "--cached-only", "--allow-net", "--allow-env", "--allow-read=/app,/state,/bundle,/secrets,/usr/bin/ldd", "--allow-write=/state", "--allow-ffi=/app/node_modules", "--allow-sys=hostname,osRelease,homedir,cpus,uid", "main.ts"]

FROM base AS cpu

FROM base AS cuda
COPY --from=cuda-libraries /out/nvidia /usr/local/nvidia/idadapter
COPY --from=cuda-libraries /out/provider /app/node_modules/onnxruntime-node/bin/napi-v6/linux/x64/
ENV EXECUTION_PROVIDER=cuda \
  LD_LIBRARY_PATH=/usr/local/nvidia/idadapter:/usr/local/nvidia/lib64 \
  NVIDIA_VISIBLE_DEVICES=all \
  NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM ${ACCELERATOR}
