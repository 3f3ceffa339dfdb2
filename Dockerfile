# ringpush as a container: one binary, no shell, no root, nothing to write to.
#
#   docker build -t ringpush .
#   docker run --read-only -v /etc/ringpush:/etc/ringpush:ro ringpush
#
# `scripts/image` does the same with labels and a fixed time, and without a
# registry from base images that it makes itself; docs/operations.md says more.
# Nothing here needs BuildKit: podman, buildah and kaniko build it too.

# Both images have to be of the same Debian release, for the C library.
ARG RUST_IMAGE=rust:1-bookworm
# The binary needs libc, libgcc_s and the system's CA certificates; this has them.
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
# Cargo features; otlp is the export of traces.
ARG FEATURES=otlp
WORKDIR /build

# The dependencies alone: this layer stays until Cargo.toml or Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src benches \
 && echo 'fn main() {}' | tee src/main.rs > benches/render.rs \
 && touch src/lib.rs \
 && cargo build --release --locked --features "${FEATURES}" --bin ringpush \
 && rm -r src

COPY src src
COPY config config
COPY fixtures fixtures
# Newer than what the layer above built, whatever times the copies have.
RUN touch src/main.rs src/lib.rs \
 && cargo build --release --locked --features "${FEATURES}" --bin ringpush

# Laid out as they are going to lie, with one time for all (seconds since 1970),
# so that the same sources make the same layer.
ARG SOURCE_DATE_EPOCH=0
RUN mkdir -p out/usr/local/bin out/usr/share/doc/ringpush out/etc/ringpush \
 && cp target/release/ringpush out/usr/local/bin/ \
 && cp config/ringpush.toml out/usr/share/doc/ringpush/ \
 && find out -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM ${RUNTIME_IMAGE}
COPY --from=build /build/out/ /
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 9464
STOPSIGNAL SIGTERM
# Commands find the configuration without being told: `docker exec C ringpush check`.
ENV RINGPUSH_CONFIG=/etc/ringpush/ringpush.toml
HEALTHCHECK --interval=10s --timeout=4s --start-period=10s --retries=3 \
  CMD ["/usr/local/bin/ringpush", "health"]
ENTRYPOINT ["/usr/local/bin/ringpush"]
CMD ["run"]
# Last, for they change with every commit and cost nothing.
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="ringpush" \
      org.opencontainers.image.description="Call events from RabbitMQ become ringing phones: APNs PushKit and FCM data messages" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
