# augreg with its kernels compiled, so that the first call is as fast as any other:
#
#     docker build -t augreg .
#     docker run --rm -v "$PWD:/data" augreg register fixed.nii.gz moving.nii.gz -o phi.h5
#
# Kernels are compiled for a kind of processor, not for the one that builds: the default runs on 64-bit x86 processors since 2013.
# For others, and for all that the building machine's own has, give CPU_NAME and CPU_FEATURES (as LLVM names them).
# A PyTorch for CPUs is a third of the size: --build-arg PIP_EXTRA_INDEX_URL= of its own index.
FROM python:3.12-slim

ARG PIP_EXTRA_INDEX_URL
ARG CPU_NAME=x86-64-v3
ARG CPU_FEATURES=
ENV NUMBA_CACHE_DIR=/opt/augreg/kernels \
    NUMBA_CPU_NAME=${CPU_NAME} \
    NUMBA_CPU_FEATURES=${CPU_FEATURES} \
    PYTHONUNBUFFERED=1

COPY pyproject.toml README.md LICENSE MANIFEST.in constraints.txt /src/
COPY augreg /src/augreg
COPY solvers /src/solvers
RUN pip install --no-cache-dir /src && rm -rf /src

# any user may add to the kernels, or numba would refuse the folder and compile everything again
RUN mkdir -p /opt/augreg/kernels && augreg compile && chmod -R a+rwX /opt/augreg

RUN useradd --create-home augreg
USER augreg
WORKDIR /data
ENTRYPOINT ["augreg"]
CMD ["--help"]
