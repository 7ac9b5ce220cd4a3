# The command pssr2 without installing anything (docs/containers.md):
#   docker build --tag pssr2 .                                  for processors
#   docker build --tag pssr2:cuda --build-arg DEVICE=cuda .     for NVIDIA GPUs
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/data" pssr2 restore scans restored --weights em
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG DEVICE=cpu
ARG EXTRAS=czi,mrc,nd2,lif
WORKDIR /source
COPY . .
RUN sh containers/install.sh /opt/pssr2 "${DEVICE}" "${EXTRAS}"

FROM python:${PYTHON}-slim
COPY --from=build /opt/pssr2 /opt/pssr2
# Whoever runs it may write to /tmp, and to the folder that is mounted at /data.
ENV PATH=/opt/pssr2/bin:$PATH \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache
RUN useradd --create-home --uid 1000 pssr2
USER 1000:1000
WORKDIR /data
ENTRYPOINT ["pssr2"]
CMD ["--help"]
