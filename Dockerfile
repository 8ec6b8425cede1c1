# The server's image, for linux/amd64 and linux/arm64. It needs BuildKit.
#
#   docker build -t tollgate .                                     compiles inside the image
#   docker build -t tollgate --build-arg PROGRAM=prebuilt .        takes dist/tollgate-linux-{amd64,arm64}
#   deploy/release/release.sh                                      both architectures, with SBOM and checksums
#
# Nothing is run in the last stage, so that a foreign architecture needs no emulation. docs/containers.md tells how
# the image is run.
ARG PROGRAM=compiled

# --- compiled here: on the architecture of the builder, for that of the image
FROM --platform=$BUILDPLATFORM rust:1.95-bookworm AS compiled
ARG TARGETARCH
ARG TOLLGATE_COMMIT=""
ARG SOURCE_DATE_EPOCH=""
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=tollgate-target-$TARGETARCH \
    TOLLGATE_COMMIT="$TOLLGATE_COMMIT" deploy/release/compile.sh "$TARGETARCH" /program/tollgate

# --- or compiled before
FROM scratch AS prebuilt
ARG TARGETARCH
COPY dist/tollgate-linux-$TARGETARCH /program/tollgate

FROM ${PROGRAM} AS program

# --- what goes into the image: a tree, made on the builder's own architecture
FROM --platform=$BUILDPLATFORM debian:bookworm-slim AS tree
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
# The authorities' own files are needed, not the program that collects them.
# /usr/bin/ratelimit: manifests for envoyproxy/ratelimit start /bin/ratelimit, and /bin is /usr/bin here.
RUN mkdir -p /tree/usr/bin /tree/etc/ssl/certs /tree/srv/tollgate/server/config \
    && cp /etc/ssl/certs/ca-certificates.crt /tree/etc/ssl/certs/ \
    && ln -s tollgate /tree/usr/bin/ratelimit
COPY --from=program --chmod=755 /program/tollgate /tree/usr/bin/tollgate
# The example, for a server that is told of no rules: it looks for server/config/rules in its working directory.
# No variable names it, since a variable would win over RUNTIME_ROOT.
COPY server/config/rules /tree/srv/tollgate/server/config/rules
COPY LICENSE /tree/usr/share/doc/tollgate/LICENSE

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="tollgate" \
      org.opencontainers.image.description="Distributed rate limits and circuit breakers over gRPC and HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=tree /tree/ /
WORKDIR /srv/tollgate
# a number, so that Kubernetes can see that it is not root
USER 65532:65532
# gRPC, HTTP, metrics (off unless set), admin
EXPOSE 8081 8080 9090 6070
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/usr/bin/tollgate", "health"]
# CMD and no ENTRYPOINT, as in the reference's image: manifests that name a command replace it whole
CMD ["/usr/bin/tollgate", "serve"]
