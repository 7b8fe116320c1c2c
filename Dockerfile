# syntax=docker/dockerfile:1
# The image of workers that run in containers, as on Google Cloud Dataflow: see docs/dataflow.md.
#
#   docker build --tag IMAGE .
#   docker build --tag IMAGE --build-arg EXTRAS=gcp,cuda --build-arg MODEL=checkpoints/mine .
#
# MODEL, a folder under this one, comes to lie at /opt/deepmac/model. EXTRAS are those of
# pyproject.toml.
ARG MODEL=
# Dataflow mounts folders of root, which the process of a worker must write to. Where workers need
# no such thing (Flink's, say), RUN_AS=worker is safer.
ARG RUN_AS=root

# The version of Beam and the minor version of Python are those of whoever starts the job.
FROM apache/beam_python3.11_sdk:2.77.0 AS deepmac
ARG EXTRAS=gcp
# Workers use what is installed here, in no environment of their own, and import nothing from the
# folder that they happen to start in.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    PYTHONSAFEPATH=1 \
    TF_CPP_MIN_LOG_LEVEL=2
WORKDIR /opt/deepmac/source

# What deepmac depends on: gigabytes, in a layer that a change of its code does not touch.
COPY pyproject.toml ./
RUN python -c "import sys, tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
names = [name for name in sys.argv[1].split(',') if name]; \
print(*project['dependencies'], *(d for name in names for d in extras[name]), sep='\n')" \
      "${EXTRAS}" > /tmp/requirements.txt \
 && pip install --no-cache-dir --requirement /tmp/requirements.txt \
 && rm /tmp/requirements.txt

COPY setup.py README.md LICENSE ./
COPY configs configs
COPY deepmac deepmac
COPY pipelines pipelines
RUN pip install --no-cache-dir --no-deps . \
 && rm -rf build *.egg-info \
 && useradd --create-home worker
WORKDIR /home/worker

FROM deepmac AS model
FROM deepmac AS model-baked
ARG MODEL
COPY ${MODEL} /opt/deepmac/model

# With a model if MODEL names one.
FROM model${MODEL:+-baked}
ARG RUN_AS
USER ${RUN_AS}
