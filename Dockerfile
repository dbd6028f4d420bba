# CPU:  docker build -t pvsc-link .
# GPU:  docker build -t pvsc-link-gpu --build-arg TENSORFLOW="tensorflow[and-cuda]" .
#       docker run --gpus all -v $PWD:/work pvsc-link-gpu sweep my_curve.yaml
FROM python:3.11-slim

ARG TENSORFLOW=tensorflow
ENV PVSC_LINK_CACHE=/cache
WORKDIR /opt/pvsc_link
COPY pyproject.toml README.md LICENSE ./
COPY pvsc_link pvsc_link
COPY scenarios scenarios
RUN pip install --no-cache-dir . "${TENSORFLOW}<2.22" && mkdir /cache && chmod 777 /cache
WORKDIR /work
VOLUME ["/cache", "/work"]
ENTRYPOINT ["pvsc-link"]
CMD ["--help"]
