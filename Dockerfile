# ringpush as a container: one binary, no shell, no root.
#
#   docker build -t ringpush .
#   docker run --read-only -v "$PWD/config:/etc/ringpush:ro" ringpush
#
# Both images have to be of the same Debian release, for the C library.
ARG RUST_IMAGE=rust:1-bookworm
# The binary needs libc, libgcc_s and the system's CA certificates; this has them.
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /build

# The dependencies alone: this layer stays until Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
 && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs \
 && cargo build --release --locked \
 && rm -r src

COPY src src
COPY config config
COPY fixtures fixtures
# Newer than what the layer above built, whatever times the copies have.
RUN touch src/main.rs src/lib.rs \
 && cargo build --release --locked --bin ringpush

FROM ${RUNTIME_IMAGE}
LABEL org.opencontainers.image.title="ringpush" \
      org.opencontainers.image.description="Call events from RabbitMQ become ringing phones: APNs PushKit and FCM data messages" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /build/target/release/ringpush /usr/local/bin/ringpush
COPY --from=build /build/config/ringpush.toml /usr/share/doc/ringpush/ringpush.toml
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["/usr/local/bin/ringpush", "health", "--config", "/etc/ringpush/ringpush.toml"]
ENTRYPOINT ["/usr/local/bin/ringpush"]
CMD ["run", "--config", "/etc/ringpush/ringpush.toml"]
