# One image of the service. docs/operate.md says how to build and run it, and which lines no GPU has seen.
#
#   docker build -t idadapter .                                  on processors
#   docker build -t idadapter --build-arg ACCELERATOR=cuda .     on an NVIDIA GPU whose driver is 580 or newer
ARG BASE=docker.io/library/debian:bookworm-slim
# cpu or cuda
ARG ACCELERATOR=cpu
# 13 (driver 580 or newer) or 12 (525 or newer)
ARG CUDA=13

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

# CUDA and cuDNN from NVIDIA's wheels. ONNX Runtime's CUDA provider is of the very version of onnxruntime-node in deno.json,
# whose install script does not run: since 1.27 what it fetches from NuGet as "cuda12" is by all signs built for CUDA 13.
FROM deno AS cuda-tools
RUN apt-get update \
  && apt-get install -y --no-install-recommends curl python3-pip \
  && rm -rf /var/lib/apt/lists/*
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_NO_CACHE_DIR=1

# The provider of PyPI's onnxruntime-gpu.
FROM cuda-tools AS cuda-13
COPY deploy/image/cuda13.txt /tmp/
RUN pip install --no-deps --target /opt/nvidia --requirement /tmp/cuda13.txt
RUN mkdir -p /out/provider /out/nvidia \
  && cp /opt/nvidia/onnxruntime/capi/libonnxruntime_providers_cuda.so \
    /opt/nvidia/onnxruntime/capi/libonnxruntime_providers_shared.so /out/provider/ \
  && find /opt/nvidia/nvidia -name 'lib*.so*' -exec cp -P {} /out/nvidia/ \;

# PyPI has no provider for CUDA 12 of this version; ONNX Runtime's release on GitHub has. Its SHA-256 belongs to the version.
FROM cuda-tools AS cuda-12
COPY deploy/image/cuda12.txt /tmp/
RUN pip install --no-deps --target /opt/nvidia --requirement /tmp/cuda12.txt
ARG ONNXRUNTIME_VERSION=1.30.0
ARG ONNXRUNTIME_SHA256=f9886932ee7bb0b4d3fcab736a392d4ff5efaa0672b47f19f0cec03437cf64f1
RUN curl --fail --silent --show-error --location --output /tmp/onnxruntime.tgz \
    https://github.com/microsoft/onnxruntime/releases/download/v${ONNXRUNTIME_VERSION}/onnxruntime-linux-x64-gpu_cuda12-${ONNXRUNTIME_VERSION}.tgz \
  && echo "${ONNXRUNTIME_SHA256}  /tmp/onnxruntime.tgz" | sha256sum --check --strict \
  && mkdir -p /opt/onnxruntime /out/provider /out/nvidia \
  && tar --extract --gzip --file /tmp/onnxruntime.tgz --directory /opt/onnxruntime \
  && cp /opt/onnxruntime/*/lib/libonnxruntime_providers_cuda.so /opt/onnxruntime/*/lib/libonnxruntime_providers_shared.so \
    /out/provider/ \
  && find /opt/nvidia -name 'lib*.so*' -exec cp -P {} /out/nvidia/ \;

FROM cuda-${CUDA} AS cuda-libraries

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
# that knows them can name them, see docs/operate.md. sharp reads /usr/bin/ldd to learn the C library, AWS's SDK
# the token of a pod's role below /var/run/secrets.
ENTRYPOINT ["deno", "run", "--no-prompt", "--cached-only", "--allow-net", "--allow-env", "--allow-read=/app,/state,/bundle,/secrets,/var/run/secrets,/usr/bin/ldd", "--allow-write=/state", "--allow-ffi=/app/node_modules", "--allow-sys=hostname,osRelease,homedir,cpus,uid", "main.ts"]

FROM base AS cpu

FROM base AS cuda
# not below /usr/local/nvidia, over which GKE mounts its driver
COPY --from=cuda-libraries /out/nvidia /opt/idadapter/cuda
COPY --from=cuda-libraries /out/provider /app/node_modules/onnxruntime-node/bin/napi-v6/linux/x64/
ENV EXECUTION_PROVIDER=cuda \
  LD_LIBRARY_PATH=/opt/idadapter/cuda:/usr/local/nvidia/lib64 \
  NVIDIA_VISIBLE_DEVICES=all \
  NVIDIA_DRIVER_CAPABILITIES=compute,utility
# A provider for another CUDA than the libraries' would fail only on a GPU. The driver's own libcuda.so.1 is the machine's.
# The provider opens cuDNN by itself: it is looked at as well.
RUN needed="$(ldd node_modules/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime_providers_cuda.so \
    /opt/idadapter/cuda/libcudnn.so.9 /opt/idadapter/cuda/*.so.* 2>&1)" || { echo "$needed"; exit 1; }; \
  missing="$(echo "$needed" | grep 'not found' | grep -v 'libcuda\.so\.1 ' | sort -u)"; \
  [ -z "$missing" ] || { echo "ONNX Runtime's CUDA provider cannot be loaded with the libraries of deploy/image/cuda*.txt:" \
    "it may be built for another CUDA than they are."; echo "$missing"; exit 1; }

FROM ${ACCELERATOR}
